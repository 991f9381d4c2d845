"""Recorded answers from a file: whose, to which problem, and what the file itself says of them.

Rows name their problem by `id` or by its question; their answers may have any layout of `models.layouts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.data import layouts
from potstill.data.files import checked, rows
from potstill.data.layouts import CHATS, QUESTIONS
from potstill.errors import InputError
from potstill.records import Problem

_MODELS = ("model", "author", "name")


class Answered(NamedTuple):
    """A recorded answer; `label` is what the file says of it, None where it says nothing."""

    model: str
    problem: Problem
    text: str
    label: bool | None


def read(
    spec: str, problems: Sequence[Problem], mapping: Mapping[str, str]
) -> tuple[list[Answered], int]:
    """The answers in a file to these problems, and how many rows belong to none of them.

    Args:
        mapping: `id`, `question`, `completion` or `label` -> column.
    """
    by_id = {problem.id: problem for problem in problems}
    by_question = {_squeeze(problem.question): problem for problem in reversed(problems)}
    found: list[Answered] = []
    strays = 0
    for where, row in rows(spec):
        problem = _problem(row, by_id, by_question, mapping)
        if problem is None:
            strays += 1
            continue
        with checked(spec, where, row):
            found += _answers(row, problem, mapping, f"{spec}, {where}")
    if not found:
        raise InputError(
            f"none of {strays} rows of {spec} answers one of the {len(problems)} problems",
            expected="rows with a problem's id, or with its question word for word",
            fix="--map id=COLUMN or --map question=COLUMN, or give the problems that were answered",
        )
    return found, strays


def _problem(
    row: Mapping[str, Any],
    by_id: Mapping[str, Problem],
    by_question: Mapping[str, Problem],
    mapping: Mapping[str, str],
) -> Problem | None:
    for name in dict.fromkeys((mapping.get("id") or "id", "problem_id", "problem")):
        if str(row.get(name)) in by_id:
            return by_id[str(row[name])]
    asked = [
        row[name]
        for name in (mapping.get("question", ""), *QUESTIONS)
        if isinstance(row.get(name), str)
    ]
    asked += [
        turn.content
        for name in CHATS
        for turn in layouts.chat(row.get(name))
        if turn.role == "user"
    ]
    return next(
        (by_question[_squeeze(text)] for text in asked if _squeeze(text) in by_question), None
    )


def _answers(
    row: Mapping[str, Any], problem: Problem, mapping: Mapping[str, str], where: str
) -> list[Answered]:
    given = {name: mapping[name] for name in ("completion", "label") if mapping.get(name) in row}
    if mapping.get("completion") and "completion" not in given:
        raise InputError(
            f"{where} has no completion",
            expected=f"a text, or a list of texts, under {mapping['completion']}",
            available=list(row),
            wanted=mapping["completion"],
            fix="--map completion=COLUMN",
        )
    columns = layouts.guess(row, given, where)._replace(label=mapping.get("label", ""))
    author = next((str(row[name]) for name in _MODELS if isinstance(row.get(name), str)), "answers")
    by_model = columns.layout == layouts.BY_MODEL
    return [
        Answered(recording.column if by_model else author, problem, recording.text, recording.label)
        for recording in layouts.recordings(row, columns, where)
    ]


def _squeeze(text: str) -> str:
    return " ".join(text.split())
