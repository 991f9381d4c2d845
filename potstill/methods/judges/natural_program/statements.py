"""Natural Program: a text of numbered statements, of which each step names the statements that it follows from."""

from __future__ import annotations

import re
from typing import NamedTuple

from potstill.records import split_reasoning

_LABEL = re.compile(r"^[ \t]{0,9}#(\d{1,3})[.:]", re.MULTILINE)
_CITATION = re.compile(r"\s{0,9}\(by\s{0,9}([^()\n]{1,200})\)")
_RANGE = re.compile(r"#\s?(\d{1,3})(?:\s?[-–]\s?#?(\d{1,3}))?")


class Statement(NamedTuple):
    """A statement of a program.

    Args:
        number: its label.
        premises: numbers of the statements that it follows from; a premise of the question has none.
        text: without label and citation.
    """

    number: int
    premises: tuple[int, ...]
    text: str


def read_statements(text: str) -> list[Statement] | None:
    """Read a program: premises first, then steps that cite earlier statements; None where a text is none.

    A step without a citation would be believed like a premise, and one that cites nothing before it has no ground, so
    neither is a program.

    Args:
        text: what a model wrote; the program stands behind its thought.
    """
    reply = split_reasoning(text)[1]
    # A statement goes up to the next label, over as many lines as it has.
    labels = list(_LABEL.finditer(reply))
    statements: list[Statement] = []
    for position, label in enumerate(labels):
        is_last = position == len(labels) - 1
        stop = len(reply) if is_last else labels[position + 1].start()
        statement = _read_statement(int(label[1]), reply[label.end() : stop])
        has_step = bool(statements) and bool(statements[-1].premises)
        is_grounded = all(0 < premise < statement.number for premise in statement.premises)
        # Labels that skip or repeat a number make citations ambiguous.
        if statement.number != position + 1 or not statement.text or not is_grounded:
            return None
        # Behind the first step everything must be derived.
        if has_step and not statement.premises:
            return None
        statements.append(statement)
    # A program reasons: it has a premise, and a step.
    if not statements or statements[0].premises or not statements[-1].premises:
        return None
    return statements


def _read_statement(number: int, body: str) -> Statement:
    citation = _CITATION.match(body)
    if citation is None:
        return Statement(number, (), body.strip())
    premises: list[int] = []
    for first, last in _RANGE.findall(citation[1]):
        # "#1-#3" stands for all three; a range that goes down, or far up, is no citation.
        premises += range(int(first), int(last or first) + 1)
    if not premises:
        premises = [number]  # it cites something that is no statement: never grounded
    return Statement(number, tuple(dict.fromkeys(premises)), body[citation.end() :].strip())
