"""OmniThought, exactly: which marks are asked of which chains, and which chain fits."""

from __future__ import annotations

import json

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.methods.selecting.omnithought import read_mark, target_of
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.world.scripted import teacher_reply


def mark(value):
    return f"Let me see. <score>{value}</score>"


def mark_or_solve(request):
    """The scripted teacher of the suite, which also marks chains."""
    shown = render(request.prompt)
    if "<score>" not in shown:
        return teacher_reply(request)
    return mark(1 if "logically correct" in shown else request.random_seed("mark") % 10)


MARKER = ScriptedModel(mark_or_solve, name="marker")
CAST = Cast(models={"teacher": MARKER, "judge": MARKER})

EASY, HARD = number("easy", "What is 2 + 2?", "4"), number("hard", "What is 3 + 4?", "7")
CHAINS = {
    "2 + 2": ["Brief \\boxed{4}", "Wordy \\boxed{4}", "Wrong \\boxed{5}", "Leaps to \\boxed{4}"],
    "3 + 4": ["Brief \\boxed{7}", "Wordy \\boxed{7}", "Mute \\boxed{7}", {"error": "down"}],
}
MARKS = {
    ("logically", "Leaps"): mark(0),
    "logically": mark(1),
    ("How wordy", "Brief"): mark(2),
    ("How wordy", "Wordy"): mark(8),
    ("How much", "2 + 2"): mark(1),
    ("How much", "3 + 4"): mark(7),
    "": "I can't say.",
}


def omnithought(marks=MARKS, others=(), **values):
    teacher, judge = script(CHAINS), script(marks)
    roles = {"teacher": teacher, "student": student(["-"]), "judge": judge, "others": others}
    return run("omnithought", [EASY, HARD], roles, **{"n": 4, **values}), judge


def test_the_verbosity_that_fits_the_difficulty_is_learnt():
    ran, judge = omnithought()
    assert ran.texts() == {"easy": ["Brief \\boxed{4}"], "hard": ["Wordy \\boxed{7}"]}
    assert ran.prompts_learnt() == [EASY.prompt, HARD.prompt]
    [row] = [row for row in ran.rows if row.problem.id == "hard"]
    assert (row.scores["verbosity"], row.scores["difficulty"]) == (8, 7)
    # Six right chains are judged, the five correct ones are marked twice.
    shown = prompts(judge)
    assert len(shown) == 6 + 5 + 5 and not any("Wrong" in prompt for prompt in shown)


def test_what_is_not_right_not_correct_or_not_marked_is_dropped():
    reasons = omnithought()[0].reasons()
    assert reasons["right"] == ["wrong: 5 is not 4 (boxed)"]
    assert reasons["is_correct"] == ["not correct to the judge"]
    assert reasons["is_marked"] == ["no mark of verbosity"]
    assert reasons["is_finished"] == ["error: down"]


@pytest.mark.parametrize(("arm", "text"), [("concise", "Brief"), ("exhaustive", "Wordy")])
def test_a_control_wants_one_verbosity_of_all(arm, text):
    ran, _ = omnithought(arm=arm)
    assert all(texts[0].startswith(text) for texts in ran.texts().values())


def test_a_bin_is_capped_and_another_teacher_writes_too():
    other = script({"2 + 2": "Brief too \\boxed{4}", "": "Hm."}, name="other")
    alike = {**MARKS, ("How much", "3 + 4"): mark(2)}
    ran, judge = omnithought(marks=alike, others=[other], per_bin=1)
    assert len(ran.rows) == 1 and len(other.calls) == 8
    assert any("Brief too" in prompt for prompt in prompts(judge))
    assert [target_of("matched", place) for place in range(3)] == [2, 6, 9]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("<score> 7 </score>", 7),
        ("<think><score>1</score></think><SCORE>2</SCORE>", 2),
        ("<score>10</score>", None),
        ("<score>1</score> or <score>2</score>", None),
        ("Score: 7", None),
    ],
)
def test_a_mark_is_read_from_its_tag_and_never_guessed(reply, value):
    assert read_mark("verbosity", 9, reply) == value


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """The world has no judge of verbosity, so a scripted one tells checked chains from brief ones."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rules = [
        {"pattern": "logically", "answers": [mark(1)]},
        {"pattern": "(?s)How wordy.*Check:", "answers": [mark(8)]},
        {"answers": [mark(2)]},
    ]
    script_file = tmp_path / "judge.json"
    script_file.write_text(json.dumps(rules))
    roles = ["teacher=world:teacher", f"judge=scripted:{script_file}"]
    ran = run_on_world(tmp_path, "omnithought", roles=roles, sets=["n=4"])
    rows = ran.rows["omnithought"]
    assert len({row["prompt"] for row in rows}) == len(rows)
