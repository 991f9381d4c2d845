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

from potstill.records import Problem, Verdict, canonical
from potstill.verifiers import exact, extract
from potstill.verifiers.workers import pool

VERSION = "gym@3"
MAX_CHARACTERS = 10_000  # of an answer
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


def read(problem: Problem, text: str) -> str | None:
    """Return the first string that may be the answer, white space normalised."""
    readings = _answer_readings(text)
    return exact.normalise_space(readings[0]) or None if readings else None


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers are one string; the task's scorer compares with its own item only."""
    return exact.equal(problem, first, second)


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"<answer>{problem.answer}</answer>"


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores."""
    return pool.judge_all("gym", items, _prepare_task, _verdict_of_reply, limit_s=LIMIT_S)


def _prepare_task(problem: Problem, text: str) -> Verdict | pool.Task:
    if problem.table is None:
        return Verdict(
            "unjudged", None, "the problem does not say which reasoning-gym item it is", VERSION
        )
    item = json.loads(problem.table)
    # As it is, and with white space normalised.
    readings: list[str] = []
    for reading in _answer_readings(text):
        readings += dict.fromkeys((reading, exact.normalise_space(reading)))
    if not readings:
        return Verdict("unparsed", None, "nothing that could be an answer", VERSION)

    # What could be code for the scorer's `eval` never gets there.
    alphabet = ALPHABETS.get(item["task"])
    harmless: list[str] = []
    for reading in readings:
        if len(reading) <= MAX_CHARACTERS and (alphabet is None or alphabet.fullmatch(reading)):
            harmless.append(reading)
    if not harmless:
        return Verdict(
            "unparsed", None, "no answer that this task's scorer can safely be given", VERSION
        )
    settings, index = canonical(item["settings"]), str(item["index"])
    return (item["task"], settings, index, problem.question, *harmless)


def _verdict_of_reply(item: pool.Item, task: pool.Task, reply: pool.Reply) -> Verdict:
    text, readings = item[1], task[4:]
    outcome, scores = reply
    if outcome != "done":
        return Verdict("unparsed", None, f"scoring {scores}", VERSION)
    for reading, score in zip(readings, scores, strict=True):
        if score == 1.0:
            return Verdict("right", reading[:200], "full score", VERSION)
    # Nothing but marks (an empty box or fence), or several lines without one: nobody knows what the answer is.
    candidates = extract.candidates(text)
    if not candidates or (candidates[0].mark == "last line" and "\n" in text.strip()):
        return Verdict("unparsed", None, "no marked answer", VERSION)
    return Verdict("wrong", readings[0][:200], f"score {max(scores):g}", VERSION)


def _answer_readings(text: str) -> list[str]:
    """Strings that may be the answer, white space as it is: grids have line breaks."""
    candidates = extract.candidates(text)
    readings = [candidate.text for candidate in candidates]
    reply = exact.reply_tail(text)
    if reply and (not candidates or candidates[0].mark == "last line"):
        readings.append(reply)
    return readings
