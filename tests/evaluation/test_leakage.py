"""Leakage of an answer into its reasoning: anchors, and means over problems."""

from __future__ import annotations

import pytest

from potstill.evaluation.leakage import LeakageParts, measure_leakage, summarise_leakage
from potstill.records import Problem, Trace

X = "Write of a lighthouse keeper who hears the sea speak."
Y = (
    "Every night the keeper climbed ninety steps with a can of oil and a question, and every night the sea answered "
    "with one slow word that he wrote down in his ledger under the date."
)
PLAN = "He climbs. He asks. Something replies; he keeps a record. End on the date."


def test_anchors_from_nothing_to_the_answer_itself():
    nothing, plan, half, whole = (
        measure_leakage(LeakageParts(X, z, Y)) for z in ("", PLAN, Y[: len(Y) // 2], Y)
    )
    assert (nothing.rouge_l_recall, nothing.containment_4, nothing.longest_run) == (0, 0, 0)
    assert plan.containment_4 == 0 and 0 < plan.rouge_l_recall < 0.2 and plan.longest_run == 2
    assert 0.2 < half.containment_13 < half.containment_8 < half.containment_4 < 0.6
    assert (whole.rouge_l_recall, whole.containment_13, whole.longest_run_share) == (1, 1, 1)


def test_a_short_answer_has_no_long_ngrams():
    leakage = measure_leakage(LeakageParts("How many?", "It is 12 eggs.", "12 eggs"))
    assert (leakage.rouge_l_recall, leakage.containment_4, leakage.longest_run) == (1, None, 2)
    assert measure_leakage(LeakageParts(X, PLAN, "")).longest_run_share is None


def test_means_are_over_problems_and_failures_do_not_count():
    def trace(name, text, error=""):
        return Trace(Problem(name, X), X, text=text, error=error)

    traces = [trace("a", Y), trace("a", Y), trace("b", ""), trace("b", Y, error="down")]
    summary = summarise_leakage(traces, lambda one: LeakageParts(X, one.text, Y))
    assert summary["containment_8"].value == pytest.approx(0.5)
    assert summary["containment_8"].low < 0.5 < summary["containment_8"].high
    assert summarise_leakage([], lambda one: LeakageParts(X, "", Y))["longest_run"] is None
