"""orion-arms: what its page says of made-up figures, and what its runs share; the study itself in small is slow."""

from __future__ import annotations

import pytest

from potstill.evaluation.intervals import Estimate
from potstill.records import no_progress
from potstill.studies import orion_arms, orion_tables
from potstill.studies.chart import render_svg
from potstill.studies.orion_arms import SIZES, describe_study
from potstill.studies.orion_run import WorldRun, share_work
from potstill.studies.orion_worlds import OWN, STORY, UNTRAINED, WRITTEN_ARMS
from potstill.studies.study import StudySettings, run_in_folder

PROBLEMS = [f"p{number}" for number in range(40)]


def cell(right, problems=PROBLEMS):
    """What an arm came to that answers the first so many problems right."""
    shares = [float(number < right) for number in range(len(problems))]
    return {
        "problems": problems,
        "shares": shares,
        "step_shares": shares,
        "passes": shares,
        "tokens": 50,
        "unparsed": 0.0,
        "rows": 30,
        "steps": 32,
        "loss_tokens": 900,
        "train_seconds": 2.0,
        "perplexity": 1.2,
        "calls": {},
        "written_tokens": {"student": 300},
    }


def figures(seeds=3, **right):
    """Figures of all arms at 20 of 40, but for those that are named (with _ for -)."""
    scores = dict.fromkeys([UNTRAINED, *WRITTEN_ARMS], 20)
    scores |= {name.replace("_", "-"): value for name, value in right.items()}
    cells = {}
    for name, score in scores.items():
        cells[name] = {str(seed): cell(score) for seed in range(seeds)}
    row = {"question": "1 * 1?", "answer": "1", "text": "1 * 1 = 1.\n<b>"}
    rows = {
        "words": 40.0,
        "stepless": 0.5,
        "copied": {"teacher": 0.25, "errors": None},
        "chain_recall": 0.5,
        "kept": {"never": [1, 4]},
        "shown": [row],
    }
    return {
        "seeds": seeds,
        "sizes": dict(SIZES),
        "roles": {},
        "row_counts": {str(seed): dict.fromkeys(WRITTEN_ARMS, 30) for seed in range(seeds)},
        "matched_rows": {str(seed): 30 for seed in range(seeds)},
        "trials": {"matched": {OWN: [10.0, 30.0]}},
        "choices": {"matched": {OWN: 1}},
        "cells": {"matched": cells, "unmatched": {}},
        "rows": dict.fromkeys(WRITTEN_ARMS, rows),
        "answer_probability": {OWN: 0.9},
        "cpu": {"matched-0": 120.0},
        "reading": "I read them.",
    }


def page_of(**right):
    return describe_study({"built-in": figures(**right)})


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        ({OWN: 36}, "claim of more than 2 % over all baselines holds there."),
        ({OWN: 10}, "claim of more than 2 % over all baselines does not hold there."),
        ({OWN: 36, "rft": 35}, "claim of more than 2 % over all baselines stays open there."),
    ],
)
def test_the_claim_is_judged_by_the_intervals(right, sentence):
    assert sentence in page_of(**right).finding


def test_a_baseline_is_above_below_or_not_told_apart():
    finding = page_of(own=30, sft=20, sft_gold=38, rft=29, p_align=21, euler=20).finding
    assert finding.startswith(
        "In the built-in world, at equal rows and steps and over three seeds, "
    )
    # A lead that is turned round has no sign.
    for part in (
        "gains +25.0 [",
        "more than sft on the teacher's chains (by 25.0 [",
        ", P-ALIGN (by 22.5 [",
        " and EULER (by 25.0 [",
        "less than sft on the problems' own solutions (by 20.0 [",
        "and not told apart from rft on its own right samples (+2.5 [",
    ):
        assert part in finding


def test_what_its_errors_add_is_said_against_both_controls():
    finding = page_of(own=30, none=38).finding
    assert "its own errors rather than none changes ORION's gain by -20.0 [" in finding
    assert (
        "points in the built-in world; seeing its own rather than another problem's, by +25.0 ["
        in finding
    )


def test_of_two_worlds_with_the_same_student_the_one_with_more_runs_is_told_of():
    data = figures(own=30)
    fewer = figures(own=30, seeds=1)
    page = describe_study({"real-small": fewer, "real-whole": data, "built-in": figures(own=30)})
    assert page.finding.count("With the pretrained student, ") == 1
    assert (
        "With the pretrained student, at equal rows and steps and over three seeds" in page.finding
    )
    assert page.finding.count("with the pretrained student and by ") == 1


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(0.05, 0.021, 0.08), "yes"),
        (Estimate(0.01, -0.01, 0.02), "no"),
        (Estimate(0.03, 0.01, 0.05), "open"),
    ],
)
def test_two_points_are_decided_by_the_whole_interval(estimate, verdict):
    assert orion_tables.judge_claim(estimate) == verdict


def test_the_page_has_every_table_and_the_rows_as_text():
    page = page_of(own=30)
    leads = {
        row["own less"]: row for row in page.tables["ORION less each arm: built-in world, matched"]
    }
    assert list(leads) == [UNTRAINED, *[name for name in WRITTEN_ARMS if name != OWN]]
    assert leads["none"]["kind"] == "control" and leads["rft"]["kind"] == "baseline"
    [trials] = page.tables["Trials on the dev split: built-in world, matched"]
    assert trials["rate 0.002"] == "**30.0**"
    assert page.sections["What the rows say: built-in world"] == "I read them."
    shown = page.sections["Ten rows of each arm: built-in world"]
    assert "1 \\* 1 = 1. ⏎ &lt;b&gt;" in shown and "<b>" not in shown
    assert page.summary["leads"][0]["own_less"] == UNTRAINED


def test_what_is_not_measured_yet_is_named_and_compared_over_the_seeds_that_are_there():
    data = figures(own=30)
    del data["cells"]["matched"]["rft"]["2"]
    page = describe_study({"built-in": data})
    assert "**Not measured yet:** everything unmatched, rft matched with seed 2." in page.setup
    costs = {
        row["run folder"]: row["CPU minutes, at least"]
        for row in page.tables["Cost: built-in world"]
    }
    assert costs["72 cells of all arms, matched and unmatched, estimated"] == "4"
    leads = {
        row["own less"]: row for row in page.tables["ORION less each arm: built-in world, matched"]
    }
    assert leads["rft"]["answers, points [95 %]"].startswith("+25.0 [")


def test_a_page_before_anything_is_measured_says_so():
    data = figures()
    data["cells"] = {"matched": {}, "unmatched": {}}
    page = describe_study({"built-in": data})
    assert page.finding == "Nothing has been measured yet."
    assert "nothing is measured yet" in render_svg(page.chart)


def test_an_arm_with_too_few_rows_is_left_out_and_named():
    data = figures()
    data["row_counts"]["1"]["errors-only"] = 3
    for cells in data["cells"].values():
        cells.pop("errors-only", None)
    setup = describe_study({"built-in": data}).setup
    assert "with fewer than 24 rows: errors-only (3 rows with seed 1)" in setup
    assert "errors-only matched" not in setup and "everything unmatched" in setup


@pytest.mark.slow
@pytest.mark.long
def test_the_study_in_small_is_resumed_and_its_folders_share_what_they_paid_for(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = {**orion_arms.ROLES, "evaluator": "world:oracle"}
    small = {"train": 24, "dev": 4, "test": 4, "samples": 3, "n": 1, "steps": 2, "min_rows": 2}
    settings = StudySettings(tmp_path, 1, {**SIZES, **small}, roles, world="built-in")
    run = WorldRun(settings, STORY)
    run.collect_rows(0, no_progress)
    early = orion_arms.collect_figures(settings)
    assert early["row_counts"]["0"][OWN] > 1 and not early["cells"]["matched"]

    outcome = run_in_folder("orion-arms", orion_arms, settings, no_progress)
    counts = outcome["row_counts"]["0"]
    # EULER has a training more, that of its error model.
    cells, unmatched = outcome["cells"]["matched"], outcome["cells"]["unmatched"]
    for name in counts.keys() - {"euler"}:
        assert cells[name]["0"]["rows"] == min(counts.values()) and cells[name]["0"]["steps"] == 2
        assert unmatched[name]["0"]["rows"] == counts[name]
    assert cells["euler"]["0"]["steps"] == 12
    assert outcome == orion_arms.collect_figures(settings)
    # Every completion of the rows was brought along, and a student of the trials was not trained again.
    trained = {path.name for path in (tmp_path / "matched-0" / "students").iterdir()}
    tried = {path.name for path in (tmp_path / "matched-tune" / "students").iterdir()}
    assert trained <= tried
    share_work(
        [tmp_path / "rows-0"], tmp_path / "matched-0"
    )  # a folder that was begun is left alone
