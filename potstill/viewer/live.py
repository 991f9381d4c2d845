"""What the live stream says of a run: its state, counts, progress and trainings, as cheaply as they can be had."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

from potstill.errors import PotstillError
from potstill.runs.progress_file import PROGRESS_FILE
from potstill.training.step_log import STEPS_FILE
from potstill.viewer.index.calls import count_calls
from potstill.viewer.reader import RunReader
from potstill.viewer.run_state import RunState, read_state
from potstill.viewer.token_page import STUDENTS_FOLDER, WORK_FOLDER

if TYPE_CHECKING:
    from potstill.viewer.answers import Answers

LAST_BYTES = 16 * 1024  # of a file of steps that hold its last line
POLL_SECONDS = 0.5  # between two looks of a live stream
REST_SHARE = 0.01  # of a core that counting a store may take
MAX_REST_SECONDS = 10.0


def describe_now(reader: RunReader) -> dict[str, Any]:
    """The line of a run, without what is new since the last one."""
    line: dict[str, Any] = {
        "type": "run",
        "run": reader.run.name,
        "generation": reader.generation(),
        "state": read_state(reader.folder).to_json(),
        "progress": read_progress(reader),
        "training": _read_trainings(reader),
        "counts": {},
        "by_arm": {},
        "under_way": 0,
    }
    if not reader.has_store:
        return line
    try:
        with reader.store() as store:
            read = store.database.read
            line["by_arm"] = dict(read("SELECT arm, count(*) FROM made GROUP BY arm"))
            line["counts"]["traces"] = sum(line["by_arm"].values())
            line["counts"]["completions"] = count_calls(store.database)
            for name in ("rows", "drops"):
                [(line["counts"][name],)] = read(f"SELECT count(*) FROM {name}")
            [(line["under_way"],)] = read("SELECT count(*) FROM intents")
    except PotstillError as error:
        # The page's own request says it whole.
        line["state"] = RunState("unreadable", 0.0, message=error.found).to_json()
    return line


class Seen(NamedTuple):
    """What a page was last told of a run.

    Args:
        mark: of everything that the line of a run depends on.
        by_arm: how many traces each arm had.
    """

    mark: str
    by_arm: Mapping[str, int]

    def to_cursor(self) -> str:
        """As the page sends it back in the address of its next stream."""
        text = json.dumps(self, ensure_ascii=True, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii")

    @classmethod
    def from_cursor(cls, cursor: str) -> Seen | None:
        """The state that a cursor names; None where it is no cursor: the page then hears of everything anew."""
        try:
            mark, by_arm = json.loads(base64.urlsafe_b64decode(cursor))
            return cls(str(mark), {str(arm): int(count) for arm, count in by_arm.items()})
        except (ValueError, TypeError, AttributeError):
            return None


@final
class RunWatch:
    """Looks at a run again and again, and says what is new.

    Args:
        reader: of the run.
        seen: what the page knows already; None where it knows nothing.
    """

    def __init__(self, reader: RunReader, seen: Seen | None = None) -> None:
        self.reader, self._seen = reader, seen
        self._status = ""
        self._rests_until = 0.0

    def look(self) -> dict[str, Any] | None:
        """The line of the run, with how many traces are new since the last one; None where nothing has changed."""
        try:
            state = read_state(self.reader.folder)
            mark = f"{self.reader.generation()} {state.status} {state.pid}"
        except OSError as error:
            # The folder is being deleted or moved, or its disk is gone: said once, and looked at again.
            return self._describe_unreadable(str(error))
        if self._seen is not None and mark == self._seen.mark:
            return None
        # A large store takes long to be counted, and is counted less often; how the run is, is told at once.
        if state.status == self._status and time.monotonic() < self._rests_until:
            return None
        # Something has changed: now the store is opened and counted.
        used = time.thread_time()
        line = describe_now(self.reader)
        rest = (time.thread_time() - used) / REST_SHARE
        if rest > POLL_SECONDS:
            self._rests_until = time.monotonic() + min(rest, MAX_REST_SECONDS)
        self._status = state.status
        by_arm: dict[str, int] = line.pop("by_arm")
        # The first line has nothing before it, and so nothing new.
        before = by_arm if self._seen is None else self._seen.by_arm
        new_by_arm: dict[str, int] = {}
        for arm, count in by_arm.items():
            added = count - before.get(arm, 0)
            if added:
                new_by_arm[arm] = added
        line["new"] = {"traces": sum(new_by_arm.values()), "by_arm": new_by_arm}
        self._seen = Seen(mark, by_arm)
        line["cursor"] = self._seen.to_cursor()
        return line

    def _describe_unreadable(self, message: str) -> dict[str, Any] | None:
        if self._seen is not None and self._seen.mark == message:
            return None
        self._seen = Seen(message, {} if self._seen is None else self._seen.by_arm)
        state = RunState("unreadable", 0.0, message=message).to_json()
        return {"type": "run", "run": self.reader.run.name, "generation": "", "state": state}


@final
class LiveStream:
    """What one page hears: of one run, or of all runs and of which there are.

    Args:
        answers: with the runs.
        run: the one run; "" for all.
        cursor: where an earlier stream of this run ended.
    """

    def __init__(self, answers: Answers, run: str = "", cursor: str = "") -> None:
        self._answers, self._is_of_all = answers, not run
        self._watches: dict[str, RunWatch] = {}
        if run:
            self._watches[run] = RunWatch(answers.reader(run), Seen.from_cursor(cursor))
        else:
            self._follow_runs()

    def next_lines(self) -> Iterator[dict[str, Any]]:
        """What has changed since the last call. A few stats a run where nothing has."""
        if self._is_of_all and self._follow_runs():
            yield {"type": "runs", "runs": list(self._watches)}
        for name, watch in self._watches.items():
            line = watch.look()
            if line is None:
                continue
            if not self._is_of_all:
                # The index follows what somebody looks at.
                self._answers.reader(name)
            yield line

    def _follow_runs(self) -> bool:
        """Take up runs that were begun, drop those that are gone; whether there were any."""
        self._answers.find_new_runs()
        readers = dict(self._answers.readers)
        if readers.keys() == self._watches.keys():
            return False
        # What a page was told of a run that goes on to be there stays known.
        watches = {}
        for name, reader in readers.items():
            watches[name] = self._watches.get(name) or RunWatch(reader)
        self._watches = watches
        return True


def read_progress(reader: RunReader) -> dict[str, Any] | None:
    """The newest report of the process that works in the run; None where there is none."""
    try:
        progress = json.loads((reader.folder / PROGRESS_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        # None is there, or it is just being replaced: the next look has it.
        return None
    return progress if isinstance(progress, dict) else None


def _read_trainings(reader: RunReader) -> list[dict[str, Any]]:
    """The last step of each training that is under way."""
    # A finished training has no such folder any more.
    trainings = []
    for folder in sorted((reader.folder / STUDENTS_FOLDER).glob(f"*/{WORK_FOLDER}")):
        step = _read_last_step(folder / STEPS_FILE)
        if step is not None:
            trainings.append({"student": folder.parent.name, "step": step})
    return trainings


def _read_last_step(path: Path) -> int | None:
    """The step of the last whole line, from the end of the file alone; None where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            # Half written, or cut off by the beginning of what was read.
            continue
    return None
