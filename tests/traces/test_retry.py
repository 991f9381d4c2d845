"""retry and split_by: what has not passed is tried again, and nothing is lost in silence."""

from __future__ import annotations

import pytest

from potstill.errors import ConfigError
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Trace, blank
from potstill.traces import keep, problem, retry, right, sample, split_by, verify

SCRIPT = {
    "1 + 1": ["The answer is 2"],
    "2 + 2": ["The answer is 5", "The answer is 4"],
    "3 + 3": ["The answer is 1", "The answer is 2", "The answer is 3", "The answer is 6"],
}
SUMS = [blank(Problem(f"p{n}", f"{n} + {n}", str(n + n))) for n in (1, 2, 3)]


def test_a_problem_is_tried_until_one_of_its_texts_passes(book):
    writer = ScriptedModel(SCRIPT)
    tries = []

    def attempt(traces: list[Trace], number: int) -> list[Trace]:
        tries.append(([trace.problem.id for trace in traces], number))
        return keep(right, verify(sample(writer, traces, sample_index=number)))

    passing, first_share = retry(attempt, SUMS, 3)
    assert [trace.text for trace in passing] == ["The answer is 2", "The answer is 4"]
    assert (first_share.part, first_share.whole) == (1, 3)
    assert tries == [(["p1", "p2", "p3"], 0), (["p2", "p3"], 1), (["p3"], 2)]
    assert [drop.trace.text for drop in book.drops] == [f"The answer is {n}" for n in (5, 1, 2, 3)]


def test_retry_ends_when_all_have_passed_and_refuses_no_try():
    def never(traces, number):
        raise AssertionError("it was called on nothing")

    assert retry(never, [], 2).passing == []
    with pytest.raises(ConfigError, match="tries=0"):
        retry(never, SUMS, 0)


def test_split_by_divides_by_key_and_drops_nothing(book):
    failed = Trace(SUMS[1].problem, "2 + 2", error="down", operator="sample")
    matching, remaining = split_by([SUMS[0], failed], SUMS, by=problem)
    assert [trace.problem.id for trace in matching] == ["p1"]
    assert [trace.problem.id for trace in remaining] == ["p2", "p3"] and not book.drops
