"""Recorded answers from a file: whose, to which problem, and what the file itself says of them.

Rows name their problem by `id` or by its question. Either every recorded model has a column with {solution, is_correct}
(GSM8K's example_model_solutions.jsonl), or the row has one completion, or a list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.models.recorded import COMPLETIONS, LABELS, QUESTIONS
from potstill.reading import checked, rows
from potstill.records import Problem

_TEXTS = (*COMPLETIONS, "text")
_MODELS = ("model", "author", "name")


class Answered(NamedTuple):
    """A recorded answer; `label` is what the file says of it, None where it says nothing."""

    model: str
    problem: Problem
    text: str
    label: bool | None


def read(spec: str, problems: Sequence[Problem], mapping: Mapping[str, str]) -> tuple[list[Answered], int]:
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
    asked = [row[name] for name in (mapping.get("question", ""), *QUESTIONS) if isinstance(row.get(name), str)]
    asked += [turn.get("content", "") for turn in _chat(row.get("messages"))[:-1] if turn.get("role") == "user"]
    return next((by_question[_squeeze(text)] for text in asked if _squeeze(text) in by_question), None)


def _answers(row: Mapping[str, Any], problem: Problem, mapping: Mapping[str, str], where: str) -> list[Answered]:
    column = mapping.get("completion", "")
    models = {name: value for name, value in row.items() if isinstance(value, Mapping) and _text(value) is not None}
    if models and not column:
        return [Answered(name, problem, _text(value) or "", _label(value, mapping)) for name, value in models.items()]
    names = (column,) if column else (*COMPLETIONS, "messages")
    value = next((row[name] for name in names if row.get(name) is not None), None)
    several = value if isinstance(value, list) and not _chat(value) else [value]
    texts = [_text(item) for item in several]
    if not texts or None in texts:
        raise InputError(
            f"{where} has no completion",
            expected=f"a text, or a list of texts, under {', '.join(names)}",
            available=list(row),
            fix="--map completion=COLUMN",
        )
    author = next((str(row[name]) for name in _MODELS if isinstance(row.get(name), str)), "answers")
    beside = [item if isinstance(item, Mapping) else row for item in several]
    labels = [_label(item, mapping, at) for at, item in enumerate(beside)]
    return [Answered(author, problem, text or "", label) for text, label in zip(texts, labels, strict=True)]


def _text(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        return next((item[name] for name in _TEXTS if isinstance(item.get(name), str)), None)
    last = _chat(item)[-1:]
    return last[0]["content"] if last and isinstance(last[0].get("content"), str) else None


def _label(item: Mapping[str, Any], mapping: Mapping[str, str], at: int = 0) -> bool | None:
    names = (mapping["label"],) if "label" in mapping else LABELS
    value = next((item[name] for name in names if item.get(name) is not None), None)
    if isinstance(value, list):
        value = value[at] if at < len(value) else None
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None


def _chat(value: Any) -> list[Mapping[str, Any]]:
    """The turns of a chat, or nothing."""
    turns = value if isinstance(value, list) else []
    return turns if turns and all(isinstance(turn, Mapping) and "role" in turn for turn in turns) else []


def _squeeze(text: str) -> str:
    return " ".join(text.split())
