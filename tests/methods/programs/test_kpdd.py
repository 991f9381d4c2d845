"""KPDD, exactly: what the teacher is shown in turn, what each of the three students learns, and how they answer."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script
from world_run import run_on_world

from potstill.runs.cast import Cast

CAST = Cast(models={"teacher": ORACLE}, poses=True)
P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
PROGRAM = "def solution():\n    result = 1 + 1\n    return result"
BEHIND_POINTS = f"{P1.prompt}\n\nCore question: The sum of 1\n\nInformation:\n- it is added twice"


def kpdd(problems=(P1, P2, P3), **values):
    teacher = script(
        {
            ("State the core", P1.question): "The sum of 1\n",
            ("State the core", P2.question): "The sum of 2",
            ("State the core", P3.question): {"text": "The", "finish": "length"},
            ("List the problem-solving", P1.question): "- it is added twice",
            ("List the problem-solving", P2.question): "- 2",
            ("solution()", P1.question): PROGRAM,
            ("solution()", P2.question): "def solution():\n    return 5",
            P1.question: "It is \\boxed{2}.",
            "": "Hm.",
        }
    )
    answers = {"Core question": PROGRAM, "": "The sum of 1"}
    pupil = script(answers, weights=NOWHERE)
    ran = run("kpdd", list(problems), {"teacher": teacher, "student": pupil}, **values)
    return ran, teacher, pupil


def test_three_students_learn_the_core_question_the_information_and_the_program_behind_both():
    ran, teacher, pupil = kpdd()
    assert [stage.name for stage in ran.stages] == ["core", "information", "solution"]
    assert all(stage.model is pupil for stage in ran.stages)
    learnt = [ran.texts(stage) for stage in range(3)]
    assert learnt == [
        {"p1": ["The sum of 1\n"]},
        {"p1": ["- it is added twice"]},
        {"p1": [PROGRAM]},
    ]
    assert [ran.prompts_learnt(stage) for stage in range(3)] == [
        [P1.prompt],
        [P1.prompt],
        [BEHIND_POINTS],
    ]
    asked = prompts(teacher)
    assert len(asked) == 3 + 2 + 2 and BEHIND_POINTS in asked[5]
    assert "Core question: The sum of 1" in asked[3]
    reasons = ran.reasons()
    assert reasons["is_finished"] == ["not finished"]
    assert reasons["right"] == ["wrong: 5 is not 4 (boxed)"]


@pytest.mark.parametrize(
    ("arm", "names", "text", "prompt"),
    [
        ("kpdd-cot", ["core", "information", "solution"], "It is \\boxed{2}.", BEHIND_POINTS),
        ("core", ["core", "solution"], PROGRAM, f"{P1.prompt}\n\nCore question: The sum of 1"),
        ("pot", ["solution"], PROGRAM, P1.prompt),
        ("cot", ["solution"], "It is \\boxed{2}.", P1.prompt),
    ],
)
def test_a_control_leaves_out_a_key_point_or_the_programs(arm, names, text, prompt):
    ran, _, _ = kpdd([P1], arm=arm)
    assert [stage.name for stage in ran.stages] == names
    assert ran.texts() == {"p1": [text]} and ran.prompts_learnt() == [prompt]


def test_an_answer_takes_key_points_once_and_n_programs_behind_them():
    ran, _, pupil = kpdd()
    before = len(pupil.calls)
    answers = ran.solver([P1], n=2)
    assert [trace.text for trace in answers] == [
        f"{PROGRAM}\n\nThe program prints \\boxed{{2}}."
    ] * 2
    asked = prompts(pupil)[before:]
    assert asked[:2] == [P1.prompt] * 2 and len(asked) == 4
    assert asked[2].endswith("Core question: The sum of 1\n\nInformation:\nThe sum of 1")


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rows = run_on_world(tmp_path, "kpdd", roles=["teacher=world:oracle"], sets=["n=1"]).rows
    assert set(rows) == {"core", "information", "solution"}
    assert all(row["completion"].startswith("How many") for row in rows["core"])
    assert all("Information:\n- " in str(row["prompt"]) for row in rows["solution"])
