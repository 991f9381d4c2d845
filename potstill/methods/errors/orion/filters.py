"""What a text must be to become an ORION row, or to be shown as an error (inferred)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from potstill.methods.errors.orion.prompts import LEAKS
from potstill.methods.errors.orion.settings import Settings
from potstill.records import Trace
from potstill.traces import (
    ReferenceGate,
    has_box,
    has_length,
    is_finished,
    keep,
    keep_reasoned,
    mentions_none,
    repeats_little,
    verify,
)


def filter_rewrites(
    references: Sequence[Trace],
    is_right: Callable[[Trace], bool],
    gate: ReferenceGate,
    settings: Settings,
    rewrites: list[Trace],
) -> list[Trace]:
    """The rewrites that pass every filter.

    Args:
        references: the teacher's whole chains, also where their end was hidden or none was shown.
        is_right: the verifier's test.
        gate: how much of its reference a rewrite must show.
        settings: of length and repetition.
        rewrites: what was written.
    """
    # First the answer and its form, then what costs no verifier: the reasoning, and its length.
    rewrites = keep(is_right, verify(keep(is_finished, rewrites)))
    rewrites = keep(is_self_contained, keep(has_box, rewrites))
    rewrites = keep_reasoned(rewrites, references, gate=gate)
    has_right_length = partial(has_length, settings.min_new_tokens, settings.max_new_tokens)
    rewrites = keep(has_right_length, rewrites)
    return keep(partial(repeats_little, settings.max_repetition), rewrites)


def is_self_contained(trace: Trace) -> tuple[bool, str]:
    """It does not mention what only the writer was shown."""
    return mentions_none(LEAKS, trace)


def has_errors_to_show(trace: Trace) -> tuple[bool, str]:
    """Never: names the policy in the ledger."""
    return False, "the student made no error to be shown"
