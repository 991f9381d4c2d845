"""The report's sections of instruments."""

from __future__ import annotations

import dataclasses

from demo_results import evaluation, nested_evaluation, results

from potstill.evaluation.results import Results
from potstill.report import instruments
from potstill.report.page import render_page


def test_a_run_shows_what_gives_wrong_answers_away_and_what_students_cost():
    page = render_page(results())
    assert "What gives wrong answers away" in page and "has an ECE of" in page
    assert "Accuracy against cost" in page and "Plans and programs" not in page
    section = instruments.total_cost_section(results())
    assert "generation tokens" in section.content and "FLOPs" not in section.content


def test_answers_of_several_plans_have_a_surface():
    nested = nested_evaluation(["rw", "ww"], ["ww", "rr"])
    page = render_page(Results("", 0, evaluations={"explain": nested}))
    assert "Plans and programs" in page and "solve@(M,T)" in page


def test_nothing_is_shown_of_one_answer_a_problem_and_of_no_costs():
    single = Results("", 0, evaluations={"a": evaluation("a", "r", "w")})
    assert instruments.scores_section(single) is None
    assert instruments.total_cost_section(single) is None
    assert instruments.surface_section(single) is None
    unmeasured = dataclasses.replace(results(), evaluations={})
    assert instruments.total_cost_section(unmeasured) is None
