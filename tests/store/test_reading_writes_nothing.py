"""Whoever looks into a run leaves it as it was, in a folder that may not be written to as well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_fakes import Plain, ask

from potstill.store import Store, with_cache
from potstill.store.database import FILE
from potstill.store.lock import FILE as LOCK_FILE
from potstill.store.lock import has_writer


def fill(store: Store) -> None:
    with_cache(Plain(), store, role="teacher", arm="sft", seed=0).write(ask("a", "b"))


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and time of change."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def count_completions(folder: Path) -> int:
    with Store.open(folder, readonly=True) as store:
        return len(list(store.completions.iterate()))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a store whose writer has closed it."""
    with Store.open(tmp_path / "run") as store:
        fill(store)
    return tmp_path / "run"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A copy of the files of a store that is being written to: what a killed writer leaves."""
    with Store.open(tmp_path / "alive") as store:
        fill(store)
        shutil.copytree(tmp_path / "alive", tmp_path / "killed")
    (tmp_path / "killed" / f"{FILE}-shm").unlink()
    assert (tmp_path / "killed" / f"{FILE}-wal").stat().st_size > 0
    return tmp_path / "killed"


def test_looking_into_a_finished_run_changes_no_file(finished: Path):
    before = content(finished)
    assert count_completions(finished) == 2
    assert content(finished) == before


def test_an_empty_log_beside_the_store_is_left_alone(finished: Path):
    (finished / f"{FILE}-wal").touch()
    before = content(finished)
    assert count_completions(finished) == 2
    assert content(finished) == before


@pytest.mark.parametrize("log", ["none", "empty", "of a killed run"])
def test_a_folder_that_may_not_be_written_to(finished: Path, killed: Path, log: str):
    folder = killed if log == "of a killed run" else finished
    if log == "empty":
        (folder / f"{FILE}-wal").touch()
    with nothing_may_be_written(folder):
        assert count_completions(folder) == 2


@contextmanager
def nothing_may_be_written(folder: Path) -> Iterator[None]:
    """Take the right to write away; root, who may write anywhere, becomes somebody else. No file may change."""
    before = content(folder)
    # Each process of the suite has a folder of its own below pytest's.
    parents = [path for path in folder.parents if path.stat().st_mode & 0o777 == 0o700]
    modes = {path: path.stat().st_mode for path in [folder, *parents]}
    for path in parents:
        path.chmod(0o755)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)
    assert content(folder) == before


def test_a_writer_is_known_by_its_lock(finished: Path):
    assert not has_writer(finished / LOCK_FILE)
    assert not has_writer(finished / "absent.lock")
    with Store.open(finished):
        assert has_writer(finished / LOCK_FILE)
    assert not has_writer(finished / LOCK_FILE)
