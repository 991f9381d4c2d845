"""The steps of a chain: where they begin, how a prompt numbers them, and a chain made of two writers' steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.records import Span

# "Step 3:", "**Step 3.**", "step 3)".
_LABEL = re.compile(r"(?:\*\*)?step\s+(\d+)\s*[:.)](?:\*\*)?\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
_LINE_END = re.compile(r"\s*\n\s*")


def find_steps(text: str) -> list[Span]:
    """Where each step of a chain stands: its lines, or the sentences of a chain of one line without labels.

    Returns:
        Spans of the kind "step", without the white space between them.
    """
    start = len(text) - len(text.lstrip())
    stop = len(text.rstrip())
    is_one_line = "\n" not in text[start:stop] and step_number(text[start:stop]) is None
    separator = _SENTENCE_END if is_one_line else _LINE_END
    steps: list[Span] = []
    for match in separator.finditer(text, start, stop):
        steps.append(Span(start, match.start(), "step"))
        start = match.end()
    if start < stop:
        steps.append(Span(start, stop, "step"))
    return steps


def strip_label(step: str) -> str:
    """A step without the "Step 3:" before it."""
    label = _LABEL.match(step)
    return step[label.end() :] if label is not None else step


def step_number(step: str) -> int | None:
    """The number in a step's label; None without one."""
    label = _LABEL.match(step)
    return int(label[1]) if label is not None else None


def number_steps(steps: Sequence[str], *, first: int = 1) -> str:
    """Steps as prompts and corrections show them: one a line behind its number."""
    lines: list[str] = []
    for number, step in enumerate(steps, first):
        lines.append(f"Step {number}: {strip_label(step)}")
    return "\n".join(lines)


def number_chain(text: str) -> str:
    """A chain with its steps numbered, one a line."""
    return number_steps([text[step.start : step.stop] for step in find_steps(text)])


def beginning_of_chain(text: str, number: int) -> str:
    """What a chain says before this step, with the white space that goes on to it."""
    steps = find_steps(text)
    if number > len(steps):
        return text
    return text[: steps[number - 1].start]


def join_steps(chain: str, steps: Sequence[str], *, first: int) -> str:
    """Steps written as those of `chain` are: one a line with or without labels, or as the sentences of one line.

    Args:
        chain: whose manner is taken.
        steps: of another writer, without labels.
        first: the number of the first of them.
    """
    # Lines stay lines, and what has labels gets labels.
    separator = "\n" if "\n" in chain.strip() else " "
    if step_number(chain.lstrip()) is not None:
        return separator.join(number_steps(steps, first=first).split("\n"))
    return separator.join(steps)
