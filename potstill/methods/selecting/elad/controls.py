"""What EGSS costs, measured, and how many annotations the same cost buys: the control random-same-cost.

Costs are in prompt tokens of the student: `Settings.completion_price` prompt tokens for a completion token, and
`Settings.teacher_price` for a token of the teacher. Both are assumptions; that they decide the outcome is the point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from potstill.methods.selecting.elad.selection import in_chance_order, score_candidates
from potstill.methods.selecting.elad.settings import Selection, Settings
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import using
from potstill.traces.session import current_session
from potstill.traces.usage import UsageMeter


@contextmanager
def count_calls() -> Iterator[UsageMeter]:
    """Count the calls that operators make in a `with` block; a method must not yield inside of it."""
    meter = UsageMeter()
    with using(dataclasses.replace(current_session(), usage=meter)):
        yield meter


class Spent(NamedTuple):
    """What some annotations have cost: how many there are, the student's chains for them, and the teacher's work."""

    annotations: int
    selecting: UsageMeter
    annotating: UsageMeter


def token_cost(meter: UsageMeter, settings: Settings) -> float:
    """What the calls of a meter cost: prompt tokens, and completion tokens at their price in prompt tokens."""
    cost = 0.0
    for by_role in meter.by_problem().values():
        for usage in by_role.values():
            cost += usage.prompt_tokens + settings.completion_price * usage.completion_tokens
    return cost


def count_more_annotations(
    student: Model, problems: Sequence[Trace], spent: Spent, selection: Selection
) -> int:
    """How many annotations more cost what EGSS on the pool would: (C_EGSS - C_chains) / c_annotation.

    Args:
        student: whom EGSS would ask.
        problems: the pool that it would score, as blank traces.
        spent: what annotations have cost in this round.
        selection: how EGSS would score.
    """
    settings = selection.settings
    chains_cost = token_cost(spent.selecting, settings)
    annotations_cost = chains_cost + settings.teacher_price * token_cost(spent.annotating, settings)
    if not spent.annotations or not annotations_cost:
        return 0

    # Its samples are drawn for the measure alone: no chain of them becomes a row.
    # EGSS is measured on a few problems, and asked of all of them in the figure.
    sampled = in_chance_order(problems, settings.selection_seed)[: settings.cost_sample]
    with count_calls() as measuring:
        egss = dataclasses.replace(selection, arm="egss")
        score_candidates(student, sampled, egss)
    egss_cost = token_cost(measuring, settings) * len(problems) / max(1, len(sampled))
    return max(0, int((egss_cost - chains_cost) / (annotations_cost / spent.annotations)))
