"""Sci-CoT, exactly: what a rationale is, whose rationales the answers are learnt behind, and the calls of an answer."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script
from world_run import run_on_world

from potstill.methods.roles.sci_cot import EXPLAIN, INFER
from potstill.records import learns_end
from potstill.runs.cast import Cast
from potstill.traces import fill_template

CAST = Cast(models={"teacher": ORACLE}, poses=True)

P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
OWN = "One and one, I think."
STATED = f"{OWN} So \\boxed{{3}}. Or \\boxed{{5}}."  # the first student also says an answer


def sci(first="1 is doubled.\nSo 2 of them.\n\\boxed{2}", **values):
    teacher = script(
        {
            P1.question: f"<think>\nHm.\n</think>\n{first}",
            P2.question: "2 is doubled. \\boxed{4}",
            P3.question: "It stays 3.\n\\boxed{3}",
        }
    )
    pupil = script({"Rationale": "The answer is \\boxed{2}.", "": STATED}, weights=NOWHERE)
    ran = run("sci_cot", [P1, P2, P3], {"teacher": teacher, "student": pupil}, **values)
    return ran, teacher, pupil


def shown(template, asked, text=""):
    return fill_template(template, {"prompt": asked.prompt, "text": text})


def test_rationales_come_first_and_then_the_answers_behind_the_teachers_ones():
    ran, teacher, pupil = sci(own_share=0.0)
    assert [stage.name for stage in ran.stages] == ["rationale", "answer"]
    assert all(stage.model is pupil for stage in ran.stages) and not pupil.calls
    assert ran.texts(0) == {"p1": ["1 is doubled.\nSo 2 of them."], "p2": ["2 is doubled."]}
    assert ran.prompts_learnt(0) == [P1.prompt, P2.prompt]
    assert ran.texts(1) == {
        "p1": ["The answer is \\boxed{2}."],
        "p2": ["The answer is \\boxed{4}."],
    }
    assert ran.prompts_learnt(1)[1] == shown(INFER, P2, "2 is doubled.")
    assert all(learns_end(row) and not row.saw_gold for row in ran.rows)
    assert prompts(teacher) == [shown(EXPLAIN, asked) for asked in (P1, P2, P3)]
    assert ran.reasons()["right"] == ["wrong: 3 is not 6 (boxed)"]


def test_behind_the_first_students_rationales_the_answer_is_the_teachers():
    ran, _, pupil = sci(own_share=1.0)
    assert prompts(pupil) == [P1.prompt, P2.prompt]
    assert ran.prompts_learnt(1) == [shown(INFER, P1, OWN), shown(INFER, P2, OWN)]
    assert ran.texts(1)["p2"] == ["The answer is \\boxed{4}."]
    assert "The answer is \\boxed{2}." in ran.sources(ran.rows[0])


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("\\boxed{2}", "no rationale before the answer"),
        ("It is \\boxed{2}.\nThe answer is 2.", "states the answer before its last line"),
    ],
)
def test_what_explains_nothing_or_says_the_answer_is_no_rationale(first, reason):
    ran, _, _ = sci(first, own_share=0.0)
    assert ran.reasons()["is_rationale"] == [reason]
    assert set(ran.texts(0)) == set(ran.texts(1)) == {"p2"}


def test_the_controls_learn_both_in_one_text_or_the_answer_alone():
    ran, _, _ = sci(arm="cot")
    assert ran.texts()["p2"] == ["2 is doubled. \\boxed{4}"] and len(ran.stages) == 1
    assert sci(arm="answer")[0].texts()["p2"] == ["The answer is \\boxed{4}."]


def test_an_answer_takes_a_rationale_and_what_follows_from_it():
    ran, _, pupil = sci(own_share=0.0)
    answers = ran.solver([P1], n=2, temperature=0.5)
    assert [answer.text for answer in answers] == ["The answer is \\boxed{2}."] * 2
    assert prompts(pupil) == [P1.prompt] * 2 + [shown(INFER, P1, OWN)] * 2


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rows = run_on_world(tmp_path, "sci_cot", roles=["teacher=world:oracle"], sets=[]).rows
    assert set(rows) == {"rationale", "answer"}
    assert not any("boxed" in row["completion"] for row in rows["rationale"])
    assert all(row["completion"].startswith("The answer is") for row in rows["answer"])
