"""The paragraphs of a text, as verifiers of steps are shown them."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.records import Span
from potstill.traces.reasoning_steps import find_units


def find_paragraphs(text: str) -> list[Span]:
    """Find the parts between blank lines; of a text without a blank line its sentences and lines."""
    units = find_units(text)
    if "\n\n" not in text.strip():
        return units
    # Sentences of one paragraph are joined again: only a blank line divides.
    paragraphs: list[Span] = []
    for unit in units:
        if not paragraphs or text.endswith("\n\n", 0, unit.start):
            paragraphs.append(unit)
        else:
            paragraphs[-1] = paragraphs[-1]._replace(stop=unit.stop)
    return paragraphs


def split_paragraphs(text: str) -> list[str]:
    """The texts of the paragraphs."""
    return [text[paragraph.start : paragraph.stop] for paragraph in find_paragraphs(text)]


def first_wrong_paragraph(paragraphs: Sequence[Span], steps: Sequence[Span]) -> int | None:
    """The number, from 0, of the paragraph with the first step that a verifier calls wrong; None where none is.

    Args:
        paragraphs: of a text, in order.
        steps: its judged steps, spans with a score of 1 or 0.
    """
    wrong_starts = [step.start for step in steps if step.score == 0]
    if not wrong_starts:
        return None
    # A step may begin within a paragraph: it is in the last one that begins at it or before.
    first = min(wrong_starts)
    starts = [number for number, paragraph in enumerate(paragraphs) if paragraph.start <= first]
    return starts[-1] if starts else None
