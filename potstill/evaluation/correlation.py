"""Does a score that a search improves foretell what is wanted? Rank correlation within problems, with intervals.

Whether low-perplexity reasoning is better reasoning is asked within a problem: between problems, easy ones have both
low perplexity and good answers, whatever the reasoning. So values are ranked within each problem, ranks centred, and
what is left is correlated over all problems together. Intervals resample problems, the unit that is drawn; of a single
one nobody knows how much it says of others, so its interval is the whole range.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

from potstill.errors import ConfigError
from potstill.evaluation.intervals import LEVEL, Estimate, check_numbers

RESAMPLES = 2000

_Group = TypeVar("_Group")


class Correlation(NamedTuple):
    """A correlation with its interval, and what it was measured on.

    Args:
        estimate: the value with the ends of its 95 % interval; None where no problem tells anything.
        groups: problems whose values differ in both, which alone say something.
        values: pairs of values of these problems.
        left_out: problems without a difference to rank.
    """

    estimate: Estimate | None
    groups: int
    values: int
    left_out: int


def rank_correlation(
    scores: Sequence[float],
    outcomes: Sequence[float],
    groups: Sequence[Hashable],
    *,
    controls: Sequence[Sequence[float]] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Spearman's correlation of a score with an outcome within groups, with a bootstrap interval over groups.

    rho = corr(r(score), r(outcome)) with r the rank within the group, ties in the middle, minus the mean rank and
    divided by its size. With controls it is the partial correlation: what a linear fit on the controls' centred ranks
    explains is taken from both first.

    Args:
        scores: one a trace, such as by how much its perplexity fell.
        outcomes: one a trace, such as a judge's preference.
        groups: the problem of each trace.
        controls: further values, one a trace each, such as length and leakage.
        resamples: of the groups, for the interval.
        seed: of the resampling.
    """
    columns = [list(scores), list(outcomes), *(list(control) for control in controls)]
    _check_columns(columns, groups)
    indices_by_group: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        indices_by_group.setdefault(group, []).append(index)

    # A problem whose scores or outcomes are all equal says nothing of their connection.
    ranked_groups: list[list[list[float]]] = []
    for indices in indices_by_group.values():
        ranked = [_centred_ranks([column[index] for index in indices]) for column in columns]
        if any(ranked[0]) and any(ranked[1]):
            ranked_groups.append(ranked)
    left_out = len(indices_by_group) - len(ranked_groups)
    value_count = sum(len(ranked[0]) for ranked in ranked_groups)
    estimate = _bootstrap(_pooled_correlation, ranked_groups, -1.0, resamples, seed)
    return Correlation(estimate, len(ranked_groups), value_count, left_out)


def pairwise_auc(
    scores: Sequence[float],
    outcomes: Sequence[float],
    groups: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """How often, of two traces of a group with different outcomes, the one with the higher score has the better one.

    Equal scores count half; 0.5 is chance. Arguments as of `rank_correlation`.
    """
    _check_columns([scores, outcomes], groups)
    members: dict[Hashable, list[tuple[float, float]]] = {}
    for score, outcome, group in zip(scores, outcomes, groups, strict=True):
        members.setdefault(group, []).append((score, outcome))
    counts = [_count_ordered_pairs(pairs) for pairs in members.values()]
    telling = [count for count in counts if count[1]]
    estimate = _bootstrap(_pooled_share, telling, 0.0, resamples, seed)
    pair_count = sum(total for _, total in telling)
    return Correlation(estimate, len(telling), pair_count, len(counts) - len(telling))


def _check_columns(columns: Sequence[Sequence[float]], groups: Sequence[Hashable]) -> None:
    lengths = [len(column) for column in columns]
    if set(lengths) - {len(groups)}:
        raise ConfigError(
            f"{len(groups)} groups, and values by {lengths}",
            expected="one value of each kind a trace",
        )
    for column in columns:
        if column:
            check_numbers(column)


def _centred_ranks(values: Sequence[float]) -> list[float]:
    """Ranks within a group divided by its size, ties in the middle, minus their mean."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        # Equal values share the middle of their ranks.
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for index in order[start:stop]:
            ranks[index] = (start + stop - 1) / 2
        start = stop
    middle = (len(values) - 1) / 2
    return [(rank - middle) / len(values) for rank in ranks]


def _pooled_correlation(groups: Sequence[list[list[float]]]) -> float | None:
    """Pearson's correlation of the first two columns over all groups, the others taken out of both."""
    columns: list[list[float]] = [[] for _ in groups[0]]
    for ranked in groups:
        for column, values in zip(columns, ranked, strict=True):
            column += values
    first, second, *controls = columns
    # Gram-Schmidt: each control without the controls before it, then both columns without all of them.
    basis: list[list[float]] = []
    for control in controls:
        basis.append(_without(control, basis))
    return _cosine(_without(first, basis), _without(second, basis))


def _without(column: list[float], basis: Sequence[list[float]]) -> list[float]:
    """A column without its parts along the columns of an orthogonal basis."""
    for direction in basis:
        square = _dot(direction, direction)
        if square > 1e-12:
            share = _dot(column, direction) / square
            column = [value - share * part for value, part in zip(column, direction, strict=True)]
    return column


def _cosine(first: Sequence[float], second: Sequence[float]) -> float | None:
    norms = math.sqrt(_dot(first, first) * _dot(second, second))
    if norms < 1e-12:
        return None
    return max(-1.0, min(1.0, _dot(first, second) / norms))


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return math.fsum(map(operator.mul, first, second))


def _count_ordered_pairs(pairs: Sequence[tuple[float, float]]) -> tuple[float, int]:
    """Of pairs with different outcomes, how many the score orders rightly, and how many there are."""
    ordered, total = 0.0, 0
    for index, (score, outcome) in enumerate(pairs):
        for other_score, other_outcome in pairs[:index]:
            if outcome == other_outcome:
                continue
            total += 1
            if score == other_score:
                ordered += 0.5
            elif (score > other_score) == (outcome > other_outcome):
                ordered += 1
    return ordered, total


def _pooled_share(counts: Sequence[tuple[float, int]]) -> float | None:
    return math.fsum(ordered for ordered, _ in counts) / sum(total for _, total in counts)


def _bootstrap(
    statistic: Callable[[Sequence[_Group]], float | None],
    groups: Sequence[_Group],
    lowest: float,
    resamples: int,
    seed: int,
) -> Estimate | None:
    """The statistic of all groups (`lowest` to 1), with the percentile interval over resampled groups."""
    value = statistic(groups) if groups else None
    if value is None:
        return None
    if len(groups) == 1:
        return Estimate(value, lowest, 1.0)
    rng = random.Random(seed)
    resampled: list[float] = []
    for _ in range(resamples):
        one = statistic(rng.choices(groups, k=len(groups)))
        if one is not None:
            resampled.append(one)
    resampled.sort()
    tail = (1 - LEVEL) / 2
    low = resampled[int(tail * (len(resampled) - 1))]
    high = resampled[math.ceil((1 - tail) * (len(resampled) - 1))]
    return Estimate(value, low, high)
