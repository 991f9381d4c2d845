"""The sentences of a chain's reasoning, and which of them only look back: checks, corrections, other methods."""

from __future__ import annotations

import re
from collections.abc import Mapping

from potstill.records import Span, Trace
from potstill.traces.reasoning_steps import find_units, without_last_line

# Kinds of functional sentences, each with what the first words of one look like. "let me check" and "I made a mistake"
# are PIR's (arXiv:2505.19187), the others ours.
FUNCTIONAL: Mapping[str, str] = {
    "correction": r"wait\b|hmm+\b|oops|i made (?:a|an) (?:mistake|error)|start again|actually,|hold on",
    "verification": r"(?:let me |let's |now |to )*(?:double[- ]?check|check|verify|confirm)(?:ing)?\b",
    "alternative": r"alternatively|another (?:way|approach|method)|let me try (?:a different|another)",
}

# Bounded, so that a text of nothing but openings is read in no time.
_FORMULA = re.compile(
    r"\\\[.{0,1000}?\\\]|\$\$.{0,1000}?\$\$|\\begin\{(\w{1,20}\*?)\}.{0,1000}?\\end\{\1\}",
    re.DOTALL,
)
_SIGN = re.compile(r"[=+*/<>]|\\(?:times|cdot|le|ge|approx)\b")


def step_starts(text: str) -> list[int]:
    """Where the sentences of the reasoning begin, and where the answer does: behind the thought, or the last line."""
    start, stop = reasoning_part(text)
    formulas = [(match.start(), match.end()) for match in _FORMULA.finditer(text, start, stop)]
    starts: list[int] = []
    for unit in find_units(text[start:stop]):
        place = start + unit.start
        # A formula goes with the sentence before it, whole, and so does what begins with a sign: "4! = 24".
        in_formula = any(first <= place < last for first, last in formulas)
        if not in_formula and not _SIGN.match(text, place):
            starts.append(place)
    return [place for place in (*starts, stop) if 0 < place < len(text)]


def reasoning_part(text: str) -> tuple[int, int]:
    """What stands in the thought; of a text without one all but its last line, which states the answer."""
    opening, closing = text.find("<think>"), text.find("</think>")
    if closing >= 0:
        return opening + len("<think>") if opening >= 0 else 0, closing
    return 0, len(without_last_line(text))


def reasoning_units(trace: Trace) -> list[Span]:
    """The sentences of a chain's reasoning, in order."""
    start, stop = reasoning_part(trace.text)
    units = [span for span in trace.spans if span.kind == "unit"]
    return [unit for unit in units if start <= unit.start < stop]


def marked_kind(sentence: str) -> str:
    """The functional kind that a sentence's first words name; "" where no marker does."""
    for kind, marker in FUNCTIONAL.items():
        if re.match(rf"\W*(?:{marker})", sentence, re.IGNORECASE):
            return kind
    return ""
