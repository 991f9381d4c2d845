"""Rewards of lengths and of modes of thinking, by hand and against the authors' formulas written out."""

from __future__ import annotations

import math
import statistics

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
from potstill.objectives import rewards
from potstill.objectives.rewards import REWARDS, Group

THOUGHTS = {
    "<think>\n2 + 2 = 4.\n</think>\n4": True,
    "2 + 2 = 4.\n</think>\n4": True,  # behind a prompt that opens the thought
    "no end": True,
    "</think>\n\n4": False,
    "<think>\n...\n</think>\n\n4": False,
}


def test_the_optimal_length_is_that_of_the_shortest_right_text_or_the_mean():
    assert rewards.optimal_length([10, 14, 8], [True, True, False]) == [0, -4, -2]
    assert rewards.optimal_length([10, 14, 6], [False] * 3) == [0, -4, -4]


def test_a_thought_without_a_word_is_none():
    assert {text: rewards.has_thought(text) for text in THOUGHTS} == THOUGHTS


def test_answering_at_once_pays_where_it_is_right():
    thought, right = [True, True, False, False], [True, False, True, False]
    assert rewards.mode_values(thought, right) == [1, 0, 2, -1]
    # Half and half: nothing is crowded.
    assert rewards.balanced_mode_values(thought, right) == [1, 0, 2, -1]
    # Three of four think: s = 0.75, f = 0.5.
    crowded = rewards.balanced_mode_values([True, True, True, False], [True, False, True, True])
    assert crowded == [0.5, -0.5, 0.5, 2]
    assert rewards.balanced_mode_values([False] * 2, [True, False]) == [1, -2]


def test_short_right_texts_and_long_wrong_ones_gain():
    thought, right, lengths = [True] * 4, [True, True, False, False], [10, 30, 10, 30]
    deviation = statistics.stdev([10, 30])
    more = [math.exp(-0.05 * z / deviation) - 1 for z in (-10, 10)]
    values = rewards.mode_values_by_length(thought, right, lengths)
    assert values == pytest.approx([1 + more[0], 1 + more[1], -more[0], -more[1]])
    assert values[0] > 1 > values[1] and values[2] < 0 < values[3]
    assert rewards.mode_values_by_length([True], [True], [5]) == [1]


def test_a_thought_that_never_ends_is_not_right():
    group = Group(["4", "</think>4"], [1, 2], 9, is_right=[True, True])
    assert REWARDS["thinking"].rule(group) == [0, 2]
    assert REWARDS["thinking_balanced"].of_batch and not REWARDS["thinking"].of_batch
