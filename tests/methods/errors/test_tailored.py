"""Tailored learning, exactly: the teacher sees each error; its right solutions are learnt, and contrasted with them."""

from __future__ import annotations

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.errors.tailored import TAILOR, UNTAILORED
from potstill.runs.cast import Cast
from potstill.traces.prompts import fill_template

CAST = Cast(values={"rounds": 2, "n": 2})
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
PUPIL = {
    P1.prompt: ["\\boxed{5}", "\\boxed{5}", "\\boxed{6}", "\\boxed{4}"],
    P2.prompt: ["Hm.", "\\boxed{7}", "\\boxed{8}", "\\boxed{7}"],
}
TAILORED = {
    ("A student answered", "\\boxed{5}"): "Not five: \\boxed{4}.",
    ("A student answered", "\\boxed{6}"): "Not six: \\boxed{4}.",
    ("A student answered", "\\boxed{8}"): "Not eight: \\boxed{9}.",
    P1.question: "Plainly \\boxed{4}.",
    P2.question: "Plainly \\boxed{7}.",
}


def tailored(**values):
    teacher, pupil = script(TAILORED), student(PUPIL)
    ran = run("tailored", [P1, P2], {"teacher": teacher, "student": pupil}, rounds=1, **values)
    return ran, teacher


def test_the_teacher_answers_each_different_error_and_right_solutions_are_learnt():
    ran, teacher = tailored()
    assert [stage.name for stage in ran.stages] == ["learn-1", "reflect-1"]
    assert sorted(ran.texts(0)["p1"]) == ["Not five: \\boxed{4}.", "Not six: \\boxed{4}."]
    assert list(ran.texts(0)) == ["p1"] and set(ran.prompts_learnt(0)) == {P1.prompt}
    rivals = {text.split(" > ")[1] for text in ran.texts(1)["p1"]}
    assert ran.stages[1].objective == "contrastive" and rivals == {"\\boxed{5}", "\\boxed{6}"}
    shown = fill_template(TAILOR, {"prompt": P1.prompt, "text": "\\boxed{5}"})
    assert prompts(teacher)[0] == shown and len(teacher.calls) == 3
    assert ran.reasons()["right"] == ["wrong: 9 is not 7 (boxed)"]
    assert len(ran.reasons()["wrong"]) == 4  # three right answers, and one that can't be read


def test_each_solution_meets_an_error_by_chance():
    """Eight pairs of two solutions and four errors, four of them taken: not all of the first solution."""
    wrong = [f"\\boxed{{{value}}}" for value in (5, 6, 8, 9)]
    teacher = script({wrong[0]: "Not five: \\boxed{4}.", "": "Plainly \\boxed{4}."})
    roles = {"teacher": teacher, "student": student({P1.prompt: wrong})}
    ran = run("tailored", [P1], roles, rounds=1)
    pairs = ran.texts(1)["p1"]
    assert len(pairs) == 4 and len({text.split(" > ")[0] for text in pairs}) == 2
    assert roles["student"].calls[0].sampling.temperature == 1
    assert ran.stages[0].constants["weight_decay"] == 0.01


def test_the_controls_hide_the_error_or_the_contrast():
    ran, teacher = tailored(arm="untailored")
    assert prompts(teacher)[0] == fill_template(UNTAILORED, {"prompt": P1.prompt})
    assert len(teacher.calls) == 3
    ran, _ = tailored(arm="no-reflection")
    assert [stage.name for stage in ran.stages] == ["learn-1"]


def test_later_rounds_learn_all_solutions_so_far_and_end_where_the_student_errs_no_more():
    pupil = student({P1.prompt: ["\\boxed{5}", "\\boxed{4}"]})
    roles = {"teacher": script(TAILORED), "student": pupil}
    ran = run("tailored", [P1], roles, n=1, rounds=3)
    assert [stage.name for stage in ran.stages] == ["learn-1", "reflect-1"]
    with pytest.raises(StageError, match="none of 1 attempts is wrong"):
        run("tailored", [P1], {**roles, "student": student(["\\boxed{4}"])}, n=1)


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "tailored", roles=["teacher=world:oracle"], sets=["rounds=2"])
    assert set(ran.rows) == {"learn-1", "reflect-1", "learn-2", "reflect-2"}
    assert all("completion" in row for row in ran.rows["learn-1"])
    assert all(row["chosen"] != row["rejected"] for row in ran.rows["reflect-2"])
