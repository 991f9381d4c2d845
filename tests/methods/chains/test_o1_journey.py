"""Two trainings, exactly: reformatted solutions first, then the teacher's thoughts."""

from __future__ import annotations

import dataclasses

from scripted_world import number, prompts, run, script, student

from potstill.methods.chains.o1_journey import REFORMAT
from potstill.runs.cast import Cast
from potstill.traces import fill_template
from potstill.world.scripted import scripted_teacher

CAST = Cast(models={"editor": scripted_teacher(name="editor")})

SOLUTION = "2 + 3 = 5. 5 + 4 = 9. #### 9"
P1 = number("p1", "What is 2 + 3 + 4?", "9")
P1 = dataclasses.replace(P1, problem=dataclasses.replace(P1.problem, solution=SOLUTION))
P2 = number("p2", "What is 3 + 4?", "7")
THOUGHT = "<think>\nHm, 3 + 4 = 7.\n</think>\n\\boxed{7}"
LONG = "First 2 + 3 = 5.\nThen 5 + 4 = 9.\n\\boxed{9}"


def o1_journey(written=LONG, **values):
    cut = {"text": "It is \\boxed{9}.", "finish": "length"}
    teacher = script({P2.prompt: THOUGHT, "": cut}, name="teacher")
    roles = {"teacher": teacher, "editor": script({"": written}), "student": student(["-"])}
    return run("o1_journey", [P1, P2], roles, **values), roles


def test_solutions_in_the_long_format_are_learnt_first_then_the_teachers_right_thoughts():
    ran, roles = o1_journey()
    assert ran.texts(0) == {"p1": [LONG]} and ran.texts(1) == {"p2": [THOUGHT]}
    assert prompts(roles["editor"]) == [
        fill_template(REFORMAT, {"question": P1.question, "text": SOLUTION})
    ]
    assert len(roles["teacher"].calls) == 2 and ran.prompts_learnt(0) == [P1.prompt]
    assert ran.reasons() == {
        "has_solution": ["the problem has no solution"],
        "is_finished": ["not finished"],
    }


def test_a_reformatting_that_is_cut_or_says_nothing_is_no_row():
    for written, test in (
        ({"text": LONG, "finish": "length"}, "is_finished"),
        ("So the answer is \\boxed{9}.", "reasons_enough"),
        (LONG.replace("{9}", "{8}"), "right"),
    ):
        teacher = script({"at length": written, "": THOUGHT})
        other = dataclasses.replace(P2, problem=dataclasses.replace(P2.problem, solution="#### 7"))
        editor = script({"2 + 3": written, "": "3 + 4 = 7: \\boxed{7}"})
        roles = {"teacher": teacher, "editor": editor, "student": student(["-"])}
        ran = run("o1_journey", [P1, other], roles, arm="format-only")
        assert list(ran.texts()) == ["p2"] and test in ran.reasons()


def test_the_controls_are_one_of_the_two_trainings():
    ran, roles = o1_journey(arm="distilled-only")
    assert len(ran.stages) == 1 and ran.texts() == {"p2": [THOUGHT]} and not roles["editor"].calls
    ran, roles = o1_journey(arm="format-only")
    assert len(ran.stages) == 1 and ran.texts() == {"p1": [LONG]} and not roles["teacher"].calls


def test_the_editors_own_thought_is_no_part_of_the_row():
    ran, _ = o1_journey(f"<think>\nHow?\n</think>\n{LONG}")
    assert ran.texts(0) == {"p1": [LONG]}
