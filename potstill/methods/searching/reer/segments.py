"""The segments of a thought or a response: paragraphs, joined where they are short."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

# A break inside display math is none.
_DISPLAY_MATH = re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]", re.DOTALL)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_NEWLINE = re.compile(r"\n\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

SegmentUnit: TypeAlias = Literal["paragraph", "sentence"]


def split_segments(text: str, min_chars: int, unit: SegmentUnit = "paragraph") -> tuple[str, ...]:
    """Split a text at blank lines, or at newlines where that gives one segment; joined, the segments are the text.

    Where the unit is the sentence, behind the marks that end one.

    Display math stays whole, and a piece shorter than `min_chars` characters is joined with the one behind it, the last
    one with the one before it. Each segment keeps the white space behind it.
    """
    separator = _SENTENCE_END if unit == "sentence" else _BLANK_LINES
    pieces = _split_at(separator, text)
    if len(pieces) < 2 and unit == "paragraph":
        pieces = _split_at(_NEWLINE, text)
    # Short pieces wait for the one behind them.
    segments: list[str] = []
    pending = ""
    for piece in pieces:
        pending += piece
        if len(pending.strip()) >= min_chars:
            segments.append(pending)
            pending = ""
    # A short last piece has none behind it.
    if pending and segments:
        segments[-1] += pending
    elif pending:
        segments.append(pending)
    return tuple(segments)


def _split_at(separator: re.Pattern[str], text: str) -> list[str]:
    """The pieces of a text, each with the separator behind it."""
    math_stretches = [match.span() for match in _DISPLAY_MATH.finditer(text)]
    pieces: list[str] = []
    position = 0
    for match in separator.finditer(text):
        is_in_math = any(start < match.start() < stop for start, stop in math_stretches)
        if not is_in_math:
            pieces.append(text[position : match.end()])
            position = match.end()
    pieces.append(text[position:])
    return [piece for piece in pieces if piece]
