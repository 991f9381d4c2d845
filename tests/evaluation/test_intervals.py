"""Intervals: known quantiles, a difference worked by hand, and coverage by simulation."""

from __future__ import annotations

import math
import random

import pytest

from potstill.evaluation.intervals import (
    difference_interval,
    mean_interval,
    share_interval,
    student_t_quantile,
)


@pytest.mark.parametrize(
    ("freedom", "expected", "within"),
    [
        (1, 12.7062, 1e-3),
        (2, 4.3027, 1e-3),
        (3, 3.1824, 0.05),
        (4, 2.7764, 0.02),
        (10, 2.2281, 1e-3),
        (199, 1.9720, 1e-4),
    ],
)
def test_students_t(freedom: int, expected: float, within: float) -> None:
    assert student_t_quantile(freedom) == pytest.approx(expected, abs=within)


def test_a_paired_difference_by_hand() -> None:
    # Differences .5 .25 0 .25: mean .25, squares about it .0625 0 .0625 0, SE = sqrt(.125 / 12) = .102062.
    found = difference_interval([0.5, 0.25, 0.0, 0.25])
    assert found.value == 0.25
    half = student_t_quantile(3) * math.sqrt(0.125 / 12)
    assert (found.low, found.high) == (pytest.approx(0.25 - half), pytest.approx(0.25 + half))


def test_equal_differences_are_judged_as_by_a_sign_test() -> None:
    assert difference_interval([1.0] * 5).low < 0 < difference_interval([1.0] * 6).low
    assert difference_interval([0.0] * 50).low < 0 < difference_interval([0.0] * 50).high
    assert difference_interval([1.0]).low < 0


def test_an_interval_never_leaves_0_to_1_nor_collapses() -> None:
    none, every = share_interval([0.0] * 20, 80), share_interval([1.0] * 20, 80)
    assert none.low == 0.0 and 0.1 < none.high < 0.25
    assert every.high == 1.0 and 0.75 < every.low < 0.9
    single = share_interval([1.0], 4)
    assert single.low < 0.1


def test_draws_that_always_agree_are_worth_one_draw_a_problem() -> None:
    agreeing = [1.0] * 30 + [0.0] * 70
    spread = [0.25, 0.25, 0.5, 0.25, 0.25] * 20
    assert share_interval(agreeing, 400).half > 1.8 * share_interval(spread, 400).half
    assert share_interval(agreeing, 400).half == pytest.approx(
        share_interval(agreeing, 100).half, rel=0.02
    )


@pytest.mark.slow
@pytest.mark.parametrize(("problems", "centre"), [(30, 0.5), (100, 0.1)])
def test_coverage_of_the_share_with_draws_that_hang_together(problems: int, centre: float) -> None:
    """Each problem has its own chance (beta distributed) that its four draws share."""
    generator, hits, runs = random.Random(1), 0, 1500
    for _ in range(runs):
        chances = [generator.betavariate(0.5 * centre, 0.5 * (1 - centre)) for _ in range(problems)]
        values = [sum(generator.random() < chance for _ in range(4)) / 4 for chance in chances]
        found = share_interval(values, 4 * problems)
        hits += found.low <= centre <= found.high
    assert 0.935 <= hits / runs <= 0.985


def test_coverage_of_the_paired_difference() -> None:
    generator, hits, runs = random.Random(2), 0, 1500
    truth = _expected_gain()  # E[min(1, x + .1) - x] for x ~ Beta(.5, .5), by the arcsine law
    for _ in range(runs):
        values = []
        for _ in range(40):
            chance = generator.betavariate(0.5, 0.5)
            better = min(1.0, chance + 0.1)
            drawn = [sum(generator.random() < p for _ in range(4)) / 4 for p in (better, chance)]
            values.append(drawn[0] - drawn[1])
        found = difference_interval(values)
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / runs <= 0.98


def _expected_gain(steps: int = 20_000) -> float:
    points = (math.sin(math.pi * (i + 0.5) / (2 * steps)) ** 2 for i in range(steps))
    return sum(min(1.0, x + 0.1) - x for x in points) / steps


def test_a_mean_by_hand() -> None:
    found = mean_interval([10.0, 20.0, 30.0])
    assert found.value == 20.0
    assert found.half == pytest.approx(4.3027 * math.sqrt(200 / 6), rel=1e-4)
