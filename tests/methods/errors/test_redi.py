"""REDI, exactly: which traces are learnt first, which are pairs, and by which loss."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.models.model import Sampling

P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
TRACES = {
    P1.question: ["Hm, \\boxed{3}.", "So \\boxed{2}.", "Yes, \\boxed{2}.", "No, \\boxed{5}."],
    P2.question: [{"text": "\\boxed{4", "finish": "length"}, "Hm.", "So \\boxed{4}.", "\\boxed{4}"],
    P3.question: [{"error": "down"}, "\\boxed{1}", "\\boxed{7}", "Hm."],
}


def redi(**values):
    teacher = script(TRACES)
    return run(
        "redi", [P1, P2, P3], {"teacher": teacher, "student": student(["never asked"])}, **values
    ), teacher


def test_the_first_right_trace_is_learnt_then_pairs_with_the_first_wrong_one():
    ran, teacher = redi()
    assert [stage.objective for stage in ran.stages] == ["sft", "redi"]
    assert ran.texts(0) == {"p1": ["So \\boxed{2}."], "p2": ["So \\boxed{4}."]}
    assert ran.texts(1) == {"p1": ["So \\boxed{2}. > Hm, \\boxed{3}."]}
    assert ran.prompts_learnt(1) == [P1.prompt]
    assert ran.stages[1].constants["alpha"] == 0.8
    assert len(teacher.calls) == 12 and teacher.calls[0].sampling == Sampling(
        0.6, max_new_tokens=32768
    )
    assert ran.reasons()["is_finished"] == ["error: down", "not finished"]


@pytest.mark.parametrize(
    ("arm", "objective", "constants"),
    [
        ("chosen-only", "redi", {"alpha": 0.0}),
        ("symmetric", "redi", {"alpha": 1.0}),
        ("dpo", "dpo", {"beta": 0.001}),
        ("simpo", "simpo", {"gamma": 1.0}),
    ],
)
def test_a_control_learns_the_same_pairs_by_another_loss(arm, objective, constants):
    ran, _ = redi(arm=arm)
    assert ran.texts(1) == redi()[0].texts(1) and ran.stages[1].objective == objective
    assert constants.items() <= dict(ran.stages[1].constants).items()


def test_a_long_trace_is_learnt_first_and_is_in_no_pair_and_without_pairs_it_ends_before_training():
    with pytest.raises(StageError, match="no problem has a right and a wrong text"):
        redi(max_pair_tokens=1)
    ran, _ = redi(max_pair_tokens=1, arm="sft")
    assert len(ran.stages) == 1 and len(ran.rows) == 2


def test_where_the_first_right_trace_is_too_long_no_other_one_takes_its_place():
    long = "So it must be that it is \\boxed{2}."
    right_and_wrong = ["Hm, \\boxed{3}.", long, "Yes, \\boxed{2}."]
    teacher = script({P1.question: right_and_wrong, "": ["\\boxed{4}", "\\boxed{5}", "Hm."]})
    roles = {"teacher": teacher, "student": student(["never asked"])}
    ran = run("redi", [P1, P2], roles, n=3, max_pair_tokens=4)
    assert ran.texts(0)["p1"] == [long] and ran.texts(1) == {"p2": ["\\boxed{4} > \\boxed{5}"]}


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "redi", roles=["teacher=world:teacher"], sets=["n=8"])
    assert set(ran.rows) == {"sft", "redi"}
    assert all(
        "completion" in row for row in ran.rows["sft"]
    )  # no pair, though in the other stage it is one
    assert all(row["chosen"] != row["rejected"] for row in ran.rows["redi"])
