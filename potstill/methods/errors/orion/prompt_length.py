"""What ORION's writer is shown where a reference and its attempts are long: attempts give way first (inferred)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.methods.errors.orion.settings import Settings
from potstill.records import Trace
from potstill.traces.keys import grouped
from potstill.traces.prompts import fill, numbered

LEAST = 400  # characters that every attempt keeps, its end: where it went is said there
CUT = "\n[…]\n"


def shown(template: str, s: Settings, trace: Trace, attempts: Sequence[Trace] = ()) -> str:
    """The template filled within `s.room`: a prompt function; the question is never cut."""
    text, told = fitted(trace.text, [t.text for t in attempts], s)
    return fill(template, {"question": trace.question, "text": text, "attempts": numbered(told)})


def fitted(reference: str, attempts: Sequence[str], s: Settings) -> tuple[str, list[str]]:
    """Reference and attempts in `s.room` characters: attempts keep their ends, a reference its beginning and its end.

    A reference that is too long even so loses the end of its exploration: what stands before `</think>`, or else before
    its last paragraph. The last `s.hidden` of it is not shown in any case.
    """
    reference = reference[: len(reference) - round(s.hidden * len(reference))]
    left, told = s.room - len(reference), dict.fromkeys(range(len(attempts)), "")
    for done, i in enumerate(sorted(told, key=lambda i: len(attempts[i]))):
        size = min(len(attempts[i]), max(LEAST, left // (len(attempts) - done)))
        told[i], left = attempts[i][len(attempts[i]) - size :], left - size
    if left >= 0:
        return reference, list(told.values())
    space = max(0, left + len(reference) - len(CUT))
    found = max(
        reference.rfind("</think>"), -1 if "</think>" in reference else reference.rfind("\n\n")
    )
    start = max(
        len(reference) - LEAST if found < 0 else found, len(reference) - space // 2
    )  # of the end that stays
    return reference[: space - (len(reference) - start)] + CUT + reference[start:], list(
        told.values()
    )


def left_out(
    s: Settings, mistakes: Sequence[Trace], by: Callable[[Trace], str], bases: Sequence[Trace]
) -> list[float | str | None]:
    """Characters of reference and attempts that the prompt of each base will not show: a scorer."""
    groups = grouped(mistakes, by)
    texts = [(t.text, [a.text for a in groups.get(by(t), [])]) for t in bases]
    return [_size(*whole) - _size(*fitted(*whole, s)) for whole in texts]


def _size(reference: str, attempts: Sequence[str]) -> int:
    return len(reference.replace(CUT, "")) + sum(map(len, attempts))
