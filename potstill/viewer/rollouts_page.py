"""What a student wrote when it was evaluated in its training, evaluation by evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.errors import InputError
from potstill.store.store import Store
from potstill.training.rollout_log import ROLLOUTS_FILE, KeptRollout, read_rollouts
from potstill.viewer.token_page import STUDENTS_FOLDER, WORK_FOLDER


def list_looks(student_folder: Path) -> list[int]:
    """The steps before which a student was evaluated and some of its texts were kept, in order."""
    return sorted({rollout.step for rollout in _read(student_folder)})


def describe_rollouts(store: Store, run_folder: Path, student: str, step: int) -> dict[str, Any]:
    """The texts that a student wrote before a step.

    Raises:
        InputError: there is no such student, or nothing of it is kept from that step.
    """
    # Looked up, never joined to a path unseen: a student is one that the store knows rows of.
    students = [stage for (stage,) in store.database.read("SELECT DISTINCT stage FROM rows")]
    if student not in students:
        raise InputError(
            f"there is no student {student[:60]!r}", available=students, wanted=student
        )
    rollouts = [one for one in _read(run_folder / STUDENTS_FOLDER / student) if one.step == step]
    if not rollouts:
        looks = [str(look) for look in list_looks(run_folder / STUDENTS_FOLDER / student)]
        raise InputError(f"no text of {student} is kept from step {step}", available=looks)
    return {
        "student": student,
        "step": step,
        "rollouts": [rollout._asdict() for rollout in rollouts],
    }


def _read(student_folder: Path) -> list[KeptRollout]:
    """Of a finished training, or of one under way."""
    for folder in (student_folder, student_folder / WORK_FOLDER):
        if (folder / ROLLOUTS_FILE).is_file():
            return list(read_rollouts(folder / ROLLOUTS_FILE))
    return []
