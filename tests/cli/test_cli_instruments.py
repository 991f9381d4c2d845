"""The instruments on the command line: curves, scores, costs, seeds."""

from __future__ import annotations

import dataclasses
import json

import pytest
from demo_results import evaluation, results

from potstill.cli.instruments import count_local_parameters
from potstill.evaluation import results as results_file
from potstill.evaluation.instrument_tables import flops_notes
from potstill.evaluation.rows import Fingerprint


@pytest.fixture
def two_seeds(tmp_path):
    """Two runs of one recipe; the students, and so the models, differ with the seed."""
    for seed in range(2):
        evaluations = {}
        for name, draws in (("untrained", "rwww"), ("sft", "rrww" if seed else "rrrw")):
            found = evaluation(name, *[draws, "wwww", "rrrr"] * 3)
            run = {"models": f"{name}-{seed}", "seed": str(seed)}
            fingerprint = Fingerprint(found.fingerprint.task, run)
            evaluations[name] = dataclasses.replace(found, fingerprint=fingerprint)
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        run_results = dataclasses.replace(results(), evaluations=evaluations, comparisons=())
        results_file.save(run_results, folder / "results.json")
    return [tmp_path / "seed-0", tmp_path / "seed-1"]


def test_evaluate_shows_curve_scores_and_fingerprint(potstill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [f"\\boxed{{{i}}}" for i in (1, 2, 3, 2)]
    (tmp_path / "m.json").write_text(json.dumps(answers))
    words = "evaluate --model scripted:m.json --problems p.jsonl --n 4 --curve --scores --quiet"
    shown = potstill(*words.split())
    assert shown.code == 0, shown.err
    assert "With k answers" in shown.out and "Scores as detectors" in shown.out
    assert "fingerprint run-" in shown.out and "verifiers number@" in shown.out
    assert "solve@(M,T)" not in shown.out


def test_compare_shows_what_the_arms_cost(potstill, two_seeds):
    words = ["compare", two_seeds[0], "--total-cost"]
    shown = potstill(*words, "--selecting", "student")
    assert shown.code == 0, shown.err
    assert "selection tokens" in shown.out and "FLOPs" in shown.out
    # The world's checkpoints are on this machine: their parameters are counted.
    document = potstill(*words, "--parameters", "teacher=1B", "--json").json
    [costs] = document["total_cost"].values()
    assert costs["arms"]["sft"]["generation"]["flops"] == 2e9 * 75_000
    assert costs["parameters"]["teacher"] == 1e9
    assert 1e5 < costs["parameters"]["student"] < 1e7


def test_flops_without_parameters_are_said_to_be_unknown():
    run_results = dataclasses.replace(results(), recipe={})
    assert count_local_parameters(run_results) == {}
    [student, teacher] = flops_notes(run_results, {})
    assert "--parameters student=N" in student and "--parameters teacher=N" in teacher


def test_runs_of_several_seeds_are_one_comparison(potstill, two_seeds):
    shown = potstill("compare", *two_seeds, "--over-seeds")
    assert shown.code == 0, shown.err
    sentence = " ".join(shown.out.split())
    assert "9 problems x 2 seeds" in sentence and "by seed: +16.7, +8.3." in sentence
    [comparison] = potstill("compare", *two_seeds, "--over-seeds", "--json").json["comparisons"]
    assert comparison["by_seed"] == pytest.approx([1 / 6, 1 / 12])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--over-seeds"], "--over-seeds of one run"),
        (["--parameters", "student=1B"], "--parameters and --selecting are for --total-cost"),
        (["--total-cost", "--parameters", "student=big"], "--parameters student=big"),
        (["--total-cost", "--selecting", "judge"], "no arm has a role 'judge'"),
    ],
)
def test_what_makes_no_sense_is_refused(potstill, two_seeds, words, message):
    refused = potstill("compare", two_seeds[0], *words)
    assert refused.code != 0 and message in refused.err


def test_one_run_twice_is_not_two_seeds(potstill, two_seeds):
    refused = potstill("compare", two_seeds[0], two_seeds[0], "--over-seeds")
    assert refused.code != 0 and "are one evaluation" in refused.err


def test_a_planner_and_who_carries_its_plans_out(potstill):
    problems = ["--problems", "world:story?split=test&size=2", "--quiet"]
    words = ["evaluate", "--planner", "world:oracle", "--model", "world:oracle?slip_rate=0.5"]
    document = potstill(
        *words, *problems, "--n", "4", "--programs", "2", "--json", "--curve", "--scores"
    ).json
    shapes = {(shape["plans"], shape["programs"]): shape for shape in document["surface"]["shapes"]}
    assert [point["k"] for point in document["curve"]] == [1, 2, 4]
    assert document["scores"][0]["score"] == "answer entropy"
    assert set(shapes) == {(1, 1), (1, 2), (2, 1), (2, 2)} and "tokens" in shapes[1, 1]
    assert 0 <= shapes[1, 1]["value"] <= shapes[2, 2]["value"] <= 1
    assert document["fingerprint"]["id"].startswith("run-")
    assert document["per_answer"]["planner"]["calls"] == 0.5
    assert len(document["fingerprint"]["run"]["models"].split()) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--programs", "2"],
        ["--planner-sees", "problem"],
        ["--planner", "recorded:a.jsonl"],
        ["--planner", "world:oracle", "--n", "4", "--programs", "3"],
    ],
)
def test_plans_need_a_planner_that_can_be_asked(potstill, words):
    asked = ["evaluate", "--model", "world:oracle", "--problems", "world:story?size=2"]
    assert potstill(*asked, *words).code != 0
