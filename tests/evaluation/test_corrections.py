"""Where the first error is, who finds it, and what corrections did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.errors import InputError
from potstill.evaluation.corrections import corrections, error_location, first_error
from potstill.records import Problem, Span, Trace, Verdict, blank
from potstill.traces import verify
from potstill.world import story


def answer(problem: str, status: str, error: str = "") -> Trace:
    trace = replace(blank(Problem(problem, "?", "1")), text="1", error=error)
    return trace.annotate(verdict=Verdict(status))  # type: ignore[arg-type]


def steps(*scores: float | None) -> Trace:
    spans = [Span(place, place + 1, "step", 1.0, score) for place, score in enumerate(scores)]
    return replace(answer("p", "wrong"), spans=(Span(0, 9, "unit"), *reversed(spans)))


def test_the_first_wrong_step_has_a_number_from_1() -> None:
    assert first_error(steps(1.0, 0.0, 0.0)) == 2
    assert first_error(steps(1.0, None, 0.0)) == 3
    assert first_error(steps(1.0, 1.0)) == 0
    assert first_error(steps(None)) is None and first_error(steps()) is None


def test_it_is_found_in_a_story_that_was_judged() -> None:
    [problem] = story.problems("story", size=1, split="train")
    assert problem.question.startswith("Eva has 8 shells. Then Eva buys 17. Then Eva triples")
    text = "8 + 17 = 25. Then 25 * 3 = 74. So \\boxed{74}."
    [judged] = verify([replace(blank(problem), text=text, finish_reason="stop")])
    assert first_error(judged) == 2


def test_locations_are_compared_with_the_true_ones() -> None:
    location = error_location([2, 1, 3, 0, None, 0, 4, None], [2, 2, 2, 2, 2, 0, 0, 0])
    assert location.located.value == pytest.approx(1 / 5)
    assert location.cleared.value == pytest.approx(1 / 3)
    assert location[2:] == (1, 1, 1, 2)
    assert location.f1 == pytest.approx(2 * (1 / 5) * (1 / 3) / (1 / 5 + 1 / 3))
    nothing_wrong = error_location([0], [0])
    assert nothing_wrong.located is None and nothing_wrong.f1 is None


def test_corrections_are_counted_both_ways() -> None:
    before = [
        answer("a", "wrong"),
        answer("a", "unparsed"),
        answer("b", "right"),
        answer("c", "right"),
    ]
    after = [
        answer("a", "right"),
        answer("a", "wrong"),
        answer("b", "right"),
        answer("c", "right", "x"),
    ]
    found = corrections(before, after)
    assert (found.fixed, found.still_wrong, found.broken, found.still_right) == (1, 1, 1, 1)
    assert found.success.value == 0.5 and found.harm.value == 0.5 and found.failed == 1
    assert corrections(before[:1], after[:1]).harm is None


def test_what_is_not_paired_or_not_judged_is_refused() -> None:
    with pytest.raises(InputError, match="not of the same problems"):
        corrections([answer("a", "wrong")], [answer("b", "right")])
    with pytest.raises(InputError, match="1 answers were never judged"):
        corrections([answer("a", "unjudged")], [answer("a", "right")])


def test_a_chain_that_nobody_judged_has_no_first_error_to_locate():
    with pytest.raises(InputError, match="none of its steps was judged"):
        error_location([None, 2], [None, 2])
