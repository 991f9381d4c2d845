"""Fin-R1, exactly: which chains pass both rounds, and which problems are rewarded."""

from __future__ import annotations

from scripted_world import number, run, script, student

from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.world.scripted import teacher_reply

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
P3 = number("p3", "What is 1 + 1?", "2")
GOOD, POOR = "Two and two are four: \\boxed{4}.", "\\boxed{2}"
CHAINS = {P1.question: GOOD, P2.question: "So \\boxed{8}.", P3.question: POOR}


def solve_and_grade(request):
    """The scripted teacher, which also grades."""
    if "The reasoning is good if" in render(request.prompt):
        return "Verdict: right"
    return teacher_reply(request)


GRADING = ScriptedModel(solve_and_grade, name="grading-teacher")
CAST = Cast(models={"teacher": GRADING, "grader": GRADING})


def fin_r1(grades, **values):
    teacher, pupil = script(CHAINS), student(["no"])
    roles = {"teacher": teacher, "student": pupil, "grader": script(grades)}
    return run("fin_r1", [P1, P2, P3], roles, **values), roles


def test_right_chains_of_good_quality_are_learnt_and_the_other_problems_rewarded():
    ran, roles = fin_r1({GOOD: "Verdict: right", POOR: "Too few steps.\nVerdict: wrong"})
    sft, rewards = ran.stages
    assert [row.text for row in sft.rows] == [GOOD] and sft.name == "sft"
    assert [row.problem.id for row in rewards.rows] == ["p2", "p3"]
    assert rewards.objective == "grpo"
    assert rewards.constants["reward"] == {"verifier": 1.0, "form": 1.0}
    assert ran.dropped("is_good") == [(POOR, "the reasoning is not good")]
    assert len(roles["teacher"].calls) == 3 and len(roles["grader"].calls) == 2
    assert "it has at least three steps" in render(roles["grader"].calls[0].prompt)


def test_the_grader_sees_the_steps_that_it_grades_and_a_cut_chain_is_no_row():
    chain = "<think>\nTwo and two are four.\n</think>\nSo \\boxed{4}."
    teacher = script({P1.question: chain, P2.question: {"text": "\\boxed{7}", "finish": "length"}})
    grader = script({"": "Verdict: right"})
    roles = {"teacher": teacher, "student": student(["no"]), "grader": grader}
    ran = run("fin_r1", [P1, P2], roles)
    assert [row.text for row in ran.stages[0].rows] == [chain] and len(grader.calls) == 1
    assert chain in render(grader.calls[0].prompt)


def test_a_grade_that_cant_be_read_is_no_good_one():
    ran, _ = fin_r1({GOOD: "Verdict: right", POOR: "Perhaps."})
    assert ran.dropped("is_good") == [(POOR, "no quality could be read")]


def test_controls_leave_out_the_second_round_or_the_rewards():
    ran, roles = fin_r1({"": "x"}, arm="one-round")
    assert len(ran.stages[0].rows) == 2 and not roles["grader"].calls
    assert [row.problem.id for row in ran.rows] == ["p2"]
    ran, _ = fin_r1({"": "Verdict: right"}, arm="sft")
    assert len(ran.stages) == 1
