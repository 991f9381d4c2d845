"""The tokens of a row as it was trained on: texts, weights, what is learnt."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.store.store import Store
from potstill.training.settings import TOKENS_FILE
from potstill.viewer.drawn_tokens import describe_drawn_tokens
from potstill.viewer.row_files import read_rows
from potstill.viewer.surprise import describe_surprise, drawn_logprobs
from potstill.viewer.token_texts import decode_tokens, read_vocabulary

STUDENTS_FOLDER = "students"
WORK_FOLDER = "training"  # in a student's folder while the training lasts
SIDES = ("chosen", "rejected")


class TokenRequest(NamedTuple):
    """Whose row: the trace, the student that was trained on it ("" for the first), which side of a pair."""

    trace: str
    student: str = ""
    side: str = "chosen"


def describe_tokens(store: Store, run_folder: Path, request: TokenRequest) -> dict[str, Any]:
    """The page of a row's tokens; where they are not there, why."""
    sql = "SELECT stage, min(arm) FROM rows WHERE id = ? GROUP BY stage ORDER BY min(rowid)"
    # A row of several stages or arms was trained on several times.
    arm_of_student = dict(store.database.read(sql, (request.trace,)))
    students = list(arm_of_student)
    if not students:
        trace = store.history.trace(request.trace)
        drawn_tokens = (
            describe_drawn_tokens(store, run_folder, trace) if trace is not None else None
        )
        return drawn_tokens or _unavailable("no student was trained on this trace")
    student = request.student or students[0]
    if student not in students:
        return _unavailable(f"the student {student[:60]} was not trained on this trace")
    folder = run_folder / STUDENTS_FOLDER / student
    path = find_tokens_file(folder)
    if path is None:
        return _unavailable(
            "the tokens were not written down: an older version trained this student, or it writes its texts itself",
            fix="train it again in another folder",
        )
    rows = read_rows(path, request.trace)
    if not rows:
        return _unavailable(
            "the training left this row out: see the refused rows on the page Training"
        )
    # Only a pair has another side.
    row = rows.get(request.side) or next(iter(rows.values()))
    document = _describe_row(row, folder)
    drawn = drawn_logprobs(store, request.trace, document) if row["side"] == "chosen" else []
    command = f"potstill score RUN --arm {shlex.quote(arm_of_student[student])}"
    return {
        "student": student,
        "students": students,
        "sides": [side for side in SIDES if side in rows],
        **document,
        **describe_surprise(folder, row, drawn, command=command),
    }


def find_tokens_file(student_folder: Path) -> Path | None:
    """The tokens of a training, of one that is under way too; None where there are none."""
    for folder in (student_folder, student_folder / WORK_FOLDER):
        if (folder / TOKENS_FILE).is_file():
            return folder / TOKENS_FILE
    return None


def _unavailable(message: str, *, fix: str = "") -> dict[str, Any]:
    return {"is_available": False, "message": message, "fix": fix}


def _describe_row(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    ids: Sequence[int] = row["ids"]
    runs = list(zip(row["run_lengths"], row["run_weights"], strict=True))
    learnt = sum(length for length, weight in runs if weight > 0)
    document: dict[str, Any] = {
        "is_available": True,
        "side": row["side"],
        "prompt_length": row["prompt_length"],
        "text_start": row["prompt_length"],
        "ids": ids,
        "weights": [[length, weight] for length, weight in runs],
        "learnt": learnt,
        "num_train_epochs": row["metadata"].get("num_train_epochs", 0),
        "message": "",
    }
    try:
        vocabulary = read_vocabulary(folder)
    except InputError as error:
        return {
            **document,
            "texts": [f"⟨{token}⟩" for token in ids],
            "bytes": {},
            "special": [],
            "message": error.found,
        }
    decoded = decode_tokens(vocabulary, ids)
    special = [place for place, token in enumerate(ids) if token in vocabulary.special]
    return {**document, "texts": decoded.texts, "bytes": decoded.bytes_by_place, "special": special}
