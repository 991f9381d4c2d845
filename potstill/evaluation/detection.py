"""How well a score tells what it is meant to detect: AUROC, average precision, calibration, risk against coverage.

A score is a number a trace or a problem, larger where the event is likelier ("this answer is wrong"); an event is a
boolean. Only the order of the scores counts, except for `calibration_error`, which takes them as probabilities.
Standard library only.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from potstill.errors import InputError
from potstill.evaluation.intervals import LEVEL, Estimate, check_numbers, student_t_quantile


class Detection(NamedTuple):
    """What a score is worth as a detector of an event.

    Args:
        auroc: the chance that an event scores higher than a non-event, with its interval; None where there is only one
            of the two.
        average_precision: area under precision against recall; None as above. A useless score has the share of events.
        events: how many of the scored items are events.
        scored: how many items have a score.
        unscored: how many have none, and are in none of the figures.
    """

    auroc: Estimate | None
    average_precision: float | None
    events: int
    scored: int
    unscored: int = 0


class CoveragePoint(NamedTuple):
    """Answering only what is at least this confident: how much is answered, and how much of that is wrong."""

    threshold: float
    coverage: float
    risk: float


@dataclass(slots=True)
class _Cluster:
    """The placements of the events and of the others of one problem, summed."""

    events: int = 0
    others: int = 0
    event_placements: float = 0.0
    other_placements: float = 0.0


def auroc(scores: Sequence[float], events: Sequence[bool]) -> float:
    """P(score of an event > score of a non-event) + P(equal) / 2: the area under the ROC curve.

    Equal to the Mann-Whitney statistic over the number of pairs (Hanley and McNeil, 1982). Ties count a half, so that
    the order of the items decides nothing.

    Args:
        scores: finite numbers, larger where the event is likelier.
        events: whether each is an event.

    Raises:
        InputError: there are only events, or none.
    """
    # Where each event lies among the sorted others: n log n in the place of all pairs.
    event_scores, other_scores = _split_scores(scores, events)
    placements = _placements(event_scores, sorted(other_scores))
    return math.fsum(placements) / len(event_scores)


def auroc_interval(
    scores: Sequence[float], events: Sequence[bool], clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """AUROC with a 95 % interval that takes the answers to one problem together.

    With `V(x)` the share of non-events below an event's score and `W(y)` the share of events above a non-event's,
    `SE^2 = S_VV / M^2 + S_WW / N^2 + 2 S_VW / (M N)`, `S` sums over clusters of products of their deviations, each
    times I / (I - 1) for I clusters (Obuchowski, 1997, Biometrics 53:567; DeLong et al., 1988, for clusters of one).
    The interval is symmetric in the logit, so that it stays within 0 and 1. Where SE is 0 it says nothing: then the
    other end is that of as many equal outcomes as there are clusters on the smaller side (Clopper and Pearson).

    Args:
        scores: larger where the event is likelier.
        events: whether each is an event.
        clusters: what hangs together, such as each answer's problem id; every item by itself where it is None.
    """
    # Clusters without an event, or without a non-event, count on one side only.
    cluster_sums = _sum_placements(scores, events, clusters)
    event_count, other_count = sum(events), len(events) - sum(events)
    value = math.fsum(cluster.event_placements for cluster in cluster_sums) / event_count
    size_e = _count_clusters([cluster.events for cluster in cluster_sums])
    size_o = _count_clusters([cluster.others for cluster in cluster_sums])

    # Deviations of a cluster's sums from what it would have at the mean.
    squares_e = squares_o = products = 0.0
    for cluster in cluster_sums:
        deviation_e = cluster.event_placements - cluster.events * value
        deviation_o = cluster.other_placements - cluster.others * value
        squares_e += deviation_e**2
        squares_o += deviation_o**2
        products += deviation_e * deviation_o
    variance = (
        _small_sample_factor(size_e) * squares_e / event_count**2
        + _small_sample_factor(size_o) * squares_o / other_count**2
        + 2 * _small_sample_factor(len(cluster_sums)) * products / (event_count * other_count)
    )
    # As certain as the rarer of the two lets it be.
    smaller_side = min(size_e, size_o)
    if variance <= 0 or not 0 < value < 1:
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / smaller_side)
        return Estimate(value, value - unseen * value, value + unseen * (1 - value))
    logit = math.log(value / (1 - value))
    half = student_t_quantile(smaller_side - 1) * math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, _logistic(logit - half), _logistic(logit + half))


def average_precision(scores: Sequence[float], events: Sequence[bool]) -> float:
    """`sum_i (R_i - R_(i-1)) P_i` over the distinct scores from the highest down: the area under precision and recall.

    Items of one score are taken together, so that their order decides nothing. A score that says nothing has the share
    of events (Davis and Goadrich, 2006; scikit-learn's `average_precision_score`).
    """
    _split_scores(scores, events)
    total_events = sum(events)
    # A step of recall for each distinct score, at the precision that it brings.
    area, taken, events_taken = 0.0, 0, 0
    for size, block_events in _tied_blocks(scores, events):
        taken += size
        events_taken += block_events
        area += block_events / total_events * (events_taken / taken)
    return area


def detect(
    scores: Sequence[float | None],
    events: Sequence[bool],
    clusters: Sequence[Hashable] | None = None,
) -> Detection:
    """Everything about a score as a detector of an event; items without a score are counted and left out.

    Args:
        scores: larger where the event is likelier; None where nobody can tell.
        events: whether each item is an event, such as a wrong answer.
        clusters: what hangs together, such as each answer's problem id.
    """
    _check_lengths(scores, events)
    names = range(len(events)) if clusters is None else clusters
    _check_lengths(names, events)
    scored_values: list[float] = []
    scored_events: list[bool] = []
    scored_clusters: list[Hashable] = []
    for value, event, cluster in zip(scores, events, names, strict=True):
        if value is not None:
            scored_values.append(value)
            scored_events.append(event)
            scored_clusters.append(cluster)
    # Of events alone, or of none, nothing can be told apart.
    count, event_count = len(scored_values), sum(scored_events)
    unscored = len(events) - count
    if event_count in (0, count):
        return Detection(None, None, event_count, count, unscored)
    return Detection(
        auroc_interval(scored_values, scored_events, scored_clusters),
        average_precision(scored_values, scored_events),
        event_count,
        count,
        unscored,
    )


def calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = 10
) -> float:
    """`sum_b n_b / n |share correct in b - mean confidence in b|` over bins of equal width (ECE).

    Guo et al., arXiv:1706.04599, equation 3. A bin holds its upper end, the first also 0.

    Args:
        confidences: probabilities of being correct, in [0, 1].
        correct: whether each was.
        bins: how many bins [0, 1] is cut into.
    """
    _check_lengths(confidences, correct)
    if bins < 1:
        raise InputError(f"bins={bins}", expected="a whole number above 0")
    outside = [value for value in confidences if not 0 <= value <= 1]
    if outside:
        raise InputError(
            f"a confidence of {outside[0]}",
            expected="probabilities from 0 to 1",
            fix="give the share of votes, or another probability; AUROC takes any score",
        )
    # A confidence of 0.3 is in the bin (0.2, 0.3].
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, is_correct in zip(confidences, correct, strict=True):
        place = max(0, math.ceil(confidence * bins) - 1)
        members[place].append((confidence, is_correct))
    # An empty bin has no gap; the weight of a bin is its share of all items.
    error = 0.0
    for pairs in members:
        gap = math.fsum(is_correct - confidence for confidence, is_correct in pairs)
        error += abs(gap) / len(confidences)
    return error


def risk_coverage(confidences: Sequence[float], correct: Sequence[bool]) -> list[CoveragePoint]:
    """Risk against coverage, from the most confident down: one point for each distinct confidence.

    El-Yaniv and Wiener (2010); Geifman and El-Yaniv, arXiv:1705.08500.
    """
    _check_scores(confidences, correct)
    # A threshold takes all of one confidence, or none: within a tie there is no order to choose from.
    thresholds = sorted(set(confidences), reverse=True)
    wrong = [not is_correct for is_correct in correct]
    points: list[CoveragePoint] = []
    answered = errors = 0
    for threshold, (size, block_errors) in zip(
        thresholds, _tied_blocks(confidences, wrong), strict=True
    ):
        answered += size
        errors += block_errors
        points.append(CoveragePoint(threshold, answered / len(correct), errors / answered))
    return points


def area_under_risk_coverage(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """Mean risk over the coverages 1/n, 2/n, …, 1 (AURC); a tie counts as the mean over its orders."""
    _check_scores(confidences, correct)
    wrong = [not is_correct for is_correct in correct]
    # One risk a coverage, from the most confident answer on.
    risks: list[float] = []
    answered, errors = 0, 0.0
    for size, block_errors in _tied_blocks(confidences, wrong):
        # In a random order of the tied ones, i of them hold i / size of their errors on average.
        for place in range(1, size + 1):
            risks.append((errors + block_errors * place / size) / (answered + place))
        answered += size
        errors += block_errors
    return math.fsum(risks) / len(risks)


def _split_scores(
    scores: Sequence[float], events: Sequence[bool]
) -> tuple[list[float], list[float]]:
    """The scores of the events, and those of the others; both are there."""
    _check_scores(scores, events)
    # Not a number would compare as neither above nor below, and count as nothing.
    event_scores: list[float] = []
    other_scores: list[float] = []
    for score, event in zip(scores, events, strict=True):
        if event:
            event_scores.append(score)
        else:
            other_scores.append(score)
    if not event_scores or not other_scores:
        raise InputError(
            f"{len(event_scores)} of {len(scores)} items are events",
            expected="some that are and some that are not: else nothing can be told apart",
        )
    return event_scores, other_scores


def _placements(values: Sequence[float], ordered: Sequence[float]) -> list[float]:
    """For each value the share of an ordered list that lies below it; equals count a half."""
    # Scores often take few values: each is looked up once.
    share_of_value: dict[float, float] = {}
    for value in set(values):
        below = bisect.bisect_left(ordered, value)
        not_above = bisect.bisect_right(ordered, value)
        share_of_value[value] = (below + not_above) / (2 * len(ordered))
    return [share_of_value[value] for value in values]


def _sum_placements(
    scores: Sequence[float], events: Sequence[bool], clusters: Sequence[Hashable] | None
) -> list[_Cluster]:
    """The sums of placements of each cluster."""
    names = list(range(len(scores))) if clusters is None else list(clusters)
    _check_lengths(names, events)
    event_scores, other_scores = _split_scores(scores, events)
    event_placements = iter(_placements(event_scores, sorted(other_scores)))
    # A non-event is well placed where events lie above it.
    other_placements = iter(_placements(other_scores, sorted(event_scores)))
    sums: dict[Hashable, _Cluster] = {name: _Cluster() for name in names}
    for name, event in zip(names, events, strict=True):
        cluster = sums[name]
        if event:
            cluster.events += 1
            cluster.event_placements += next(event_placements)
        else:
            cluster.others += 1
            cluster.other_placements += 1 - next(other_placements)
    return list(sums.values())


def _tied_blocks(scores: Sequence[float], events: Sequence[bool]) -> list[tuple[int, int]]:
    """(items, events) of each distinct score, from the highest down."""
    blocks: dict[float, tuple[int, int]] = {}
    for score, event in sorted(zip(scores, events, strict=True), reverse=True):
        size, block_events = blocks.get(score, (0, 0))
        blocks[score] = (size + 1, block_events + event)
    return list(blocks.values())


def _count_clusters(sizes: Sequence[int]) -> int:
    return sum(size > 0 for size in sizes)


def _small_sample_factor(clusters: int) -> float:
    """I / (I - 1); of a single cluster nothing can be said, and its deviations are 0."""
    return clusters / max(1, clusters - 1)


def _logistic(value: float) -> float:
    # The form that overflows at neither end.
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def _check_lengths(values: Sequence[object], events: Sequence[object]) -> None:
    if len(values) != len(events) or not values:
        raise InputError(
            f"{len(values)} values and {len(events)} outcomes",
            expected="one outcome a value, and at least one",
        )


def _check_scores(scores: Sequence[float], events: Sequence[bool]) -> None:
    _check_lengths(scores, events)
    check_numbers(scores, "score")
