"""PaD, exactly: which programs are learnt, what errors are put into them, and how an answer is repaired."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script
from world_run import run_on_world

from potstill.methods.programs.pad import change_assignment
from potstill.runs.cast import Cast

CAST = Cast(values={"n": 1}, models={"teacher": ORACLE}, poses=True)
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
RIGHT = "def solution():\n    first = 2\n    result = first + 2\n    return result"
LONGER = "def solution():\n    one = 3\n    other = 4\n    result = one + other\n    return result"
FIXED = "def solution():\n    return 7"


def pad(**values):
    teacher = script(
        {
            P1.question: [RIGHT, RIGHT, "def solution():\n    return 2 + 3", "Four."],
            P2.question: [LONGER, {"error": "down"}, {"text": LONGER, "finish": "length"}, "Hm."],
        }
    )
    answers = {"does not solve": FIXED, P1.prompt: RIGHT, P2.prompt: "def solution(): retur"}
    pupil = script(answers, weights=NOWHERE)
    ran = run("pad", [P1, P2], {"teacher": teacher, "student": pupil}, **{"n": 4, **values})
    return ran, teacher, pupil


def test_programs_that_come_to_the_answer_are_learnt_once_and_beside_them_their_repairs():
    ran, teacher, _ = pad()
    assert ran.texts() == {"p1": [RIGHT, RIGHT], "p2": [LONGER, LONGER]}
    bare, repairs = [P1.prompt, P2.prompt], [p for p in ran.prompts_learnt() if "does not" in p]
    assert sorted(set(ran.prompts_learnt()) - set(repairs)) == sorted(bare) and len(repairs) == 2
    for prompt in repairs:
        attempt = prompt.split("question:\n")[1].split("\n\nWrite the program")[0]
        assert attempt.startswith("def solution():") and "\n\nThe program " in attempt
        assert RIGHT not in prompt and LONGER not in prompt
    assert len(teacher.calls) == 8 and "function `solution()`" in prompts(teacher)[0]
    reasons = ran.reasons()
    assert reasons["is_finished"] == ["error: down", "not finished"]
    assert reasons["right"] == [
        "unparsed: no program",
        "unparsed: no program",
        "wrong: 5 is not 4 (boxed)",
    ]


@pytest.mark.parametrize(
    ("arm", "texts"),
    [("no-repair", {"p1": 1, "p2": 1}), ("unchecked", {"p1": 3, "p2": 2}), ("cot", {"p1": 1})],
)
def test_a_control_leaves_out_the_repairs_the_checking_or_the_programs(arm, texts):
    ran, teacher, _ = pad(arm=arm)
    assert {name: len(rows) for name, rows in ran.texts().items()} == texts
    assert ("solution()" in prompts(teacher)[0]) == (arm != "cot")


def test_an_error_is_a_dropped_a_renamed_an_exchanged_or_a_broken_line():
    part = ("    ", "total", "first + 2")
    assert change_assignment("operator", *part) == "    total = first - 2"
    assert change_assignment("operator", "  ", "n", "-3") == "  n_value = -3"
    assert change_assignment("rename", *part) == "    total_value = first + 2"
    assert change_assignment("break", *part) == "    total = (first + 2"


def test_an_answer_is_what_the_program_prints_and_one_that_fails_is_repaired_once():
    ran, _, pupil = pad()
    before = len(pupil.calls)
    answers = {trace.problem.id: trace.text for trace in ran.solver([P1, P2])}
    assert answers["p1"] == f"{RIGHT}\n\nThe program prints \\boxed{{4}}."
    assert answers["p2"] == f"{FIXED}\n\nThe program prints \\boxed{{7}}."
    asked = prompts(pupil)[before:]
    assert len(asked) == 3 and "failed: NameError: name 'retur' is not defined\n" in asked[2]
    alone, _, pupil = pad(arm="no-repair")
    assert any("{nothing}" in trace.text for trace in alone.solver([P1, P2]))


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rows = run_on_world(tmp_path, "pad", roles=["teacher=world:oracle"], sets=["n=1"]).rows["pad"]
    assert all("return result" in row["completion"] for row in rows)
    assert any("does not solve" in str(row["prompt"]) for row in rows)
