"""How far a run is, as a file that others watch."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import PotstillWarning
from potstill.models.model import Traffic
from potstill.runs import progress_file
from potstill.runs.open_folder import open_folder
from potstill.runs.progress_file import ProgressFile


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        self.seconds += 1.0
        return self.seconds


class Disk:
    """Takes what is written, and lets a test wait for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        monkeypatch.setattr(progress_file, "write_text", self.write)

    def write(self, path: Path, content: str) -> None:
        with self._changed:
            self.written.append(json.loads(content))
            self._changed.notify_all()

    def wait_for(self, **values: Any) -> dict[str, Any]:
        def is_there() -> bool:
            return bool(self.written) and values.items() <= self.written[-1].items()

        with self._changed:
            assert self._changed.wait_for(is_there, 10)
            return self.written[-1]


def test_it_holds_the_newest_report_and_when_its_count_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, shown = Disk(monkeypatch), []
    progress = ProgressFile(
        tmp_path / "progress.json", lambda *step: shown.append(step), interval=0.0, now=Clock()
    )
    with progress:
        progress("orion/student", 0, 64)
        progress("orion/student", 3, 64)
        values = {"arm": "orion", "label": "orion/student", "done": 3, "total": 64}
        assert disk.wait_for(done=3) == {
            "pid": os.getpid(),
            **values,
            "began": 1001.0,
            "at": 1002.0,
        }
        progress("orion/student", 1, 64)  # another call counts anew
        assert disk.wait_for(done=1)["began"] == 1003.0
        progress("orion/train", 1, 64)
        assert disk.wait_for(label="orion/train")["began"] == 1004.0
    assert shown == [
        ("orion/student", 0, 64),
        ("orion/student", 3, 64),
        ("orion/student", 1, 64),
        ("orion/train", 1, 64),
    ]


def test_it_is_written_no_more_often_than_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with ProgressFile(tmp_path / "progress.json", lambda *step: None, interval=3600) as progress:
        progress("sft/teacher", 0, 9)
        disk.wait_for(done=0)
        for done in range(1, 9):
            progress("sft/teacher", done, 9)
    assert len(disk.written) == 1


def test_it_is_there_while_the_folder_is_open_and_after_a_kill_alone(tmp_path: Path) -> None:
    left = tmp_path / "progress.json"
    left.write_text("of a killed process")
    with open_folder(tmp_path) as folder:
        assert not left.exists()
        folder.progress("sft/teacher", 1, 2)
        while not left.exists():
            threading.Event().wait(0.001)
        assert json.loads(left.read_text())["done"] == 1
        names = {path.name for path in tmp_path.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} <= names - {"progress.json"}


def test_a_disk_that_takes_nothing_more_is_said_once_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, warned = threading.Event(), []

    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    def warn(message: str, category: type, stacklevel: int) -> None:
        warned.append((message, category))
        said.set()

    monkeypatch.setattr(progress_file, "write_text", full)
    monkeypatch.setattr(progress_file.warnings, "warn", warn)
    with ProgressFile(tmp_path / "progress.json", lambda *step: None, interval=0) as progress:
        progress("sft/teacher", 0, 9)
        assert said.wait(10)
        progress("sft/teacher", 1, 9)
    [(message, category)] = warned
    assert "No space left" in message and category is PotstillWarning


def test_answers_tokens_and_traffic_are_passed_on_to_who_wants_them(tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []

    class Shown:
        def __call__(self, label: str, done: int, total: int) -> None:
            calls.append(("progress", done))

        def count_answers(self, label: str, count: int) -> None:
            calls.append(("answers", count))

        def count_tokens(self, label: str, count: int) -> None:
            calls.append(("tokens", count))

        def show_traffic(self, label: str, traffic: Traffic) -> None:
            calls.append(("traffic", traffic))

    progress = ProgressFile(tmp_path / "progress.json", Shown())
    progress.count_answers("a", 1)
    progress.count_tokens("a", 2)
    progress.show_traffic("a", Traffic(3))
    assert calls == [("answers", 1), ("tokens", 2), ("traffic", Traffic(3))]
