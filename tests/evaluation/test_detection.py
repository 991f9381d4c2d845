"""Scores as detectors: against brute force over pairs, hand-worked examples, and laws."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import InputError
from potstill.evaluation import detection

ITEMS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12).filter(
    lambda items: {event for _, event in items} == {True, False}
)


def split(items: list[tuple[int, bool]]) -> tuple[list[float], list[bool]]:
    return [float(score) for score, _ in items], [event for _, event in items]


@given(ITEMS)
@settings(max_examples=50, deadline=None)
def test_auroc_is_the_share_of_pairs_in_the_right_order(items: list[tuple[int, bool]]) -> None:
    scores, events = split(items)
    pairs = [(e, o) for e, o in itertools.product(items, items) if e[1] and not o[1]]
    ordered = sum((e[0] > o[0]) + (e[0] == o[0]) / 2 for e, o in pairs)
    assert detection.auroc(scores, events) == pytest.approx(ordered / len(pairs))


@given(ITEMS)
@settings(max_examples=30, deadline=None)
def test_laws_of_auroc(items: list[tuple[int, bool]]) -> None:
    scores, events = split(items)
    value = detection.auroc(scores, events)
    # Only the order counts; turned round, or with events and others changed places, it is the rest to 1.
    assert detection.auroc([math.exp(score) for score in scores], events) == value
    assert detection.auroc([-score for score in scores], events) == pytest.approx(1 - value)
    assert detection.auroc(scores, [not event for event in events]) == pytest.approx(1 - value)
    low, high = detection.auroc_interval(scores, events)[1:]
    assert 0 <= low <= value <= high <= 1


@given(ITEMS)
@settings(max_examples=30, deadline=None)
def test_average_precision_is_the_sum_over_thresholds(items: list[tuple[int, bool]]) -> None:
    scores, events = split(items)
    total, area, recall_before = sum(events), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [event for score, event in zip(scores, events, strict=True) if score >= threshold]
        recall, precision = sum(taken) / total, sum(taken) / len(taken)
        area += (recall - recall_before) * precision
        recall_before = recall
    assert detection.average_precision(scores, events) == pytest.approx(area)


def test_golden_values() -> None:
    # The example of scikit-learn's documentation: AUROC 0.75, average precision 0.83.
    scores, events = [0.1, 0.4, 0.35, 0.8], [False, False, True, True]
    assert detection.auroc(scores, events) == 0.75
    assert detection.average_precision(scores, events) == pytest.approx(0.8333, abs=1e-4)


def test_scikit_learn_says_the_same() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    generator = random.Random(1)
    events = [generator.random() < 0.3 for _ in range(200)]
    scores = [round(generator.gauss(event, 1), 1) for event in events]
    assert detection.auroc(scores, events) == pytest.approx(metrics.roc_auc_score(events, scores))
    expected = metrics.average_precision_score(events, scores)
    assert detection.average_precision(scores, events) == pytest.approx(expected)


def test_clusters_of_one_give_delongs_error() -> None:
    scores, events = [0.1, 0.4, 0.35, 0.8, 0.6], [False, False, True, True, False]
    # Placements of the events 1/3 and 1, of the others 1, 1/2 and 1/2 about the AUROC 2/3: SE^2 by hand.
    variance = ((1 / 3) ** 2 + (1 / 3) ** 2) / 1 / 2 + ((1 / 3) ** 2 + 2 * (1 / 6) ** 2) / 2 / 3
    half = detection.student_t_quantile(1) * math.sqrt(variance) / (2 / 3 * 1 / 3)
    low = 1 / (1 + math.exp(half - math.log(2)))
    interval = detection.auroc_interval(scores, events)
    assert interval.value == pytest.approx(2 / 3) and interval.low == pytest.approx(low)


def test_repeating_every_answer_makes_a_clustered_interval_no_narrower() -> None:
    generator = random.Random(3)
    events = [generator.random() < 0.4 for _ in range(60)]
    scores = [generator.gauss(event, 1) for event in events]
    once = detection.auroc_interval(scores, events, range(60))
    repeated = detection.auroc_interval(scores * 4, events * 4, list(range(60)) * 4)
    assert repeated == pytest.approx(once)
    assert detection.auroc_interval(scores * 4, events * 4).half < 0.6 * once.half


@pytest.mark.slow
@pytest.mark.parametrize("problems", [30, 100])
def test_coverage_with_answers_that_hang_together(problems: int) -> None:
    """A problem's difficulty moves its score and the chance of each of its four answers to be wrong."""
    generator = random.Random(9)

    def draw(count: int) -> tuple[list[float], list[bool], list[int]]:
        scores, events, clusters = [], [], []
        for problem in range(count):
            difficulty = generator.gauss(0, 1)
            for _ in range(4):
                scores.append(difficulty + generator.gauss(0, 0.3))
                events.append(generator.random() < 1 / (1 + math.exp(1 - 1.5 * difficulty)))
                clusters.append(problem)
        return scores, events, clusters

    truth = detection.auroc(*draw(30_000)[:2])
    hits = naive_hits = 0
    for _ in range(500):
        scores, events, clusters = draw(problems)
        interval = detection.auroc_interval(scores, events, clusters)
        hits += interval.low <= truth <= interval.high
        naive = detection.auroc_interval(scores, events)
        naive_hits += naive.low <= truth <= naive.high
    assert 0.92 <= hits / 500 <= 0.985
    assert naive_hits < hits  # an interval over single answers claims more than it knows


def test_a_perfect_score_of_few_items_is_not_certain() -> None:
    perfect = detection.auroc_interval([1.0, 2, 3, 4, 5, 6], [False] * 3 + [True] * 3)
    assert perfect.value == perfect.high == 1.0
    assert perfect.low == pytest.approx(0.025 ** (1 / 3))


def test_what_has_no_score_is_counted_and_what_cannot_be_told_apart_has_no_auroc() -> None:
    found = detection.detect([0.2, None, 0.9, None], [False, True, True, False])
    assert (found.auroc.value, found.events, found.scored, found.unscored) == (1.0, 1, 2, 2)
    assert detection.detect([0.2, 0.9], [True, True]) == (None, None, 2, 2, 0)
    with pytest.raises(InputError, match="0 of 2 items are events"):
        detection.auroc([0.2, 0.9], [False, False])
    with pytest.raises(InputError, match="a score of nan"):
        detection.auroc([0.2, math.nan], [False, True])


def test_calibration_error_by_hand() -> None:
    # Bins (0, .5] and (.5, 1]: 2/5 |.5 - .35| + 3/5 |1/3 - .8|.
    confidences, correct = [0.2, 0.5, 0.6, 0.8, 1.0], [False, True, True, False, False]
    expected = 2 / 5 * 0.15 + 3 / 5 * (0.8 - 1 / 3)
    assert detection.calibration_error(confidences, correct, bins=2) == pytest.approx(expected)
    assert detection.calibration_error([0.0, 1.0], [False, True]) == 0
    with pytest.raises(InputError, match=r"a confidence of 1\.5"):
        detection.calibration_error([1.5], [True])


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_area_under_risk_and_coverage_is_the_mean_over_the_orders_of_ties(
    items: list[tuple[int, bool]],
) -> None:
    areas = []
    for order in itertools.permutations(items):
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order)):
            wrong = list(itertools.accumulate(not correct for _, correct in order))
            areas.append(sum(w / n for n, w in enumerate(wrong, 1)) / len(order))
    scores, correct = split(items)
    expected = sum(areas) / len(areas)
    assert detection.area_under_risk_coverage(scores, correct) == pytest.approx(expected)


def test_risk_against_coverage_ends_with_all_answers() -> None:
    points = detection.risk_coverage([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
    assert points == [(0.9, 0.25, 0.0), (0.5, 0.75, pytest.approx(1 / 3)), (0.1, 1.0, 0.5)]
