"""Overlap of selected sets, and the noise floor of a probe."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import InputError
from potstill.evaluation import selections
from potstill.records import Problem

SETS = st.sets(st.integers(0, 6))


@given(SETS, SETS)
@settings(max_examples=30, deadline=None)
def test_laws_of_jaccard(first: set[int], second: set[int]) -> None:
    value = selections.jaccard(first, second)
    assert 0 <= value <= 1 and value == selections.jaccard(second, first)
    assert (value == 1) == (first == second)
    if first | second:
        assert value == len(first & second) / len(first | second)


def test_every_two_sets_stand_beside_what_chance_would_share() -> None:
    overlaps = selections.overlaps(
        {"change": [1, 2, 3], "same": [3, 4], "inter": [1, 2, 3]}, pool=10
    )
    assert [overlap[:4] for overlap in overlaps] == [
        ("change", "same", 0.25, 1),
        ("change", "inter", 1.0, 3),
        ("same", "inter", 0.25, 1),
    ]
    assert overlaps[0].by_chance == pytest.approx(0.6)
    assert selections.overlaps({"a": [1], "b": [2]})[0].by_chance is None
    with pytest.raises(InputError, match="3 selected out of 2"):
        selections.overlaps({"a": [1, 2, 3]}, pool=2)


def test_the_noise_floor_counts_different_answers_and_leaves_out_what_was_not_read() -> None:
    one, two = Problem("one", "?", "1"), Problem("two", "?", "2")
    problems = [one, one, one, two, two]
    first = ["0.5", "3", None, "7", "7"]
    second = [r"\frac{1}{2}", "4", "1", "7", "8"]
    floor = selections.noise_floor(problems, first, second)
    assert (floor.changed, floor.compared, floor.unread) == (2, 4, 1)
    assert floor.share.value == 0.5 and floor.share.low < 0.5 < floor.share.high
    with pytest.raises(InputError, match="no pair of which both answers can be read"):
        selections.noise_floor([one], ["1"], [None])


def test_change_above_noise_is_paired() -> None:
    above = selections.above_noise([0.6, 0.5, 0.4, 0.7], [0.1, 0.1, 0.0, 0.2])
    assert above.value == pytest.approx(0.45) and above.low > 0
