"""The study of objectives: its table and page from figures, and whole on a few stories."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
from potstill.studies import objectives
from potstill.studies.chart import Dot
from potstill.studies.objectives import ARMS, Arm
from potstill.studies.study import StudySettings


def _run(shares, **report):
    return {"shares": shares, "length": 50.0, **report}


FOUND = {
    "untrained": _run([0.5, 0.25, 0.0, 0.25]),
    "mentor": _run([1.0, 0.75, 0.5, 0.75]),
    "arms": {
        "sft": [
            _run(
                [0.75, 0.5, 0.25, 0.5],
                tokens=10,
                loss_tokens=2000,
                seconds=3.0,
                peak_mib=600.0,
                rows=4,
            ),
            _run(
                [1.0, 0.75, 0.5, 0.75],
                tokens=10,
                loss_tokens=4000,
                seconds=5.0,
                peak_mib=700.0,
                rows=4,
            ),
        ]
    },
    **{"train": 4, "test": 4, "n": 4, "seeds": 2},
}


def test_a_line_holds_means_of_seeds_and_the_paired_difference():
    untrained, mentor, sft = objectives.study_table(FOUND)
    assert (untrained["avg@n"], untrained["against untrained"], untrained["seconds"]) == (
        "25.0",
        "",
        "",
    )
    assert mentor["avg@n"] == "75.0"
    assert (sft["avg@n"], sft["seeds"]) == ("62.5", "50.0, 75.0")
    assert sft["against untrained"].startswith("+37.5 [")
    assert (sft["tokens trained on"], sft["seconds"], sft["MiB"]) == ("3,000", "4", "650")


def test_the_page_says_what_was_done_and_what_each_objective_needs():
    page = objectives.describe_study(FOUND)
    assert "4 training and 4 test stories" in page.setup
    sft = page.tables["Objectives"][2]
    assert (sft["avg@n"], sft["seeds"], sft["needs"]) == ("62.5", "50.0, 75.0", ARMS["sft"].needs)
    assert [dot.label for dot in page.chart.dots] == ["mentor", "sft"]


def test_the_finding_names_the_best_arm_and_those_that_may_equal_it():
    dots = [
        Dot("mentor", 30, 25, 35),
        Dot("a", 40, 37, 43),
        Dot("b", 35, 32, 38),
        Dot("c", 1, -2, 4),
    ]
    finding = objectives.describe_finding(dots)
    assert "2 of 3 objectives gain; a gains most (+40.0 points" in finding
    assert "The intervals of a, b reach" in finding and "above the mentor" in finding


@pytest.mark.slow
@pytest.mark.long
def test_a_small_study_runs_whole_and_goes_on_where_it_stopped(tmp_path):
    arms = {
        "sft": Arm("right", steps=2, batch_size=4),
        "dpo": Arm("pairs", "dpo", {"beta": 0.1}, start="sft", steps=1, batch_size=2),
        "top": Arm(
            "right", "forward_kl", {}, {"teacher_cache": "teacher_cache"}, steps=1, batch_size=2
        ),
        "opd": Arm("prompts", "opd", {}, objectives.ON_POLICY, steps=1, batch_size=2),
    }
    sizes = {"train": 12, "test": 4, "n": 2}
    settings = StudySettings(tmp_path, seeds=1, sizes=sizes, roles=objectives.ROLES)
    found = objectives.run_study(settings, arms=arms)
    assert [row["objective"] for row in objectives.study_table(found)] == [
        "untrained",
        "mentor",
        *arms,
    ]
    assert all(
        runs[0]["peak_mib"] > 100 and runs[0]["loss_tokens"] > 0 for runs in found["arms"].values()
    )
    marks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed-0/*.json")}
    assert objectives.run_study(settings, arms=arms) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed-0/*.json")} == marks
