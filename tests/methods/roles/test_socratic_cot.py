"""Socratic CoT, exactly: what the teacher is asked, what each student learns of a chain, and how the two answer."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script
from world_run import run_on_world

from potstill.methods.roles.socratic_cot import ANSWER, ASK, DECOMPOSE, read_parts
from potstill.records import blank, learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import fill_template

CAST = Cast(models={"teacher": ORACLE}, poses=True)

P1, P2 = number("p1", "What is 2 + 3 + 4?", "9"), number("p2", "What is 2 + 2?", "4")
CHAIN = "Question 1: What is 2 + 3?\nAnswer 1: 2 + 3 = 5.\n\n**Question 2:** And 4?\nAnswer 2: 5 + 4\n= 9. \\boxed{9}"
QUESTIONS = "1. What is 2 + 3?\n2. And 4?"
TRANSCRIPT = "1. What is 2 + 3?\n2 + 3 = 5.\n2. And 4?\n5 + 4 = 9. \\boxed{9}"


def socratic(
    chain=CHAIN, other="Question 1: Two?\nAnswer 1: \\boxed{5}", asked=QUESTIONS, **values
):
    teacher = script({P1.question: f"<think>\nSo.\n</think>\n{chain}", P2.question: other})
    pupil = script({"Break": asked, "one by one": "2 + 3 = 5.\nNo."}, weights=NOWHERE)
    return run("socratic_cot", [P1, P2], {"teacher": teacher, "student": pupil}, **values), (
        teacher,
        pupil,
    )


def shown(template, problem):
    return fill_template(template, {"prompt": problem.prompt, "question": problem.question})


def test_one_student_learns_the_questions_and_one_the_solutions_between_them():
    ran, (teacher, pupil) = socratic()
    assert [stage.name for stage in ran.stages] == ["questions", "answers"]
    assert all(stage.model is pupil for stage in ran.stages) and not pupil.calls
    assert ran.texts(0) == {"p1": [QUESTIONS]} and ran.texts(1) == {"p1": [TRANSCRIPT]}
    assert ran.prompts_learnt(0) == [shown(ASK, P1)]
    assert ran.prompts_learnt(1) == [shown(ANSWER, P1)]
    [row] = ran.rows
    learnt = [row.text[start:stop] for start, stop in learnt_stretches(row)]
    assert learnt == ["2 + 3 = 5.\n", "5 + 4 = 9. \\boxed{9}"] and learns_end(row)
    assert prompts(teacher) == [shown(DECOMPOSE, P1), shown(DECOMPOSE, P2)]
    assert P1.prompt in prompts(teacher)[0]  # with the choices and tables that the learner sees
    assert ran.reasons()["right"] == ["wrong: 5 is not 4 (boxed)"]


@pytest.mark.parametrize(
    "chain",
    [
        "The answer is \\boxed{9}.",
        "Question 1: What?\nAnswer 1: \\boxed{9}\nQuestion 2: And?",
        "Question 1: What?\nQuestion 2: And?\nAnswer 2: \\boxed{9}",
        "Question 1:\nAnswer 1: \\boxed{9}",
    ],
)
def test_a_chain_that_is_not_in_the_form_has_no_parts(chain):
    assert read_parts(chain) == []


def test_what_can_not_be_read_or_breaks_off_is_no_row():
    good = "Question 1: Two?\nAnswer 1: \\boxed{4}"
    ran, _ = socratic(chain="So \\boxed{9}.", other=good)
    assert ran.reasons()["has_parts"] == ["not a question and an answer in turn"]
    assert ran.texts() == {"p2": ["1. Two?\n\\boxed{4}"]}
    ran, _ = socratic(other={"text": good, "finish": "length"})
    assert ran.reasons()["is_finished"] == ["not finished"] and set(ran.texts()) == {"p1"}


def test_the_controls_train_one_student_on_both_or_on_the_chain_alone():
    ran, _ = socratic(arm="unified")
    assert len(ran.stages) == 1 and sorted(ran.texts()["p1"]) == sorted([QUESTIONS, TRANSCRIPT])
    ran, _ = socratic(arm="cot")
    assert ran.texts() == {"p1": ["2 + 3 = 5.\n5 + 4 = 9. \\boxed{9}"]}
    assert ran.prompts_learnt() == [P1.prompt]


def test_each_list_of_questions_is_answered_in_turn_behind_the_answers_so_far():
    ran, (teacher, pupil) = socratic()
    answers = ran.solver([blank(P1.problem, P1.prompt)], n=2, temperature=0.5)
    assert [answer.text for answer in answers] == [
        "1. What is 2 + 3?\n2 + 3 = 5.\n2. And 4?\n2 + 3 = 5."
    ] * 2
    # Two lists, and for each of them two questions.
    assert len(pupil.calls) == 2 + 4 and len(teacher.calls) == 2
    assert [call.prefix for call in pupil.calls[4:]] == [
        "1. What is 2 + 3?\n2 + 3 = 5.\n2. And 4?\n"
    ] * 2


def test_without_a_question_the_problem_is_its_own_and_the_teacher_may_ask():
    ran, (_, pupil) = socratic(asked="Nothing.", max_questions=1)
    [answer] = ran.solver([P1], n=1)
    assert answer.text == f"1. {P1.question}\n2 + 3 = 5." and len(pupil.calls) == 2
    ran, (teacher, pupil) = socratic(arm="teacher-asks")
    assert len(ran.stages) == 1
    ran.solver([P1], n=1)
    assert prompts(teacher)[-1] == shown(ASK, P1) and len(pupil.calls) == 1


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rows = run_on_world(tmp_path, "socratic_cot", roles=["teacher=world:oracle"], sets=[]).rows
    assert set(rows) == {"questions", "answers"}
    assert all(row["completion"].endswith("have now?") for row in rows["questions"])
    assert all(row["completion"].count("\n") % 2 == 1 for row in rows["answers"])
