"""Divide-or-Conquer, exactly: what divides, what is screened by it, and what each half learns."""

from __future__ import annotations

import pytest
from scripted_world import ORACLE, number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.roles.divide_or_conquer import ANSWER, DECOMPOSE, SOLVE
from potstill.records import blank, learns_end
from potstill.runs.cast import Cast
from potstill.traces import fill_template
from potstill.world.oracle.program import choose_role

CAST = Cast(models={"teacher": ORACLE}, poses=True)

P1, P2 = number("p1", "What is 2 + 3 + 4?", "9"), number("p2", "What is 2 + 2?", "4")
PARTS = "1. What is 2 + 3?\n2. What is that and 4?"
SOLVED = {"p1": "2 + 3 = 5. 5 + 4 = 9. \\boxed{9}", "p2": "So \\boxed{4}."}


def divide(parts=PARTS, undivided="No decomposition.", solved=SOLVED, **values):
    teacher = script(
        {
            ("Break", P1.question): f"<think>\nWhat for?\n</think>\n{parts}",
            ("Break", P2.question): undivided,
            P1.question: solved["p1"],
            P2.question: solved["p2"],
        },
        name="teacher",
    )
    pupil = student(["1. What?"], name="pupil")
    return run("divide_or_conquer", [P1, P2], {"teacher": teacher, "student": pupil}, **values), (
        teacher,
        pupil,
    )


def asked(template, problem, text=""):
    return fill_template(template, {"question": problem.question, "text": text})


def test_decompositions_that_lead_to_the_right_answer_are_learnt():
    ran, (teacher, pupil) = divide()
    assert ran.texts() == {"p1": [PARTS], "p2": ["No decomposition"]}
    assert ran.prompts_learnt() == [asked(DECOMPOSE, P1), asked(DECOMPOSE, P2)]
    assert sorted(prompts(teacher)[2:]) == sorted([asked(SOLVE, P1, PARTS), asked(ANSWER, P2)])
    assert all(learns_end(row) and not row.saw_gold for row in ran.rows)
    assert len(teacher.calls) == 4 and not pupil.calls
    assert ran.stages[0].constants == {"num_train_epochs": 5, "learning_rate": 2e-5}


def test_a_question_that_is_not_divided_teaches_no_answer():
    ran, (teacher, _) = divide(undivided="No decomposition is needed: 2 + 2 = 4.")
    assert ran.texts()["p2"] == ["No decomposition"]
    assert asked(ANSWER, P2) in prompts(teacher)


def test_a_solution_without_a_box_gets_gold_in_the_place_of_its_last_line():
    solved = {"p1": "2 + 3 = 5.\nSo it is 8.", "p2": "4"}
    ran, _ = divide(solved=solved, arm="solver-gold")
    assert ran.texts() == {"p1": ["2 + 3 = 5.\n\\boxed{9}"], "p2": ["\\boxed{4}"]}
    assert all(learns_end(row) for row in ran.rows)


def test_one_that_leads_nowhere_is_screened_out_or_learnt_in_the_control():
    misled = {"p1": "It is \\boxed{5}.", "p2": "So \\boxed{4}."}
    ran, _ = divide(solved=misled)
    assert ran.texts() == {"p2": ["No decomposition"]}
    assert ran.reasons()["right"] == ["wrong: 5 is not 9 (boxed)"]
    assert ran.reasons()["line"] == ["its line is not among the others'"]
    ran, (teacher, _) = divide(solved=misled, arm="all")
    assert set(ran.texts()) == {"p1", "p2"} and len(teacher.calls) == 2


def test_a_reply_that_divides_nothing_or_breaks_off_is_no_row():
    ran, _ = divide(parts="The answer is 9.")
    assert ran.texts() == {"p2": ["No decomposition"]}
    assert ran.reasons()["is_decomposition"] == ["no question in it"]
    with pytest.raises(StageError, match="not finished"):
        divide(parts="Hm.", undivided={"text": "1. What?", "finish": "length"})


@pytest.mark.parametrize(("arm", "answer"), [("solver", "5"), ("solver-gold", "9")])
def test_the_other_half_learns_to_solve_and_may_end_with_gold(arm, answer):
    ran, _ = divide(solved={"p1": "2 + 3 = 5. \\boxed{5}", "p2": "So \\boxed{4}."}, arm=arm)
    assert ran.texts()["p1"] == [f"2 + 3 = 5. \\boxed{{{answer}}}"]
    assert ran.prompts_learnt() == [asked(SOLVE, P1, PARTS), asked(ANSWER, P2)]
    assert {row.saw_gold for row in ran.rows} == {arm == "solver-gold"}
    # At test time the teacher divides and the student solves.
    answers = ran.solver([blank(P1.problem)], n=2, temperature=0.5)
    assert [answer.text for answer in answers] == ["1. What?"] * 2


@pytest.mark.parametrize("arm", ["screened", "untrained"])
def test_at_test_time_the_student_divides_once_and_the_teacher_solves(arm):
    ran, (teacher, pupil) = divide(arm=arm)
    assert len(ran.stages) == (arm == "screened")
    answers = ran.solver([P1], n=2, temperature=0.5)
    assert [answer.text for answer in answers] == [SOLVED["p1"]] * 2
    assert prompts(pupil) == [asked(DECOMPOSE, P1)] * 2
    assert prompts(teacher)[-1] == asked(SOLVE, P1, "1. What?")


def test_the_solver_alone_is_asked_undivided_questions():
    ran, (teacher, pupil) = divide(arm="single-stage")
    assert [answer.text for answer in ran.solver([P1], temperature=0.5)] == [SOLVED["p1"]]
    assert prompts(teacher) == [asked(ANSWER, P1)] and not pupil.calls and not ran.stages


def test_the_oracle_knows_the_prompt_for_sub_questions():
    assert choose_role(asked(DECOMPOSE, P1)).name == "divider"


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "divide_or_conquer", roles=["teacher=world:oracle"], sets=[])
    rows = ran.rows["divide_or_conquer"]
    assert len(rows) == 16 and all("have now?" in row["completion"] for row in rows)
