"""OpenCodeReasoning, exactly: which programs are whole, and that their verdicts delete nothing but in the controls."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.selecting.opencodereasoning import has_whole_program
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.world.scripted import solve_by_chance


def write_block(answer, code="print(1)\n"):
    """A text with a program; its last line is judged as a number, which needs no sandbox."""
    return f"<think>\nHm.\n</think>\n```python\n{code}```\nIt prints \\boxed{{{answer}}}."


def write_program(request):
    """A scripted teacher whose chains have a block of code before the answer."""
    chain = solve_by_chance(request, 0.6)
    return f"```python\n{render(request.prompt)!r}\n```\n{chain}"


CAST = Cast(models={"teacher": ScriptedModel(write_program, name="programmer")}, values={"n": 4})
EASY, HARD = number("easy", "What is 2 + 2?", "4"), number("hard", "What is 3 + 4?", "7")
SAMPLES = {
    "2 + 2": [write_block(4), write_block(5), write_block(4), "It is \\boxed{4}."],
    "": [
        write_block(1),
        {"text": write_block(7), "finish": "length"},
        {"error": "down"},
        write_block(7, "def solve():\n    ...\n"),
    ],
}


def opencodereasoning(**values):
    teacher = script(SAMPLES)
    roles = {"teacher": teacher, "student": student(["-"])}
    return run("opencodereasoning", [EASY, HARD], roles, n=4, **values), teacher


def test_whole_programs_are_learnt_whatever_their_tests_say():
    ran, teacher = opencodereasoning()
    assert ran.texts() == {"easy": [write_block(4), write_block(5)], "hard": [write_block(1)]}
    assert [row.verdict.status for row in ran.rows] == ["right", "wrong", "wrong"]
    assert ran.prompts_learnt() == [EASY.prompt, EASY.prompt, HARD.prompt]
    assert len(teacher.calls) == 8 and teacher.calls[0].sampling.max_new_tokens == 28768
    reasons = ran.reasons()
    assert reasons["is_finished"] == ["error: down", "not finished"]
    assert reasons["has_whole_program"] == [
        "a placeholder in its program: '...'",
        "no whole block of code behind the thought",
    ]
    assert len(reasons["words"]) == 1


@pytest.mark.parametrize(
    ("arm", "texts"),
    [
        ("passing", {"easy": [write_block(4)]}),
        ("failing", {"easy": [write_block(5)], "hard": [write_block(1)]}),
        ("same-questions", {"easy": [write_block(4), write_block(5)]}),
    ],
)
def test_the_controls_delete_by_the_tests(arm, texts):
    assert opencodereasoning(arm=arm)[0].texts() == texts


def test_a_question_that_is_too_long_is_left_out():
    ran, _ = opencodereasoning(max_question_tokens=10_000)
    assert len(ran.rows) == 3
    with pytest.raises(StageError, match="more than 0 tokens"):
        opencodereasoning(max_question_tokens=0)


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ("```python\ntry:\n    x = 1\nexcept E:\n    pass\n```", True),
        ("```python\nx = 1\n", False),
        ("```\n\n```", False),
        ("<think>\n```python\nx = 1\n```\n</think>\nDone.", False),
        ("```cpp\n// your code here\n```", False),
        ("```python\n# TODO\n```", False),
        ("```python\nprint('Your code here')\n```", False),
        ("```python\nprint(1)\n#Output#\n```", False),
    ],
)
def test_a_program_is_whole_in_a_closed_block_behind_the_thought(text, is_whole):
    assert has_whole_program(replace(EASY, text=text))[0] == is_whole


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(
        tmp_path,
        "opencodereasoning",
        roles=["teacher=world:oracle"],
        sets=["n=2"],
        problems="world:story-code-easy?size=8",
    )
    assert all("```python" in row["completion"] for row in ran.rows["opencodereasoning"])
