"""A question as numbered statements and what it asks: what selections and maps of premises refer to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.traces.reasoning_steps import find_units


def split_question(question: str) -> tuple[list[str], str]:
    """The statements of a question, and its last sentence, which asks."""
    sentences = [question[unit.start : unit.stop].strip() for unit in find_units(question)]
    if not sentences:
        return [], question.strip()
    return sentences[:-1], sentences[-1]


def number_statements(statements: Sequence[str], label: str) -> str:
    """The statements, one a line behind its label: `S1: …`."""
    return "\n".join(f"{label}{number}: {text}" for number, text in enumerate(statements, start=1))


def read_labels(text: str, label: str, count: int) -> list[int]:
    """The places of the statements that a text names, from 0, each once; numbers that none has are left out."""
    numbers = [int(number) for number in re.findall(rf"\b{label}(\d{{1,4}})\b", text)]
    return [number - 1 for number in dict.fromkeys(numbers) if 0 < number <= count]
