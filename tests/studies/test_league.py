"""league: who takes part, what its page says of made-up figures; a method run in small is slow."""

from __future__ import annotations

import pytest

from potstill.methods import METHODS
from potstill.records import no_progress
from potstill.studies import league
from potstill.studies.league import SIZES, describe_study
from potstill.studies.league_entries import SPECIAL, Entry, list_entries, roles_of
from potstill.studies.league_run import (
    Cell,
    affordable_problems,
    is_done,
    recipe_of_cell,
    rehearse,
    run_cells,
)
from potstill.studies.study import StudySettings

PROBLEMS = [f"p{number}" for number in range(40)]
ROLES = {"teacher": "world:teacher", "student": "world:student"}


def runs_of(right: int, seeds: int = 3) -> list[dict]:
    """The figures of a method that answers the first so many problems right, with every seed."""
    run = {
        "problems": PROBLEMS,
        "shares": [float(number < right) for number in range(len(PROBLEMS))],
        "tokens": 50,
        "calls": {"teacher": 64, "judge": 32},
        "written_tokens": {},
        "tokens_by_phase": {"collection": 9000, "evaluation": 1},
        "rows": 60,
        "helpers": [],
    }
    return [run] * seeds


def method_of(right: int, seeds: int = 3, **other) -> dict:
    """What the figures have of one method."""
    nothing = {"left_out": "", "stopped": "", "roles": {}, "trials": [], "chosen": 0, "cpu": {}}
    return {"family": "chains", "runs": runs_of(right, seeds), **nothing, **other}


def figures_of(**methods) -> dict:
    """Figures of a league of these methods, beside a student that answers half of the problems."""
    return {
        "whole": {"methods": methods, "untrained": runs_of(20), "seeds": 3, "sizes": dict(SIZES)}
    }


def test_every_method_takes_part_once_and_who_is_named_is_there():
    entries = [entry.method for entry in list_entries()]
    assert sorted(entries) == sorted(METHODS) and set(SPECIAL) <= set(METHODS)
    for entry in list_entries():
        assert roles_of(entry, ROLES)["student"] == "world:student"
    assert roles_of(Entry("lema", {"corrector": "a"}), ROLES)["corrector"] == "a"
    assert roles_of(Entry("fair"), ROLES)["teachers"] == ["world:teacher", "world:oracle"]


def test_the_table_is_ordered_by_score_with_the_untrained_student_in_its_place():
    page = describe_study(figures_of(low=method_of(5), high=method_of(39), odd=method_of(30)))
    rows = page.tables["League"]
    assert [row["method"] for row in rows] == ["high", "odd", "*untrained*", "low"]
    assert rows[0]["teacher calls a problem"] == "1.0"
    assert rows[0]["other calls a problem"] == "0.5"
    assert len({tuple(row) for row in rows}) == 1  # the same columns in every row
    assert page.finding.startswith("Of 3 methods 3 were measured: 2 are above")
    assert "It is shown to be ahead of the next one." in page.finding


def test_a_student_that_is_helped_at_test_time_is_marked_and_not_the_first():
    helped = method_of(40, roles={"teacher": "world:oracle"})
    helped["runs"] = [{**helped["runs"][0], "helpers": ["teacher"]}] * 3
    page = describe_study(figures_of(helped=helped, alone=method_of(35)))
    assert page.tables["League"][0]["method"] == "helped † ‡"
    assert "whose student answers alone the first is alone (" in page.finding


def test_equals_are_not_ranked_and_missing_seeds_are_told():
    page = describe_study(figures_of(one=method_of(30), other=method_of(30, seeds=1)))
    assert "not shown to be ahead of the 1 that follow" in page.finding
    assert "1 of them have fewer than 3 seeds yet" in page.finding


def test_who_is_not_measured_is_listed_with_the_reason():
    page = describe_study(
        figures_of(
            a=method_of(30, roles={"teacher": "world:oracle"}),
            b=method_of(0, 0, left_out="too hard"),
            c=method_of(0, 0, stopped="no rows\n  expected: some"),
            d=method_of(0, 0),
        )
    )
    missing = page.sections["Not in the table"].splitlines()
    assert missing[0] == "- `b` is left out: too hard."
    assert missing[1] == "- `c` stopped: no rows"
    assert missing[2] == "- `d` has not been measured yet."
    assert page.sections["Who plays what"] == "- `a`: teacher is `world:oracle`"


def test_nothing_measured_says_so():
    figures = figures_of()
    figures["whole"]["untrained"] = []
    assert describe_study(figures).finding == "Nothing has been measured yet."


def test_the_budget_decides_how_many_problems_a_method_gets():
    assert affordable_problems({"train": 64, "tokens": 100}, 50) == 64
    assert affordable_problems({"train": 64, "tokens": 100}, 200) == 32
    assert affordable_problems({"train": 64, "tokens": 100}, 10**9) == 1
    assert affordable_problems({"train": 64, "tokens": 100}, 0) == 64


@pytest.mark.slow
def test_a_rehearsal_counts_trainings_and_calls():
    data = {"roles": ROLES, "problems": "world:story?size=64"}
    assert rehearse(data, Entry("sft")) == (1, 64)
    assert rehearse(data, Entry("redistill")).trainings == 3
    assert rehearse(data, Entry("sft_gold")) == (1, 0)


@pytest.mark.slow
@pytest.mark.long
def test_a_round_in_small_goes_on_where_it_stopped_and_a_method_that_stops_stops_alone(tmp_path):
    sizes = {**SIZES, "train": 8, "dev": 4, "test": 4, "n": 1, "steps": 2, "tokens": 800}
    settings = StudySettings(out=tmp_path, seeds=1, sizes=sizes, roles=ROLES)
    good, base, bad = Entry("sft"), Entry("sft_gold"), Entry("pad")  # no teacher writes programs
    for seed in (None, 0):
        run_cells(settings, [Cell(base, seed)], "first", no_progress)
        run_cells(settings, [Cell(good, seed), Cell(bad, seed)], "methods", no_progress)
    assert all(is_done(settings, Cell(entry, 0)) for entry in (good, base, bad))
    # What a trial used decides how many problems the budget is enough for.
    assert "size=8" in recipe_of_cell(settings, Cell(good, None))["problems"]
    assert "size=8" not in recipe_of_cell(settings, Cell(good, 0))["problems"]
    figures = league.collect_figures(settings)
    assert figures["methods"]["sft"]["runs"][0]["steps"] == 2
    assert "form that can be read" in figures["methods"]["pad"]["stopped"]
    assert len(figures["untrained"]) == 1 and describe_study({"short": figures}).finding
