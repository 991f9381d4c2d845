"""Demonstrations in a question: lines `Input: …` and `Output: …`, and at the end an input without an output."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from potstill.records import Trace

_HEADING = re.compile(r"^(Input|Output)(?: \d{1,3})?:", re.MULTILINE)
_LIST = re.compile(r"\[[^\[\]]*\]")


class Demonstration(NamedTuple):
    """An input with its output; "" is the output that is asked for."""

    input: str
    output: str


def read_demonstrations(question: str) -> list[Demonstration]:
    """The inputs of a question with their outputs, in order; an input without an output has ""."""
    headings = list(_HEADING.finditer(question))
    demonstrations: list[Demonstration] = []
    for place, heading in enumerate(headings):
        stop = headings[place + 1].start() if place + 1 < len(headings) else len(question)
        # Behind an empty line the question goes on in words.
        body = question[heading.end() : stop].strip().partition("\n\n")[0]
        if heading[1] == "Input":
            demonstrations.append(Demonstration(body, ""))
        elif demonstrations:
            demonstrations[-1] = demonstrations[-1]._replace(output=body)
    return demonstrations


def examples_of(trace: Any) -> list[Demonstration]:
    """The demonstrations of a problem, without the input that is asked for."""
    return [example for example in read_demonstrations(trace.question) if example.output]


def has_demonstrations(trace: Trace) -> tuple[bool, str]:
    """Its question shows inputs with their outputs."""
    return bool(examples_of(trace)), "no demonstration in the question"


def is_same_output(text: str, wanted: str) -> bool:
    """Whether a text is an output: the first list in it where that is a list, else the text; white space aside."""
    if wanted.startswith("["):
        match = _LIST.search(text)
        return match is not None and "".join(match[0].split()) == "".join(wanted.split())
    return text.split() == wanted.split()
