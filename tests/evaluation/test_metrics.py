"""Scores against brute force over all subsets and against examples worked by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from demo_results import evaluation, row
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.evaluation import metrics
from potstill.evaluation.rows import Answer, Row


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_draw(
    right: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(right)))
    subsets = list(itertools.combinations(right, k))
    assert metrics.pass_at_k(len(right), sum(right), k) == pytest.approx(
        sum(map(any, subsets)) / len(subsets)
    )


@given(
    st.lists(st.lists(st.booleans(), min_size=2, max_size=3), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_nested_solve_is_the_share_of_plans_and_programs_that_solve(
    plans: list[list[bool]], m: int, t: int
) -> None:
    m = min(m, len(plans))
    tried = [
        any(itertools.chain(*programs))
        for chosen in itertools.combinations(plans, m)
        for programs in itertools.product(
            *(list(itertools.combinations(plan, t)) for plan in chosen)
        )
    ]
    weights = [
        Fraction(
            1,
            len(
                list(itertools.product(*(list(itertools.combinations(plan, t)) for plan in chosen)))
            ),
        )
        for chosen in itertools.combinations(plans, m)
        for _ in itertools.product(*(list(itertools.combinations(plan, t)) for plan in chosen))
    ]
    expected = sum(w for w, hit in zip(weights, tried, strict=True) if hit) / sum(weights)
    counts = [(len(plan), sum(plan)) for plan in plans]
    assert metrics.solve_at_plans(counts, m, t) == pytest.approx(float(expected))


def test_pass_at_1_is_the_average_and_pass_at_n_is_any() -> None:
    found = evaluation("a", "rwww", "rrww", "wwww")
    assert metrics.average(found).value == pytest.approx(3 / 12)
    assert metrics.pass_at(found, 1).value == pytest.approx(3 / 12)
    assert metrics.pass_at(found, 4).value == pytest.approx(2 / 3)
    with pytest.raises(ConfigError, match="pass@5 can't be estimated from 4 answers"):
        metrics.pass_at(found, 5)


def test_one_plan_makes_nested_solve_pass_at_k() -> None:
    found = evaluation("a", "rwww", "rrww", "wwww")
    assert metrics.solve_at(found, 1, 2) == metrics.pass_at(found, 2)


def _votes(*answers: tuple[str | None, str]) -> Row:
    return Row("p", tuple(Answer(status, answer) for answer, status in answers))


def test_the_majority_decides_even_when_it_is_wrong() -> None:
    assert metrics.majority_share(_votes(("5", "wrong"), ("7", "right"), ("5", "wrong"))) == 0
    assert metrics.majority_share(_votes(("5", "wrong"), ("7", "right"), ("7", "right"))) == 1
    assert metrics.majority_share(_votes(("5", "wrong"), ("7", "right"), ("7", "right")), 1) == 0


def test_a_tie_counts_as_its_share_of_right_answers_whatever_the_order() -> None:
    draws = [("5", "wrong"), ("7", "right"), ("9", "wrong"), ("5", "wrong"), ("7", "right")]
    assert {metrics.majority_share(_votes(*order)) for order in itertools.permutations(draws)} == {
        Fraction(1, 2)
    }
    assert metrics.majority_share(
        _votes(("5", "wrong"), ("7", "right"), ("9", "wrong"))
    ) == Fraction(1, 3)


def test_draws_without_an_answer_never_vote() -> None:
    silent = [(None, "unparsed"), (None, "unparsed"), (None, "error")]
    assert metrics.majority_share(_votes(*silent, ("7", "right"))) == 1
    assert metrics.majority_share(_votes(*silent)) == 0
    # An answer that the verifier could read but not judge has no vote either.
    assert metrics.majority_share(_votes(("5", "unjudged"), ("5", "unjudged"), ("7", "right"))) == 1


def test_failed_and_unparsed_draws_stay_in_the_denominator_and_are_shown() -> None:
    found = evaluation("a", "ruee", "rrww")
    assert metrics.average(found).value == pytest.approx(3 / 8)
    assert metrics.status_share(found, "unparsed") == 1 / 8
    assert metrics.status_share(found, "error") == 2 / 8


def test_steps_count_only_where_they_can_be_judged() -> None:
    assert metrics.step_accuracy(evaluation("a", "rw", "rr")) is None
    found = evaluation("a", "rrww", "wwww", steps=True)
    estimate = metrics.step_accuracy(found)
    assert estimate is not None and estimate.value == 0.25


def test_mean_tokens_leave_failed_draws_out() -> None:
    failed = Row("p", (Answer("right", "7", None, 30), Answer("error", None, None, 0)))
    found = evaluation("a", "rw", tokens=10)
    found = type(found)(found.name, (*found.rows, failed), found.fingerprint)
    assert metrics.mean_tokens(found).value == 20.0
    assert row("p", "rrw", tokens=4).tokens == 12
