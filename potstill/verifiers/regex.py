"""A full regular expression in `problem.answer`, matched against the answer in a killable worker process."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.records import Problem, Verdict
from potstill.verifiers import exact
from potstill.verifiers.exact import equal, read
from potstill.verifiers.workers import pool

__all__ = ["VERSION", "equal", "gold_text", "judge", "judge_all", "read"]

VERSION = "regex@3"
LIMIT_S = 2.0  # seconds of computing a text may take


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the pattern matches all of the marked answer, the last line or the whole text."""
    return judge_all([(problem, text)])[0]


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer: a pattern can't be written out, so its solution stands for it."""
    return problem.solution or problem.answer or ""


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores."""
    return pool.judge_all("regex", items, _prepare_task, _verdict_of_reply, limit_s=LIMIT_S)


def _prepare_task(problem: Problem, text: str) -> Verdict | pool.Task:
    if problem.answer is None:
        return Verdict(
            "unjudged", exact.read(problem, text), "the problem has no gold answer", VERSION
        )
    error = _pattern_error(problem.answer)
    if error:
        return Verdict("unjudged", None, error, VERSION)
    readings: list[str] = []
    for reading in exact.answer_readings(text):
        readings += dict.fromkeys((reading, *exact.strip_marks(reading)))
    if not readings:
        return Verdict("unparsed", None, "nothing that could be an answer", VERSION)
    return (problem.answer, *readings)


def _verdict_of_reply(item: pool.Item, _: pool.Task, reply: pool.Reply) -> Verdict:
    outcome, matched = reply
    if outcome != "done":
        return Verdict("unparsed", None, f"matching {matched}", VERSION)
    if matched:
        return Verdict("right", matched[:200], "the pattern matches", VERSION)
    answer = exact.clear_answer(item[1], max_characters=200)
    if answer is None:
        return Verdict("unparsed", None, "no marked answer", VERSION)
    return Verdict("wrong", answer[:200], "the pattern does not match", VERSION)


def _pattern_error(pattern: str) -> str:
    """Why the pattern does not compile; "" where it does."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"the pattern {pattern[:60]!r} does not compile: {error}"
    return ""
