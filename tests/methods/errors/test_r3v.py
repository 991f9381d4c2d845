"""R3V, exactly: the three kinds of rows of what was sampled, and how the student chooses at test time."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, number, run, script
from world_run import run_on_world

from potstill.methods.errors.r3v import REFINE, solve_by_choice, solve_by_vote
from potstill.records import learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import verify
from potstill.traces.prompts import fill_template

CAST = Cast(values={"rounds": 2}, poses=True)
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
WARM = {P1.question: "Teacher: \\boxed{4}.", P2.question: "Teacher: \\boxed{6}."}
PUPIL = {
    ("candidate", P1.question): "I choose \\boxed{4}.",
    P1.question: ["one \\boxed{5}", "two \\boxed{4}", "three \\boxed{4}"],
    P2.question: ["\\boxed{1}", {"error": "down"}, "Hm."],
}
STATED = "The answer is \\boxed{4}."


def r3v(**values):
    pupil = script(PUPIL, weights=NOWHERE)
    roles = {"teacher": script(WARM), "student": pupil}
    return run("r3v", [P1, P2], roles, **{"rounds": 1, **values}), pupil


def test_solutions_mended_errors_and_choices_are_learnt_from_the_base_model():
    ran, pupil = r3v()
    assert [stage.name for stage in ran.stages] == ["warm-up", "round-1"]
    assert ran.texts(0) == {"p1": ["Teacher: \\boxed{4}."]}
    assert ran.stages[1].model is pupil and list(ran.texts()) == ["p1"]
    # The newest right one twice, once under its error; and two right ones beside a wrong one to choose from.
    newest = "three \\boxed{4}"
    assert sorted(ran.texts()["p1"]) == ["Teacher: \\boxed{4}.", STATED, newest, newest]
    shown = fill_template(REFINE, {"prompt": P1.prompt, "attempt": "one \\boxed{5}"})
    assert shown in ran.prompts_learnt() and P1.prompt in ran.prompts_learnt()
    [choice] = [row for row in ran.rows if row.text == STATED]
    assert all(text in choice.prompt for text in ("one \\boxed{5}", "two \\boxed{4}", newest))
    assert learnt_stretches(choice) == [(0, len(STATED))]
    assert len(pupil.calls) == 6 and pupil.calls[0].sampling.top_k == 50


def test_the_controls_leave_rows_out():
    assert len(r3v(arm="cot")[0].rows) == 2
    assert len(r3v(arm="no-refine")[0].rows) == 3 and len(r3v(arm="no-select")[0].rows) == 3


def test_at_test_time_the_student_chooses_among_three_or_they_vote():
    ran, pupil = r3v()
    assert ran.solver.func is solve_by_choice
    answers = ran.solver([P1], n=2, temperature=0.5)
    assert [trace.text for trace in answers] == ["I choose \\boxed{4}."] * 2
    assert "two \\boxed{4}" in answers[0].prompt
    # Whatever it is measured at, candidates are samples and the choice is greedy.
    assert [call.sampling.temperature for call in pupil.calls[-4:]] == [0.9, 0.9, 0.9, 0.0]
    voted = r3v(answer_by="vote")[0].solver
    assert voted.func is solve_by_vote
    [answer] = verify(voted([P1]))
    assert answer.answer == "4"


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "r3v", roles=["teacher=world:teacher"], sets=["rounds=2"])
    assert set(ran.rows) == {"warm-up", "round-1", "round-2"}
    prompts_learnt = [row["prompt"] for row in ran.rows["round-2"]]
    assert any("Judge whether it is right" in prompt for prompt in prompts_learnt)
