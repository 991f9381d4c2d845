"""What a text must be to become an ORION row, or to be shown as an error (all inferred)."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.methods.orion_prompts import LEAKS
from potstill.records import Trace


def finished(trace: Trace) -> bool:
    """The author stopped by itself."""
    return not trace.error and trace.finish == "stop"


def self_contained(trace: Trace) -> bool:
    """It does not mention what only the writer was shown."""
    low = trace.text.lower()
    return not any(leak in low for leak in LEAKS)


def alike(a: Trace, b: Trace) -> float:
    """Jaccard similarity of the two texts' word sets."""
    one, two = set(a.text.split()), set(b.text.split())
    return len(one & two) / max(1, len(one | two))


def repeated(words: Sequence[str], n: int) -> float:
    """Share of n-grams that stood there before: 0 without repetition, near 1 in a loop."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
