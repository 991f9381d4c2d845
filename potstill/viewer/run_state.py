"""Whether a run is running, and how it ended: from its lock, its completion mark and its unfinished results."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from potstill.runs import manifest
from potstill.runs.folder_layout import RESULTS_FILE, UNFINISHED_FILE
from potstill.runs.progress_file import PROGRESS_FILE
from potstill.store import database, lock

Status: TypeAlias = Literal["running", "finished", "stopped", "failed", "killed", "unreadable"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class RunState(NamedTuple):
    """How a run is.

    Args:
        status: "killed" is a run whose process is gone and that has said nothing of an end.
        since: when its files last changed, in seconds since 1970.
        pid: of the process that is writing, where it is known.
        message: what the run said at its end.
    """

    status: Status
    since: float
    pid: int | None = None
    message: str = ""

    def describe(self) -> str:
        """Such as `running`, or `stopped 3 min ago (killed)`."""
        if self.status == "running":
            return "running"
        if self.status == "unreadable":
            return "can't be read"
        age = format_age(time.time() - self.since)
        if self.status == "killed":
            return f"stopped {age} (killed)"
        return f"{self.status} {age}"

    def to_json(self) -> dict[str, object]:
        """As the pages read it."""
        return {**self._asdict(), "text": self.describe()}


def read_state(folder: Path) -> RunState:
    """How the run in a folder is now. Nothing is written."""
    since = last_change(folder)
    lock_file = folder / lock.FILE
    # Without a lock nobody has ever written here: a folder of results alone.
    if lock_file.exists() and lock.has_writer(lock_file):
        return RunState("running", since, lock.writer_pid(lock_file))
    if _is_finished(folder, _stamps(folder)):
        return RunState("finished", since)
    # Nobody writes, and it is not finished: what it said last, or nothing.
    status, message = _read_ending(folder)
    if status in ("stopped", "failed"):
        return RunState(status, since, message=message)  # type: ignore[arg-type]
    has_results = (folder / RESULTS_FILE).exists() and not (folder / UNFINISHED_FILE).exists()
    if has_results and not (folder / manifest.MARK).exists():
        return RunState("finished", since)
    return RunState("killed", since)


def last_change(folder: Path) -> float:
    """When the run last wrote anything; 0.0 where there is nothing."""
    names = [database.FILE, f"{database.FILE}-wal", RESULTS_FILE, UNFINISHED_FILE, manifest.FILE]
    # A local model may write nothing else for minutes, and a killed run leaves it.
    names.append(PROGRESS_FILE)
    times = [0.0]
    for name in names:
        file = folder / name
        if file.exists():
            times.append(file.stat().st_mtime)
    return max(times)


def format_age(seconds: float) -> str:
    """How long ago something was: `just now`, `3 min ago`, `2 h ago`, `5 days ago`."""
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min ago"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR:.0f} h ago"
    return f"{seconds // _DAY:.0f} days ago"


def _stamps(folder: Path) -> tuple[int, ...]:
    """When the files of the completion mark were changed: its check hashes the results."""
    stamps: list[int] = []
    for name in (manifest.MARK, RESULTS_FILE, manifest.FILE):
        file = folder / name
        stamps.append(file.stat().st_mtime_ns if file.exists() else 0)
    return tuple(stamps)


@functools.lru_cache(maxsize=1024)
def _is_finished(folder: Path, stamps: tuple[int, ...]) -> bool:
    return manifest.is_finished(folder)


def _read_ending(folder: Path) -> tuple[str, str]:
    """Status and message of the unfinished results; both "" where there are none."""
    # One section a line: the other lines, which may be long, are not parsed.
    try:
        with (folder / UNFINISHED_FILE).open(encoding="ascii") as file:
            for line in file:
                if line.startswith('"ending":'):
                    ending = json.loads("{" + line.rstrip().rstrip(",") + "}")["ending"]
                    return str(ending["status"]), str(ending["message"])
    except (OSError, ValueError, KeyError, TypeError):
        # A file that can't be read says nothing of an end; the overview says what is wrong with it.
        return "", ""
    return "", ""
