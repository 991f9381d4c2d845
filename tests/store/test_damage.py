"""Disk full, read-only, pages written over: a clear error each, and what was good stays readable."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import child
import pytest
from store_fakes import Plain, ask

from potstill.errors import StoreError
from potstill.models.model import Completion
from potstill.records import Tokens
from potstill.store import Store, with_cache
from potstill.store.admin import maintain, salvage, transfer
from potstill.store.database import FILE

PAGE = 4096
COUNT = 400


class Long(Plain):
    """Writes a bit less than a page, or much more, as reasoning is."""

    size = 900

    def write(self, requests):
        return [
            Completion(f"{r.prompt} " + "word " * (self.size // 5), tokens=Tokens(3, 9))
            for r in requests
        ]


def filled(folder: Path, size: int = 900, count: int = COUNT) -> Path:
    """A store with `count` completions of about `size` bytes, closed, so that all is in one file."""
    model = Long()
    model.size = size
    with Store.open(folder) as store:
        with_cache(model, store, role="teacher", arm="sft", seed=0).write(
            ask(*(f"prompt {i}" for i in range(count)))
        )
    return folder / FILE


def pages_of(path: Path, name: str) -> list[int]:
    """The pages of a table or an index that hold its rows, by what stands on them, in file order."""
    connection = sqlite3.connect(path)
    try:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()[0]
    finally:
        connection.close()
    data = path.read_bytes()
    leaves, front = [], [root]
    while front:  # down the tree: https://www.sqlite.org/fileformat2.html#b_tree_pages
        number = front.pop(0)
        page = data[(number - 1) * PAGE : number * PAGE]
        if page[0] in (10, 13):
            leaves.append(number)
            continue
        cells = int.from_bytes(page[3:5], "big")
        starts = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(cells)]
        front += [int.from_bytes(page[at : at + 4], "big") for at in starts]
        front.append(int.from_bytes(page[8:12], "big"))
    return leaves


def overwrite(path: Path, pages: list[int], content: bytes = b"\xa5" * PAGE) -> None:
    with path.open("r+b") as file:
        for number in pages:
            file.seek((number - 1) * PAGE)
            file.write(content[:PAGE])


def texts(folder: Path, out: Path) -> tuple[transfer.ExportCounts, set[str]]:
    with Store.open(folder, readonly=True) as store:
        done = transfer.export_completions(store, out)
        return done, {
            s.completion.text.split(" word")[0] for s in store.completions.iterate_readable()
        }


def test_a_page_in_the_middle(tmp_path: Path):
    path = filled(tmp_path / "run")
    leaves = pages_of(path, "completions")
    assert len(leaves) > 50
    overwrite(path, [leaves[len(leaves) // 2]])
    with Store.open(path.parent) as store:  # opening reads no rows
        with pytest.raises(StoreError, match="damaged") as caught:
            list(store.completions.iterate())
        assert "potstill cache export" in caught.value.fix
        assert "potstill cache import" in caught.value.fix
        with pytest.raises(StoreError, match="damaged"):
            model = with_cache(Long(), store, role="teacher", arm="sft", seed=0)
            model.write(ask(*(f"prompt {i}" for i in range(COUNT))))
        assert any(line.startswith("file: ") for line in maintain.check_store(store))
    out = tmp_path / "rescued.jsonl"
    done, kept = texts(path.parent, out)
    assert done.completions + (done.lost or 0) == COUNT
    assert 1 <= (done.lost or 0) <= 5
    assert len(kept) == done.completions
    # What was saved is taken by a new store, counts as paid, and only the rest is asked for.
    with Store.open(tmp_path / "new") as store:
        assert transfer.import_completions(store, out, paid=True).new == done.completions
        assert store.attempts.spent_by_role()["teacher"].tokens == 12 * done.completions
        asked: list[object] = []
        written = with_cache(_Counting(asked), store, role="teacher", arm="sft", seed=0)
        written.write(ask(*(f"prompt {i}" for i in range(COUNT))))
        assert len(asked) == done.lost
        assert maintain.check_store(store) == []


class _Counting(Long):
    def __init__(self, asked: list[object]) -> None:
        super().__init__()
        self.seen = asked

    def write(self, requests):
        self.seen += [r.prompt for r in requests]
        return super().write(requests)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", "last", "several", "neighbours", "most"])
def test_everything_off_the_bad_pages_is_saved(tmp_path: Path, which: str):
    path = filled(tmp_path / "run")
    leaves = pages_of(path, "completions")
    bad = {
        "first": leaves[:1],
        "last": leaves[-1:],
        "several": leaves[5::20],
        "neighbours": leaves[10:14],
        "most": leaves[1::2],
    }[which]
    lost = {f"prompt {i}" for i in range(COUNT)} - set(_on(path, leaves, bad))
    overwrite(path, bad)
    done, kept = texts(path.parent, tmp_path / "out.jsonl")
    assert {f"prompt {i}" for i in range(COUNT)} - kept == lost
    assert done == (COUNT - len(lost), len(lost))
    assert len(lost) >= len(bad)


def _on(path: Path, leaves: list[int], bad: list[int]) -> set[str]:
    """The prompts whose rows stand on the sound leaves, read from the bytes."""
    data = path.read_bytes()
    sound = b"".join(data[(n - 1) * PAGE : n * PAGE] for n in leaves if n not in bad)
    return {f"prompt {i}" for i in range(COUNT) if f'"prompt":"prompt {i}"'.encode() in sound}


def test_a_page_of_a_long_text_that_sqlite_can_not_tell(tmp_path: Path):
    path = filled(tmp_path / "run", size=40_000, count=20)
    data = path.read_bytes()
    at = data.index(b"prompt 7 word")
    place = data.index(b"word word", at // PAGE * PAGE + 2 * PAGE) // PAGE * PAGE
    page = data[place : place + PAGE]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(page[:4] + page[4:].replace(b"word", b"w0rd"))
    with Store.open(path.parent, readonly=True) as store:
        prompts = [f"prompt {i}" for i in range(20)]
        keys = [r.key("model-plain") for r in ask(*prompts)]
        with pytest.raises(
            StoreError, match=r"the text of completion completion-[0-9a-f]{20} is not the one"
        ):
            store.completions.get(keys)
        assert (
            len([line for line in maintain.check_store(store) if "its text is not the one" in line])
            == 1
        )
        assert transfer.export_completions(store, tmp_path / "out.jsonl") == (19, 1)
    assert b"w0rd" not in (tmp_path / "out.jsonl").read_bytes()


def test_a_text_that_is_no_utf8_any_more(tmp_path: Path):
    path = filled(tmp_path / "run", size=40_000, count=20)
    data = path.read_bytes()
    place = data.index(b"word word", 200_000) // PAGE * PAGE
    with path.open("r+b") as file:
        file.seek(place + 100)
        file.write(b"\xff" * 100)
    done, kept = texts(path.parent, tmp_path / "out.jsonl")
    assert (done, len(kept)) == ((19, 1), 19)


@pytest.mark.slow
def test_index_and_table_both_damaged(tmp_path: Path):
    path = filled(tmp_path / "run")
    index = pages_of(path, "sqlite_autoindex_completions_1")
    leaves = pages_of(path, "completions")
    overwrite(path, [index[len(index) // 2], leaves[50]])
    done, kept = texts(path.parent, tmp_path / "out.jsonl")
    assert done.lost is None
    assert COUNT - 5 <= len(kept) < COUNT
    overwrite(path, leaves[-1:])
    with Store.open(path.parent, readonly=True) as store:
        assert COUNT - 10 <= len(list(salvage.readable_rows(store.database, "key"))) < COUNT - 1


def test_an_export_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    filled(tmp_path / "run", count=20)
    out = tmp_path / "out.jsonl"
    out.write_text("what was here\n")
    with Store.open(tmp_path / "run", readonly=True) as store:

        def full(number: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                transfer.export_completions(store, out)
    assert out.read_text() == "what was here\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "run"]


def test_disk_full_within_sqlite(tmp_path: Path):
    """What SQLite says when the disk is full: the batch is not there, what was there is, and room lets it go on."""
    path = filled(tmp_path, count=20)
    with Store.open(tmp_path) as store:
        pages = store.database.read("PRAGMA page_count")[0][0]
        store.database.read(f"PRAGMA max_page_count = {pages + 2}")
        model = with_cache(Long(), store, role="teacher", arm="sft", seed=0)
        prompts = [f"more {i}" for i in range(60)]
        with pytest.raises(StoreError, match=r"cannot read or write .*full") as caught:
            model.write(ask(*prompts))
        assert "free space" in caught.value.fix
        assert len(list(store.completions.iterate())) == 20
        store.database.read("PRAGMA max_page_count = 1000000")
        assert len(model.write(ask(*prompts))) == 60
        assert maintain.check_store(store) == []
    assert path.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not mount or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_really_full(small_disk: Path):
    with Store.open(small_disk / "run") as store:
        model = with_cache(Long(), store, role="teacher", arm="sft", seed=0)
        model.write(ask(*(f"first {i}" for i in range(60))))
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"), ballast.open("wb") as file:
            while True:
                file.write(b"\0" * 4096)
                file.flush()
        with pytest.raises(StoreError, match="cannot read or write"):
            model.write(ask(*(f"second {i}" for i in range(60))))
        assert len(list(store.completions.iterate())) == 60
    with Store.open(small_disk / "run", readonly=True) as store:
        assert len(list(store.completions.iterate())) == 60
    ballast.unlink()
    with Store.open(small_disk / "run") as store:
        with_cache(Long(), store, role="teacher", arm="sft", seed=0).write(
            ask(*(f"second {i}" for i in range(60)))
        )
        assert len(list(store.completions.iterate())) == 120
        assert maintain.check_store(store) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_damage import Long
from store_fakes import ask
from potstill.errors import StoreError
from potstill.store import Store, with_cache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store.open(Path(sys.argv[2])) as store:
    model = with_cache(Long(), store, role="teacher", arm="sft", seed=0)
    model.write(ask(*(f"first {i}" for i in range(60))))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        model.write(ask(*(f"second {i}" for i in range(400))))
    except StoreError as error:
        print(error)
"""


def test_a_file_that_may_not_grow(tmp_path: Path):
    """The limit of a user's quota, in a process of its own."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    words = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(tmp_path / "run")]
    done = child.run(words)
    assert "cannot read or write" in done.stdout
    with Store.open(tmp_path / "run") as store:
        assert len(list(store.completions.iterate())) >= 60
        assert maintain.check_store(store) == []


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A run folder on a file system where not even root may write."""
    folder = tmp_path / "run"
    filled(folder, count=30)
    bind = [
        ["mount", "--bind", str(folder), str(folder)],
        ["mount", "-o", "remount,ro,bind", str(folder)],
    ]
    if (
        not shutil.which("mount")
        or subprocess.run(bind[0], check=False, capture_output=True).returncode
    ):
        pytest.skip("no right to mount a read-only file system here")
    try:
        if subprocess.run(bind[1], check=False, capture_output=True).returncode:
            pytest.skip("no right to make a mount read-only here")
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk(read_only_disk: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="cannot write to the run folder"):
        Store.open(read_only_disk)
    with Store.open(read_only_disk, readonly=True) as store:
        assert len(list(store.completions.iterate())) == 30
        assert transfer.export_completions(store, tmp_path / "out.jsonl") == (30, 0)
        assert maintain.check_store(store) == []
        with pytest.raises(StoreError, match="opened for reading only"):
            store.verdicts.replace({"k": "1"})
