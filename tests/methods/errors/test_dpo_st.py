"""DPO-ST, exactly: which pairs, what is learnt beside the solutions, and from which model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import run, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.errors.dpo_st import limit_labels
from potstill.records import Problem, blank
from potstill.runs.cast import Cast

CAST = Cast(values={"rounds": 1})
P1 = blank(Problem("p1", "What is 2 + 2?", "4", "number", "Two and two: \\boxed{4}."), "Solve: 2+2")
BARE = blank(Problem("p2", "What is 3 + 4?", "7", "number"), "Solve: 3+4")
NEAR, FAR = "Two and two make \\boxed{5}.", "I count nine: \\boxed{9}"
PUPIL = {
    P1.prompt: [NEAR, FAR, "I count on: \\boxed{4}.", "I  count on: \\boxed{4}.", "Hm."],
    BARE.prompt: ["\\boxed{8}", "\\boxed{9}", {"error": "down"}, "Hm.", "\\boxed{1}"],
}


def dpo_st(**values):
    pupil = student(PUPIL)
    ran = run("dpo_st", [P1, BARE], {"student": pupil}, **{"rounds": 1, **values})
    return ran, pupil


def test_solutions_then_the_least_similar_pairs_then_its_own_right_chains():
    ran, pupil = dpo_st(labels=5)
    assert [stage.name for stage in ran.stages] == ["sft-0", "dpo-1", "sft-1"]
    gold = "Two and two: \\boxed{4}."
    assert ran.texts(0) == {"p1": [gold]}
    # Three of the four combinations, those with fewer words in common first.
    assert sorted(ran.texts(1)["p1"]) == [
        f"I count on: \\boxed{{4}}. > {NEAR}",
        f"{gold} > {FAR}",
        f"{gold} > {NEAR}",
    ]
    assert sorted(ran.texts(2)["p1"]) == ["I count on: \\boxed{4}.", gold]
    assert (
        ran.reasons()["is_unlike_earlier"]
        == ["shares more than 70% of its words with an earlier one"] * 2
    )
    assert ran.stages[2].model is pupil and ran.stages[1].constants["beta"] == 0.1
    assert ran.reasons()["has_solution"] == ["the problem has no solution"]


def test_a_label_that_repeats_the_solution_is_no_row_and_few_problems_have_many_rows():
    gold = "Two and two: \\boxed{4}."
    pupil = student({P1.prompt: [gold, "I count on: \\boxed{4}.", "\\boxed{5}"]})
    ran = run("dpo_st", [P1], {"student": pupil}, rounds=1, arm="no-dpo")
    assert sorted(ran.texts()["p1"]) == ["I count on: \\boxed{4}.", gold]
    # Where one of ten problems has labels 90 % have one row, where two have two each the limit is three rows.
    golds = [replace(P1, problem=replace(P1.problem, id=f"p{n}")) for n in range(10)]
    assert limit_labels(golds, [replace(golds[0], text=text) for text in "abc"]) == []
    labels = [replace(trace, text=text) for trace in golds[:2] for text in "ab"]
    assert len(limit_labels(golds, labels)) == 4


def test_the_controls_choose_other_pairs_or_none():
    near = dpo_st(arm="near-pairs", pairs=1)[0]
    assert near.texts(1) == {"p1": [f"I count on: \\boxed{{4}}. > {FAR}"]}
    assert len(dpo_st(arm="random-pairs", pairs=2)[0].texts(1)["p1"]) == 2
    ran, _ = dpo_st(arm="no-dpo")
    assert [stage.objective for stage in ran.stages] == ["sft", "sft"]


def test_without_a_solution_there_is_nothing_to_begin_with():
    with pytest.raises(StageError, match="none of 1 problems has one"):
        run("dpo_st", [BARE], {"student": student(PUPIL, seed=1)})
    assert not Path("nowhere").exists()


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "dpo_st", roles=[], sets=["rounds=1"])
    assert set(ran.rows) == {"sft-0", "dpo-1", "sft-1"}
    assert all("completion" in row for row in [*ran.rows["sft-0"], *ran.rows["sft-1"]])
    assert all(row["chosen"] != row["rejected"] for row in ran.rows["dpo-1"])
