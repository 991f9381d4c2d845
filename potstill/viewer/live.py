"""What the live stream says of a run: its state, counts, progress and trainings, as cheaply as they can be had."""

from __future__ import annotations

import json
from typing import Any, final

from potstill.errors import PotstillError
from potstill.runs.progress_file import PROGRESS_FILE
from potstill.viewer.reader import RunReader
from potstill.viewer.run_state import read_state
from potstill.viewer.token_page import STUDENTS_FOLDER, WORK_FOLDER
from potstill.viewer.training_page import read_step_lines

_COUNTED = {"traces": "made", "rows": "rows", "drops": "drops", "completions": "completions"}


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
            for name, table in _COUNTED.items():
                [(line["counts"][name],)] = read(f"SELECT count(*) FROM {table}")
            line["by_arm"] = dict(read("SELECT arm, count(*) FROM made GROUP BY arm"))
            [(line["under_way"],)] = read("SELECT count(*) FROM intents")
    except PotstillError as error:
        # The page's own request says it whole.
        line["state"] = {"status": "unreadable", "text": error.found, "since": 0.0, "pid": None}
    return line


@final
class RunWatch:
    """Looks at a run again and again, and says what is new.

    Args:
        reader: of the run.
    """

    def __init__(self, reader: RunReader) -> None:
        self.reader = reader
        self._mark = ""
        self._by_arm: dict[str, int] | None = None

    def look(self) -> dict[str, Any] | None:
        """The line of the run, with how many traces are new since the last one; None where nothing has changed."""
        state = read_state(self.reader.folder)
        mark = f"{self.reader.generation()} {state.status} {state.pid}"
        if mark == self._mark:
            return None
        # Something has changed: now the store is opened and counted.
        line = describe_now(self.reader)
        by_arm: dict[str, int] = line.pop("by_arm")
        # The first line has nothing before it, and so nothing new.
        before = by_arm if self._by_arm is None else self._by_arm
        new_by_arm: dict[str, int] = {}
        for arm, count in by_arm.items():
            added = count - before.get(arm, 0)
            if added:
                new_by_arm[arm] = added
        line["new"] = {"traces": sum(new_by_arm.values()), "by_arm": new_by_arm}
        self._mark, self._by_arm = mark, by_arm
        return line


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
    trainings = []
    for folder in sorted((reader.folder / STUDENTS_FOLDER).glob(f"*/{WORK_FOLDER}")):
        student = folder.parent
        steps, _ = read_step_lines(student)
        if steps:
            trainings.append({"student": student.name, "step": steps[-1]["step"]})
    return trainings
