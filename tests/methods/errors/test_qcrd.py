"""QCRD, exactly: which rationales are positive, who writes negatives, and what counts how much."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.methods.errors.qcrd import Settings
from potstill.runs.cast import Cast

CAST = Cast(values={"iterations": 2})
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
TEACHER = {
    P1.question: ["a \\boxed{4}", "b \\boxed{5}", "c \\boxed{4}", "d \\boxed{4}", "Hm."],
    P2.question: ["a \\boxed{7}", "b \\boxed{8}", "c \\boxed{7}", "d \\boxed{8}", {"error": "x"}],
}
PUPIL = {P1.prompt: ["mine \\boxed{9}", "mine \\boxed{4}"], P2.prompt: ["mine \\boxed{1}"]}


def qcrd(**values):
    pupil = student(PUPIL)
    roles = {"teacher": script(TEACHER), "student": pupil}
    return run("qcrd", [P1, P2], roles, **{"iterations": 1, **values}), pupil


def test_the_majority_is_positive_and_what_disagrees_is_negative():
    ran, pupil = qcrd()
    assert [stage.objective for stage in ran.stages] == ["sft", "qcrd"]
    # p2 has as many votes for either answer.
    assert ran.texts(0) == {"p1": ["a \\boxed{4}", "c \\boxed{4}", "d \\boxed{4}"]}
    assert ran.texts(1)["p1"][:2] == [
        "a \\boxed{4} > b \\boxed{5}",
        "a \\boxed{4} > mine \\boxed{9}",
    ]
    assert len(ran.rows) == 6  # each of three with each of two
    assert ran.rows[0].scores["score"] == pytest.approx(3 / 5)
    assert ran.rows[0].rejected.scores["score"] == pytest.approx(1 / 5)
    assert pupil.calls[0].sampling.temperature == 1.5 and len(pupil.calls) == 2
    assert ran.reasons()["has_answer"] == ["no answer can be read"]
    assert ran.reasons()["is_finished"] == ["error: x"]


def test_a_students_rationale_with_the_majoritys_answer_is_no_negative():
    ran, _ = qcrd(iterations=2, settings=Settings(age=0))
    assert {text.split(" > ")[1] for text in ran.texts(2)["p1"]} == {"b \\boxed{5}"}
    assert ran.reasons()["disagrees"] == ["the majority's answer"]


def test_the_controls_leave_out_negatives_or_quality():
    ran, pupil = qcrd(arm="teacher-negatives", quality="none")
    assert {row.rejected.text for row in ran.rows} == {"b \\boxed{5}"}
    assert not pupil.calls and "score" not in ran.rows[0].scores
    assert len(qcrd(arm="positives")[0].stages) == 1


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "qcrd", roles=["teacher=world:teacher"], sets=["iterations=2"])
    assert set(ran.rows) == {"positives", "iteration-1", "iteration-2"}
    assert all("completion" in row for row in ran.rows["positives"])
    assert all(0 < row["scores"]["score"] <= 1 for row in ran.rows["iteration-2"])
