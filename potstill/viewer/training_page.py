"""The page Training: every column of every student's steps, also of a training that is under way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from potstill.runs.stages import stage_title
from potstill.store.history import StageRows
from potstill.store.store import Store
from potstill.training.settings import FIT_FILE
from potstill.training.step_log import STEPS_FILE
from potstill.viewer.query import quote_value
from potstill.viewer.rollouts_page import list_looks
from potstill.viewer.step_columns import describe_column
from potstill.viewer.token_page import STUDENTS_FOLDER, WORK_FOLDER
from potstill.viewer.trace_page import plain_number

# Of a training's report what is a curve, or long: the curves are here.
_NOT_SHOWN = ("losses", "loss_curve")


def describe_training(
    store: Store,
    run_folder: Path,
    *,
    since: Mapping[str, int] | None = None,
    is_running: bool = False,
) -> dict[str, Any]:
    """All trainings of a run with their curves.

    Args:
        store: of the run.
        run_folder: where the students lie.
        since: by student the step behind which points are wanted; those of others are sent from the first one on.
        is_running: whether a process works in the run.
    """
    students: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    messages: list[str] = []
    # In the order of the arms; a student of an arm with several stages goes by ARM/STAGE.
    for arm in store.history.arms():
        stages = store.history.stages(arm)
        for stage in stages:
            title = arm if len(stages) == 1 else stage_title(arm, stage.label)
            steps, message = read_step_lines(run_folder / STUDENTS_FOLDER / stage.stage)
            if message:
                messages.append(f"{title}: {message}")
            student = _describe_student(store, run_folder, arm, stage, is_running=is_running)
            known_step = (since or {}).get(stage.stage, 0)
            described = _describe_series(steps, known_step)
            names.update(dict.fromkeys(described["series"]))
            students.append({**student, "title": title, **described})
    columns = []
    for name in names:
        if name != "step":
            columns.append({"name": name, **describe_column(name)._asdict()})
    return {"students": students, "columns": columns, "messages": messages}


def _describe_student(
    store: Store, run_folder: Path, arm: str, stage: StageRows, *, is_running: bool
) -> dict[str, Any]:
    folder = run_folder / STUDENTS_FOLDER / stage.stage
    stored = store.students.get(stage.stage)
    report: Mapping[str, Any] = stored.report if stored is not None else {}
    # Begun and not finished: under way, or left by a process that is gone.
    state = "begun"
    if stored is not None or (folder / FIT_FILE).is_file():
        state = "finished"
    elif is_running and (folder / WORK_FOLDER).is_dir():
        state = "running"
    refused = report.get("skipped") or {}
    return {
        "student": stage.stage,
        "arm": arm,
        "stage": stage.label,
        "state": state,
        "steps": report.get("steps"),
        "report": {name: value for name, value in report.items() if name not in _NOT_SHOWN},
        "refused": [{"reason": reason, "count": count} for reason, count in refused.items()],
        "settings": dict(stored.settings) if stored is not None else {},
        "rows": len(stage.row_ids),
        "rows_query": f"arm:{quote_value(arm)} row:yes",
        "looks": list_looks(folder),
    }


def _describe_series(steps: Sequence[Mapping[str, Any]], since: int) -> dict[str, Any]:
    """The curves behind a step; whole ones where the training has not come so far, because it was begun anew."""
    last_step = steps[-1]["step"] if steps else 0
    if last_step < since:
        since = 0
    total_tokens = list(accumulate(step.get("tokens") or 0 for step in steps))
    wanted = [place for place, step in enumerate(steps) if step["step"] > since]
    return {
        "since": since,
        "series": make_series([steps[place] for place in wanted]),
        "step": last_step,
        "total_tokens": [total_tokens[place] for place in wanted],
    }


def read_step_lines(student_folder: Path) -> tuple[list[dict[str, Any]], str]:
    """The steps of a training that is finished or under way, and what is wrong with the file, if anything."""
    steps: list[dict[str, Any]] = []
    message = ""
    # The finished file wins; the one of a training under way is in its working folder.
    for folder in (student_folder, student_folder / WORK_FOLDER):
        path = folder / STEPS_FILE
        if not path.is_file():
            continue
        lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                step = json.loads(line)
                float(step["step"])  # a line that numbers no step is none
            except (ValueError, KeyError, TypeError):
                # The last line of a training under way may be half written.
                if number < len(lines) or line.endswith("\n"):
                    message = f"line {number} of {STEPS_FILE} can't be read"
                continue
            steps.append(step)
        break
    return steps, message


def make_series(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Steps as columns; None where a step lacks one."""
    names = dict.fromkeys(name for step in steps for name in step)
    series: dict[str, list[Any]] = {}
    for name in names:
        series[name] = [plain_number(step.get(name)) for step in steps]
    return series
