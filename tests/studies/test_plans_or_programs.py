"""What the study of plans and programs says is chosen from its figures; the study itself is run in small."""

from __future__ import annotations

import dataclasses

import pytest

from potstill.evaluation.nested import Shape
from potstill.records import no_progress
from potstill.runs.recipe import from_data
from potstill.studies import plans_or_programs as study
from potstill.studies.page import render_page
from potstill.studies.study import StudySettings

PLANS_DECIDE = [(4, 4), (4, 4), (4, 0), (4, 0)]  # (programs, right ones) of each plan
PROGRAMS_DECIDE = [(4, 1)] * 4
ALL_RIGHT, NONE_RIGHT = [(4, 4)] * 4, [(4, 0)] * 4
PROBLEMS = 40


def runs_of(plans, *, plan_cost=100.0, program_cost=50.0):
    """Three seeds of an arm whose problems all have these plans."""
    right = sum(count for _, count in plans) / sum(size for size, _ in plans)
    run = {
        "problems": [f"p{number}" for number in range(PROBLEMS)],
        "shares": [right] * PROBLEMS,
        "plans": [plans] * PROBLEMS,
        "plan_cost": plan_cost,
        "program_cost": program_cost,
        "tokens": 50,
        "calls": {},
        "written_tokens": {},
    }
    return [run] * 3


def figures(plans=PLANS_DECIDE, **changes):
    alone = runs_of([(16, 8)], plan_cost=0.0)
    stories = {"untrained": alone, "explain": runs_of(plans), "solve-based": alone}
    stories["solve-based-1e-3"] = runs_of([(16, 9)], plan_cost=0.0)
    stories["zero-shot-editorial"] = runs_of(NONE_RIGHT)
    tasks = {"untrained": alone, "explain": runs_of(plans), "explain-wrong": runs_of(NONE_RIGHT)}
    pairings = {}
    for planner in study.PLANNERS:
        for coder in study.CODERS:
            pairings[f"{planner} x {coder}"] = runs_of(ALL_RIGHT if planner == "oracle" else plans)
    sizes = {f"size_{name}": value for name, value in study.SIZES.items()}
    made = {"stories": stories, "programs": tasks, "pairings": pairings, "seeds": 3, **sizes}
    return {**made, "roles": dict(study.ROLES), **changes}


def finding(**values):
    return study.describe_finding(figures(**values))


def test_the_surface_is_that_of_the_nested_estimator():
    runs = runs_of(PLANS_DECIDE)
    assert study.solved(runs, Shape(1, 4)).value == pytest.approx(1 / 2)
    assert study.solved(runs, Shape(2, 1)).value == pytest.approx(1 - 1 / 6)
    assert study.solved(runs_of([(16, 8)]), Shape(1, 2)).value == pytest.approx(1 - 56 / 240)
    table = study.surface_table(runs)
    assert [row["plans M"] for row in table] == ["1", "2", "3", "4"]
    assert table[0]["T = 4"].startswith("50.0 [") and table[3]["T = 1"].startswith("100.0 [")


def test_seeds_are_a_level_of_the_interval():
    mixed = [runs_of(ALL_RIGHT)[0], runs_of(NONE_RIGHT)[0]]
    assert study.solved_shares(mixed, Shape(1, 1)) == [[1.0] * PROBLEMS, [0.0] * PROBLEMS]
    # Two seeds that say the opposite say nothing, on however many problems.
    value, low, high = study.solved(mixed, Shape(1, 1))
    assert value == 0.5 and low < 0.1 and high > 0.9


def test_a_shape_costs_its_plans_and_its_programs():
    assert study.shape_cost(runs_of(PLANS_DECIDE), Shape(3, 2)) == 3 * 100 + 6 * 50


@pytest.mark.slow
def test_the_finding_says_which_shape_solves_more():
    said = finding()
    assert "On stories 4 plans with one program each solve more than one plan with 4 (+50.0" in said
    assert "4 plans take 600 tokens a story, one plan 300." in said
    assert "For those 600 tokens a story" in said
    assert "one plan with 4 programs solves more than 4 plans" in finding(plans=PROGRAMS_DECIDE)
    assert "are not shown to differ (+0.0" in finding(plans=ALL_RIGHT)


def test_the_finding_compares_with_solving_with_wrong_solutions_and_with_plans_that_are_right():
    said = finding(plans=ALL_RIGHT)
    assert "Explain, with the oracle as its coder, is above solve-based-1e-3 (+43.8" in said
    assert "On program tasks, explain is above explain from solutions that fail (+100.0" in said
    assert "this coder is right in 100.0 %; the Reasoner's plans cost +0.0" in said
    assert "no evidence for large models" in said


def test_plans_differ_where_some_lead_to_a_right_program():
    [row] = study.plan_table({"stories": [*runs_of(PLANS_DECIDE), *runs_of(ALL_RIGHT)]})
    assert list(row.values()) == ["stories", "50 %", "50 %", "0 %", "75 %"]
    [row] = study.plan_table({"tasks": runs_of(PROGRAMS_DECIDE)})
    assert list(row.values()) == ["tasks", "100 %", "0 %", "0 %", "0 %"]


def test_losses_are_counted_against_the_oracles_plans():
    rows = study.pairing_table(figures()["pairings"])
    row = next(row for row in rows if (row["planner"], row["coder"]) == ("explain", "coder"))
    assert row["right"] == "50.0 %" and row["carrying-out loss"] == "0.0"
    assert row["planning loss"].startswith("+50.0")


def test_a_budget_buys_the_best_of_all_arms():
    rows = study.budget_table(figures()["stories"])
    assert rows[0]["best"] == "solve-based-1e-3, 1 drawn"
    assert rows[-1]["solved"] == "100.0 %"


def test_the_arms_of_program_tasks_differ_in_the_solutions_alone(tmp_path):
    settings = StudySettings(out=tmp_path, seeds=1, sizes=study.SIZES, roles=study.ROLES)
    arms = from_data(study.program_recipe(settings, 0)).arms
    explain, wrong = (arms[name].values["settings"] for name in (study.EXPLAIN, study.WRONG))
    assert wrong == dataclasses.replace(explain, oracle="sampled-wrong")
    assert explain.sections == ("step_by_step",) and explain.programs == 4


@pytest.mark.slow
def test_the_page_says_that_the_oracle_plays_roles_and_how_often_its_coder_slips():
    page = study.describe_study(figures())
    text = render_page("plans-or-programs", page, question="?", fingerprint={}, command="c")
    assert "plays the Explainer and the Coder" in text and "slips in 10 % of its" in text
    assert len(page.chart.series) == 5


@pytest.mark.slow
@pytest.mark.long
def test_the_study_runs_in_small_and_runs_again_from_what_is_there(tmp_path):
    sizes = {**study.SIZES, "train": 12, "test": 3, "program_train": 4, "program_test": 2}
    sizes = {**sizes, "plans": 2, "programs": 2, "steps": 2}
    settings = StudySettings(out=tmp_path, seeds=1, sizes=sizes, roles=study.ROLES)
    first = study.run_study(settings, no_progress)
    assert study.run_study(settings, no_progress) == first
    page = study.describe_study(first)
    assert "On stories" in page.finding
