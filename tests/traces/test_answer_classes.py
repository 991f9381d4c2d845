"""Classes of equal answers: votes, entropies and repeated answers are counted by what the verifier calls equal."""

from __future__ import annotations

import math

import pytest

from potstill import verifiers
from potstill.records import Problem, Trace, Verdict, blank
from potstill.traces import (
    agreement,
    answer_classes,
    answer_entropy,
    dedupe,
    read_answers,
    same_answer,
    score,
    verify,
    vote,
)

SUM = Problem("p", "Add 1, 2.", "3", kind="sum")


def answers(*values: int | None, problem: Problem = SUM) -> list[Trace]:
    """One trace each; leading zeros, so that no two texts are alike though the numbers may be."""
    traces = []
    for index, value in enumerate(values):
        text = "Hm" + "." * index if value is None else f"The answer is {'0' * index}{value}."
        traces.append(
            Trace(problem, problem.question, text=text, finish_reason="stop", operator="sample")
        )
    return traces


@pytest.mark.parametrize("judged", [False, True])
def test_equal_answers_are_one_class_judged_or_not(judged: bool) -> None:
    traces = answers(5, None, 7, 5, 7, 7)
    if judged:
        traces = verify(traces)
    assert answer_classes(traces) == [0, None, 1, 0, 1, 1]
    assert read_answers(traces)[:3] == ["5", None, "007"]


def test_right_answers_are_one_class_even_where_equality_does_not_see_it() -> None:
    texts = ("a quarter", "25%", "five")
    traces = []
    for text, status in zip(texts, ("right", "right", "wrong"), strict=True):
        verdict = Verdict(status, str(len(text)), "", "sum@1")  # type: ignore[arg-type]
        traces.append(
            Trace(SUM, SUM.question, text=text, operator="sample").annotate(verdict=verdict)
        )
    assert answer_classes(traces) == [0, 0, 1]


def test_problems_do_not_share_classes_and_failed_traces_have_none() -> None:
    other = Problem("q", "Add 2, 3.", "5", kind="sum")
    failed = Trace(SUM, SUM.question, error="timed out")
    traces = [*answers(5, 5), failed, blank(SUM), *answers(7, 5, problem=other)]
    assert answer_classes(traces) == [0, 0, None, None, 0, 1]


def test_the_majority_of_classes_is_elected_and_the_first_of_it_stands_for_it(book) -> None:
    traces = answers(7, 5, 9, 5, 7, 5)
    assert vote(traces) == [traces[1]]
    assert {drop.reason for drop in book.drops} == {"the group's vote: 3 of 6 for one answer"}
    assert vote(traces[:2]) == [traces[0]], "of a tie the first"
    silent = answers(None, None)
    assert vote(silent) == [silent[0]]


def test_the_entropy_is_that_of_classes() -> None:
    scored = score("entropy", answer_entropy, answers(5, 5, 7, 7))
    assert [trace.scores["entropy"] for trace in scored] == [pytest.approx(math.log(2))] * 4
    assert answer_entropy(answers(5, 5, None)) == [0.0] * 3
    assert answer_entropy(answers(None)) == [None]


def test_repeated_answers_are_dropped_and_silent_traces_stay() -> None:
    traces = answers(5, 7, 5, None, None)
    assert dedupe(same_answer(traces), traces) == [traces[0], traces[1], traces[3], traces[4]]


def test_equal_pairs_are_compared_once_and_then_come_from_the_cache(monkeypatch) -> None:
    compared: list[tuple[str, str]] = []

    def equal(items):
        compared.extend((first, second) for _, first, second in items)
        return [first.lstrip("0") == second.lstrip("0") for _, first, second in items]

    monkeypatch.setattr(verifiers, "equal", equal)
    first = answer_classes(answers(5, 7, 5, 7))
    assert len(compared) == len(set(compared)) > 0
    count = len(compared)
    assert answer_classes(answers(5, 7, 5, 7)) == first
    assert len(compared) == count


def test_agreement_is_the_share_of_its_problems_votes():
    other = Problem("q", "Add 2, 3.", "5", kind="sum")
    traces = [*answers(5, 7, None, 5, 5), *answers(1, problem=other)]
    scored = score("agreement", agreement, traces)
    assert [trace.scores["agreement"] for trace in scored] == [0.75, 0.25, None, 0.75, 0.75, 1.0]
