"""A full regular expression in `problem.answer`, matched against the answer in a killable worker process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from potstill.records import Problem, Verdict
from potstill.verifiers import exact, extract
from potstill.verifiers.workers import pool

VERSION = "regex@1"
LIMIT_S = 2.0  # seconds of computing a text may take


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the pattern matches all of the marked answer, the last line or the whole text."""
    return judge_all([(problem, text)])[0]


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores."""
    return pool.judge_all("regex", items, _task, _verdict, limit_s=LIMIT_S)


def _task(problem: Problem, text: str) -> Verdict | pool.Task:
    if problem.answer is None:
        return Verdict("unjudged", None, "the problem has no gold answer", VERSION)
    reason = invalid(problem.answer)
    if reason:
        return Verdict("unjudged", None, reason, VERSION)
    readings = [
        r for read in exact.readings(text) for r in dict.fromkeys((read, *exact.trimmed(read)))
    ]
    if not readings:
        return Verdict("unparsed", None, "nothing that could be an answer", VERSION)
    return (problem.answer, *readings)


def _verdict(item: pool.Item, _: pool.Task, reply: tuple[str, Any]) -> Verdict:
    text = item[1]
    if reply[0] != "done":
        return Verdict("unparsed", None, f"matching {reply[1]}", VERSION)
    if reply[1]:
        return Verdict("right", reply[1][:200], "the pattern matches", VERSION)
    shown = extract.split(text)[0][-extract.TAIL :].strip()
    answer = exact.given(text, shown, longest=200)
    if answer is None:
        return Verdict("unparsed", None, "no marked answer", VERSION)
    return Verdict("wrong", answer[:200], "the pattern does not match", VERSION)


def invalid(pattern: str) -> str:
    """Why the pattern is none; "" where it compiles."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"the pattern {pattern[:60]!r} does not compile: {error}"
    return ""
