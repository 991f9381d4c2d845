"""Whether a text has the required form, such as `<think>…</think><answer>…</answer>`; what it says is not looked at.

`problem.answer` is the form: its marks in order, each exactly as often as there, `…` (or `...`) for text that is not
blank. White space between marks is free; nothing may stand before the first or after the last. For a regular expression
take the kind regex.
"""

from __future__ import annotations

import re
from collections import Counter

from potstill.records import Problem, Verdict

VERSION = "format@1"
JUDGES_WHOLE_TEXT = True  # its marks are part of the form

# An ellipsis, a tag, or any other run of characters without white space.
_PIECE = re.compile(r"…|\.\.\.|<[^<>\s…]{1,100}>|(?:(?!…|\.\.\.|<[^<>\s…]{1,100}>)\S)+")
_ELLIPSES = ("…", "...")


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the text has the form, else wrong with the first thing that is amiss."""
    pieces = _PIECE.findall(problem.answer or "")
    if all(piece in _ELLIPSES for piece in pieces):
        return Verdict(
            "unjudged", None, "the problem names no form, such as <answer>…</answer>", VERSION
        )
    difference = _first_difference(pieces, text)
    if difference:
        return Verdict("wrong", None, difference, VERSION)
    return Verdict("right", None, "has the form", VERSION)


def read(problem: Problem, text: str) -> str | None:
    """Return None: a form is no answer."""
    return None


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two texts are one."""
    return first == second


def gold_text(problem: Problem) -> str:
    """Return a text of the form."""
    return re.sub(r"…|\.\.\.", "x", problem.answer or "")


def _first_difference(pieces: list[str], text: str) -> str:
    """The first thing by which a text misses the form; "" where it has it."""
    counts = Counter(piece for piece in pieces if piece not in _ELLIPSES)
    for mark, count in counts.items():
        if text.count(mark) != count:
            return f"{mark[:40]} stands {text.count(mark)} times, not {count}"

    # Walk through the marks in order: between two of them there is text exactly where the form has an ellipsis.
    position = 0
    needs_text = False
    for piece in pieces:
        if piece in _ELLIPSES:
            needs_text = True
            continue
        start = text.find(piece, position)
        if start < 0:
            return f"{piece[:40]} comes too early"
        has_text = bool(text[position:start].strip())
        if needs_text and not has_text:
            return f"nothing before {piece[:40]}"
        if has_text and not needs_text:
            return f"something before {piece[:40]}"
        position, needs_text = start + len(piece), False
    has_text = bool(text[position:].strip())
    if has_text and not needs_text:
        return "something after the end"
    if needs_text and not has_text:
        return "nothing at the end"
    return ""
