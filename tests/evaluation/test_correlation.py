"""Correlation within problems: by hand, with its confounds, and where it can't be told."""

from __future__ import annotations

import random

import pytest

from potstill.errors import ConfigError
from potstill.evaluation.correlation import pairwise_auc, rank_correlation


def test_within_problems_by_hand():
    # Between the problems score and outcome rise together; within each they fall.
    scores, outcomes = [1, 2, 3, 11, 12, 13], [3, 2, 1, 13, 12, 11]
    found = rank_correlation(scores, outcomes, "aaabbb", resamples=50)
    assert found.estimate.value == -1 and (found.groups, found.values, found.left_out) == (2, 6, 0)
    one = rank_correlation([1, 2, 3], [1, 3, 2], "aaa", resamples=50)
    assert one.estimate == (pytest.approx(0.5), -1, 1), "one problem: nobody knows of others"


def test_problems_without_differences_are_counted_and_say_nothing():
    found = rank_correlation([1, 2, 5, 5, 1, 2], [1, 2, 1, 2, 7, 7], "aabbcc", resamples=20)
    assert found.estimate.value == 1 and (found.groups, found.left_out) == (1, 2)
    assert rank_correlation([1, 1], [1, 2], "aa").estimate is None
    assert rank_correlation([], [], "").estimate is None
    with pytest.raises(ConfigError, match="one value of each kind"):
        rank_correlation([1], [1, 2], "aa")


def made(size=60, per_problem=6):
    """Length decides both the score and the outcome; nothing else connects them."""
    rng = random.Random(3)
    rows = []
    for problem in range(size):
        for _ in range(per_problem):
            length = rng.random()
            rows.append((length + rng.gauss(0, 0.2), length + rng.gauss(0, 0.2), length, problem))
    return zip(*rows, strict=True)


def test_a_control_takes_out_what_it_explains():
    scores, outcomes, lengths, problems = made()
    plain = rank_correlation(scores, outcomes, problems, resamples=100).estimate
    partial = rank_correlation(
        scores, outcomes, problems, controls=[lengths, lengths], resamples=100
    ).estimate
    assert plain.low > 0.4 and abs(partial.value) < 0.1 and partial.low < 0 < partial.high


def test_the_interval_covers_the_value_and_is_the_same_each_time():
    scores, outcomes, _, problems = made(20)
    first = rank_correlation(scores, outcomes, problems, resamples=200, seed=1)
    assert first.estimate.low < first.estimate.value < first.estimate.high
    assert rank_correlation(scores, outcomes, problems, resamples=200, seed=1) == first


def test_pairs_by_hand():
    found = pairwise_auc([3, 2, 1, 5], [1, 1, 0, 0], "aaab", resamples=20)
    assert found.estimate.value == 1 and (found.groups, found.values, found.left_out) == (1, 2, 1)
    assert pairwise_auc([1, 1], [0, 1], "aa").estimate.value == 0.5
    assert pairwise_auc([1, 2], [1, 1], "aa").estimate is None
