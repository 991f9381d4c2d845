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

_PIECE = re.compile(r"…|\.\.\.|<[^<>\s…]{1,100}>|(?:(?!…|\.\.\.|<[^<>\s…]{1,100}>)\S)+")
_ANY = ("…", "...")


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the text has the form, else wrong with the first thing that is amiss."""
    pieces = _PIECE.findall(problem.answer or "")
    if not any(piece not in _ANY for piece in pieces):
        return Verdict(
            "unjudged", None, "the problem names no form, such as <answer>…</answer>", VERSION
        )
    why = amiss(pieces, text)
    return Verdict("wrong" if why else "right", None, why or "has the form", VERSION)


def example(form: str) -> str:
    """A text of the form."""
    return re.sub(r"…|\.\.\.", "x", form)


def amiss(pieces: list[str], text: str) -> str:
    """The first thing by which a text misses the form; "" where it has it."""
    for mark, count in Counter(piece for piece in pieces if piece not in _ANY).items():
        if text.count(mark) != count:
            return f"{mark[:40]} stands {text.count(mark)} times, not {count}"
    at, free = 0, False
    for piece in pieces:
        if piece in _ANY:
            free = True
            continue
        start = text.find(piece, at)
        between = text[at:start]
        if start < 0:
            return f"{piece[:40]} comes too early"
        if free != bool(between.strip()):
            return f"nothing before {piece[:40]}" if free else f"something before {piece[:40]}"
        at, free = start + len(piece), False
    rest = bool(text[at:].strip())
    return "" if rest == free else "something after the end" if rest else "nothing at the end"
