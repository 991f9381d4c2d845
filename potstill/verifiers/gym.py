"""reasoning-gym's own scorer, for tasks where several answers are right; full score is right, anything less is wrong.

Some scorers hand the answer to `eval` or to sympy's parser, which is `eval` too. For these tasks only answers of a
harmless alphabet get there (`ALPHABETS`; a test compares the list with the installed package); others are unparsed.

`problem.table` holds the canonical JSON of task, settings and index, from which a worker makes the item again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from potstill.records import Problem, Verdict, canonical
from potstill.verifiers import exact, extract
from potstill.verifiers.workers import pool

VERSION = "gym@1"
LONGEST = 10_000  # characters of an answer
LIMIT_S = 5.0  # seconds of computing time; making the item again is most of it

_NUMBERS = re.compile(r"[\d\s+\-*/().]*")
_LISTS = re.compile(r"[\w\s\[\],'\"]*")  # no call, attribute, operator or brace can be written
_FORMULAS = re.compile(
    r"(?:[\d\s+\-*/()]|\.(?=\d)|(?<![A-Za-z])(?:[A-Za-z]|sin|cos|tan|exp|log|sqrt|a?(?:sin|cos|tan)h?|pi)(?![A-Za-z]))*"
)
ALPHABETS = MappingProxyType(
    {
        "countdown": _NUMBERS,
        "puzzle24": _NUMBERS,
        "binary_matrix": _LISTS,
        "n_queens": _LISTS,
        "spiral_matrix": _LISTS,
        "string_insertion": _LISTS,
        "intermediate_integration": _FORMULAS,
        "polynomial_multiplication": _FORMULAS,
        "simple_integration": _FORMULAS,
        "composite": re.compile(""),  # may hold any of these
    }
)


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the task's scorer gives an answer read from the text 1.0."""
    return judge_all([(problem, text)])[0]


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores."""
    return pool.judge_all("gym", items, _task, _verdict, limit_s=LIMIT_S)


def _task(problem: Problem, text: str) -> Verdict | pool.Task:
    if problem.table is None:
        return Verdict(
            "unjudged", None, "the problem does not say which reasoning-gym item it is", VERSION
        )
    item = json.loads(problem.table)
    readings = [r for read in readings_of(text) for r in dict.fromkeys((read, exact.squeeze(read)))]
    if not readings:
        return Verdict("unparsed", None, "nothing that could be an answer", VERSION)
    alphabet = ALPHABETS.get(item["task"])
    readings = [
        r for r in readings if len(r) <= LONGEST and (alphabet is None or alphabet.fullmatch(r))
    ]
    if not readings:
        return Verdict(
            "unparsed", None, "no answer that this task's scorer can safely be given", VERSION
        )
    return (
        item["task"],
        canonical(item["settings"]),
        str(item["index"]),
        problem.question,
        *readings,
    )


def _verdict(item: pool.Item, task: pool.Task, reply: tuple[str, Any]) -> Verdict:
    text, readings, (outcome, result) = item[1], task[4:], reply
    if outcome != "done":
        return Verdict("unparsed", None, f"scoring {result}", VERSION)
    for reading, score in zip(readings, result, strict=True):
        if score == 1.0:
            return Verdict("right", reading[:200], "full score", VERSION)
    found = extract.candidates(text)
    if found[0].mark == "last line" and "\n" in text.strip():
        return Verdict("unparsed", None, "no marked answer", VERSION)
    return Verdict("wrong", readings[0][:200], f"score {max(result):g}", VERSION)


def readings_of(text: str) -> list[str]:
    """Strings that may be the answer, white space kept: grids have line breaks."""
    found = extract.candidates(text)
    shown = extract.split(text)[0][-extract.TAIL :].strip()
    whole = [shown] if shown and (not found or found[0].mark == "last line") else []
    return [f.text for f in found] + whole
