"""Opening: versions, damage, locks, read-only folders; each refusal says what was expected, found, and what to do."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import child
import pytest
from store_fakes import Plain, ask

from potstill import __version__
from potstill.errors import StoreError
from potstill.records import SCHEME
from potstill.runs import manifest as runs
from potstill.store import Store, Student, database, with_cache
from potstill.store.admin.migrations import SCHEMA
from potstill.store.database import FILE


def filled(folder: Path) -> Path:
    with Store.open(folder) as store:
        with_cache(Plain(), store, role="teacher", arm="sft", seed=0).write(
            ask(*(f"prompt {i} " * 40 for i in range(60)))
        )
    return folder / FILE


@pytest.mark.parametrize(("name", "value"), [("scheme", "potstill-0"), ("schema", "99")])
def test_another_version_is_refused(tmp_path: Path, name: str, value: str):
    path = filled(tmp_path / "run")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
    connection.close()
    for readonly in (False, True):
        with pytest.raises(StoreError) as caught:
            Store.open(path.parent, readonly=readonly)
        found = {"scheme": SCHEME, "schema": SCHEMA, name: value}
        assert (
            f"another version of potstill: scheme {found['scheme']}, schema {found['schema']}"
            in str(caught.value)
        )
        assert caught.value.expected == f"scheme {SCHEME}, schema {SCHEMA}"
        assert caught.value.fix.startswith(f'mv "{path.parent}" "{path.parent}.old"')


def test_a_file_that_is_no_database(tmp_path: Path):
    (tmp_path / FILE).write_text("hello, I am a text file and not a database at all\n" * 40)
    for readonly in (False, True):
        with pytest.raises(StoreError, match="damaged or is not a database"):
            Store.open(tmp_path, readonly=readonly)


def test_a_database_of_something_else(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE holidays (day)")
    connection.close()
    with pytest.raises(StoreError, match="is not a potstill store: it holds holidays"):
        Store.open(tmp_path)


def test_a_torn_file_is_reported_when_it_is_read(tmp_path: Path):
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(data)
    with (
        pytest.raises(StoreError, match="damaged or is not a database"),
        Store.open(tmp_path) as store,
    ):
        list(store.completions.iterate())


def test_an_empty_file_is_a_new_store(tmp_path: Path):
    (tmp_path / FILE).touch()  # what a kill between creating the file and its tables leaves
    with pytest.raises(StoreError, match="is not a potstill store"):
        Store.open(tmp_path, create=False)
    with Store.open(tmp_path) as store:
        assert store.history.arms() == {}


def test_no_store(tmp_path: Path):
    for options in ({"create": False}, {"readonly": True}):
        with pytest.raises(StoreError, match="there is no store in"):
            Store.open(tmp_path / "absent", **options)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file") as caught:
        Store.open(tmp_path / "file")
    assert caught.value.fix == "--out runs/NAME"


def test_a_folder_one_may_not_write_to():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(folder / "old")
        for path in (*folder.glob("old/*"), folder / "old", folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = os.geteuid()
        try:
            if before == 0:
                os.seteuid(65534)  # root may write anywhere
            for target in (folder / "new", folder / "old"):
                with pytest.raises(StoreError, match="cannot write to the run folder"):
                    Store.open(target)
            with Store.open(folder / "old", readonly=True) as store:
                assert len(list(store.completions.iterate())) == 60
        finally:
            if before == 0:
                os.seteuid(0)
            for path in (folder, folder / "old"):
                path.chmod(0o755)


def test_a_reader_works_beside_the_writer_and_writes_nothing(tmp_path: Path):
    with Store.open(tmp_path) as writer, Store.open(tmp_path, readonly=True) as reader:
        model = Plain()
        written = with_cache(model, writer, role="teacher", arm="sft", seed=0).write(ask("a"))
        assert (
            with_cache(model, reader, role="teacher", arm="sft", seed=0).write(ask("a")) == written
        )
        assert reader.usage("sft") == writer.usage("sft")
        for write in (lambda: reader.ledger("sft"), lambda: reader.verdicts.put({"k": "1"})):
            with pytest.raises(StoreError, match="opened for reading only"):
                write()


def test_locked_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with Store.open(tmp_path) as store:
        other = sqlite3.connect(tmp_path / FILE)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked by another program"):
            store.verdicts.put({"k": "1"})
        other.rollback()
        other.close()
        store.verdicts.put({"k": "1"})
        assert store.verdicts.get(["k", "absent"]) == {"k": "1"}


def test_the_second_process_is_refused_by_name_and_a_dead_one_is_not(tmp_path: Path):
    holder = (
        "import sys, time; from potstill.store import Store; s = Store.open(sys.argv[1])\n"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", holder, tmp_path]
    with child.started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreError) as caught:
            Store.open(tmp_path)
        assert f"is in use: process {process.pid} is writing to it" in str(caught.value)
        with Store.open(tmp_path, readonly=True) as reader:
            assert reader.history.arms() == {}
    mine = rf"process {os.getpid()} \(this one\)"
    with Store.open(tmp_path), pytest.raises(StoreError, match=mine):
        Store.open(tmp_path)
    Store.open(tmp_path).close()


def test_a_forked_worker_that_outlives_its_run_does_not_keep_the_lock(tmp_path: Path):
    script = (
        "import os, sys, time; from potstill.store import Store; s = Store.open(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0: print('alive', flush=True); time.sleep(30); os._exit(0)\n"
        "time.sleep(30)"
    )
    command = [sys.executable, "-c", script, tmp_path]
    with child.started(command, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"alive\n"
        run.kill()
        assert run.wait() == -signal.SIGKILL
        Store.open(tmp_path).close()


def test_a_store_that_was_forgotten_lets_the_next_in(tmp_path: Path):
    Store.open(tmp_path)
    Store.open(tmp_path).close()


def test_students(tmp_path: Path):
    inside = Student(
        "stage-1",
        "model-1",
        tmp_path / "run" / "students" / "a",
        {"lr": 0.1},
        {"losses": [2.0, 1.5]},
    )
    outside = Student("stage-2", "model-2", tmp_path / "elsewhere", {}, {"steps": 3})
    with Store.open(tmp_path / "run") as store:
        assert store.students.get("stage-1") is None
        store.students.put(inside)
        store.students.put(outside)
        assert store.students.all() == [inside, outside]
        store.students.put(outside._replace(model="model-3"))
        assert store.students.get("stage-2") == outside._replace(model="model-3")
    (tmp_path / "run").rename(tmp_path / "moved")
    with Store.open(tmp_path / "moved") as store:
        assert store.students.get("stage-1") == inside._replace(
            folder=tmp_path / "moved" / "students" / "a"
        )


SETTINGS = {"method": "orion", "values": {"n": 4, "errors": "own"}, "seed": 0, "models": ("a", "b")}


def test_a_run_is_taken_up_again_and_marked_last(tmp_path: Path):
    folder = tmp_path / "run"
    made = runs.start(folder, SETTINGS)
    assert made == runs.read(folder) == runs.start(folder, SETTINGS)
    assert (made.potstill, made.scheme, made.schema) == (__version__, SCHEME, SCHEMA)
    assert not runs.is_finished(folder)
    runs.write(folder / "results.json", {"score": 0.5})
    runs.finish(folder, ["results.json"])
    assert runs.is_finished(folder)
    (folder / "results.json").write_text("{}")
    assert not runs.is_finished(folder)
    runs.finish(folder, ["results.json"])
    runs.start(folder, SETTINGS)
    assert not runs.is_finished(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "results.json"]


def test_another_recipe_is_refused_and_the_folder_stays(tmp_path: Path):
    runs.start(tmp_path, SETTINGS)
    runs.finish(tmp_path)
    other = {**SETTINGS, "values": {"n": 8, "errors": "own"}, "limit": 3}
    with pytest.raises(StoreError) as caught:
        runs.start(tmp_path, other)
    assert "other settings: limit: nothing found, 3 asked; values.n: 4 found, 8 asked" in str(
        caught.value
    )
    assert "choose another run folder" in caught.value.fix
    assert runs.is_finished(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("scheme", "potstill-0"), ("schema", "0"), ("potstill", "9.3.1")]
)
def test_a_folder_of_another_version_is_refused(tmp_path: Path, name: str, value: str):
    runs.start(tmp_path, SETTINGS)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, name: value}))
    with pytest.raises(StoreError, match="was made by another version") as caught:
        runs.start(tmp_path, SETTINGS)
    assert value in caught.value.found
    assert SCHEME in caught.value.expected
    assert caught.value.fix.startswith("mv ")


def test_patch_releases_share_folders_and_broken_manifests_are_refused(tmp_path: Path):
    runs.start(tmp_path, SETTINGS)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    series = ".".join(__version__.split(".")[:2])
    path.write_text(json.dumps({**manifest, "potstill": f"{series}.99"}))
    runs.start(tmp_path, SETTINGS)
    for text in ("{", "[]", '{"potstill": "1"}'):
        path.write_text(text)
        with pytest.raises(StoreError, match=r"manifest.json can't be read"):
            runs.start(tmp_path, SETTINGS)
    with pytest.raises(StoreError, match="is not a run folder"):
        runs.read(tmp_path / "absent")


def test_a_step_keeps_its_time_when_the_program_is_run_again(store: Store, monkeypatch):
    now = itertools.count(1)
    clock = SimpleNamespace(time=lambda: float(next(now)))
    monkeypatch.setattr("potstill.store.ledger.time", clock)

    def run(*steps: tuple[str, int]) -> list[float | None]:
        ledger = store.ledger("sft")
        for label, returned in steps:
            ledger.add_step("keep", label, 9, returned)
        return store.history.step_times("sft")

    assert run(("ok", 5), ("ok", 5)) == [1, 2]
    # Stopped, taken up again, and one step now says something else.
    assert run(("ok", 5)) == [1]
    assert run(("ok", 5), ("ok", 4), ("right", 3)) == [1, 3, 4]
