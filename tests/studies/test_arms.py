"""Arms over seeds: paired differences, tables, and whole on the built-in world."""

from __future__ import annotations

import pytest

from potstill.errors import StageError
from potstill.evaluation.intervals import Estimate
from potstill.studies import arms
from potstill.studies.study import StudySettings


def run_of(shares, **figures):
    problems = [f"p{place}" for place in range(len(shares))]
    return {
        "problems": problems,
        "shares": shares,
        "tokens": 50.0,
        "calls": {},
        "written_tokens": {},
        **figures,
    }


TRAINED = {
    "rows": 4,
    "steps": 10,
    "loss_tokens": 2000,
    "calls": {"teacher": 8},
    "written_tokens": {"teacher": 640},
}
RUNS = {
    "untrained": [run_of([0.0, 0.5, 0.0, 0.5]), run_of([0.0, 0.5, 0.5, 0.0])],
    "sft": [run_of([0.5, 1.0, 0.5, 1.0], **TRAINED), run_of([0.5, 1.0, 0.5, 0.5], **TRAINED)],
}


def test_a_row_holds_the_mean_each_seed_and_the_paired_difference():
    untrained, sft = arms.arms_table(RUNS)
    assert (untrained["avg@n"], untrained["vs untrained"], untrained["rows"]) == ("25.0", "", "")
    assert (sft["avg@n"], sft["seeds"], sft["calls"]) == ("68.8", "75.0, 62.5", "teacher 8")
    assert sft["vs untrained"].startswith("+43.8 [") and sft["tokens learnt"] == "2,000"
    [dot] = arms.arm_dots(RUNS)
    assert (dot.label, round(dot.value, 2)) == ("sft", 43.75) and dot.low < 43.75 < dot.high


def test_arms_on_other_problems_are_not_paired():
    other = {**run_of([0.5, 0.5, 0.5, 0.5]), "problems": ["q0", "q1", "q2", "q3"]}
    with pytest.raises(StageError, match="other problems"):
        arms.difference([other], RUNS["untrained"])
    with pytest.raises(StageError, match="arms of 1 and 2 seeds"):
        arms.difference(RUNS["sft"][:1], RUNS["untrained"])


def test_seeds_that_disagree_widen_the_interval_of_a_difference():
    base = [run_of([0.0, 0.5, 0.0, 0.5] * 10)] * 2
    steady = [run_of([0.25, 0.5, 0.25, 0.75] * 10)] * 2
    swinging = [run_of([share + shift for share in steady[0]["shares"]]) for shift in (-0.25, 0.25)]
    over_problems = arms.difference(steady, base)
    over_seeds = arms.difference(swinging, base)
    assert over_problems.value == over_seeds.value
    assert arms.sign(over_problems) == "above" and arms.sign(over_seeds) == "undecided"


@pytest.mark.parametrize(
    ("estimate", "sentence"),
    [
        (Estimate(0.1, 0.05, 0.15), "a is above b (+10.0 [+5.0, +15.0] points)."),
        (Estimate(-0.1, -0.15, -0.05), "a is below b (-10.0 [-15.0, -5.0] points)."),
        (
            Estimate(0.1, -0.05, 0.25),
            "Between a and b no difference is shown (+10.0 [-5.0, +25.0] points).",
        ),
    ],
)
def test_a_difference_is_only_said_where_its_interval_decides(estimate, sentence):
    assert arms.describe_difference("a", "b", estimate) == sentence


@pytest.mark.slow
def test_seeds_run_whole_and_go_on_where_they_stopped(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")

    def recipe_of_seed(seed):
        return {
            "arms": {"sft": {}},
            "roles": {"teacher": "world:teacher", "student": "world:student"},
            "problems": "world:story?split=train&size=6",
            "training": {"max_steps": 2, "batch_size": 2},
            "evaluate": {"problems": "world:story?split=test&size=3", "n": 2},
            "overlap_n": 0,
        }

    settings = StudySettings(tmp_path, seeds=2)
    seen = []
    runs = arms.run_seeds(settings, recipe_of_seed, lambda *report: seen.append(report))
    assert list(runs) == ["untrained", "sft"] and len(runs["sft"]) == 2
    assert runs["sft"][0]["steps"] == 2 and runs["sft"][0]["calls"]["teacher"] == 6
    assert runs["sft"][0]["loss_tokens"] > 0 and "steps" not in runs["untrained"][0]
    assert ("seeds", 2, 2) in seen
    stores = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/students/*/*.safetensors")}
    assert arms.run_seeds(settings, recipe_of_seed, lambda *report: None) == runs
    assert {path: path.stat().st_mtime_ns for path in stores} == stores
