"""Marco-o1 v2, exactly: who writes which thought, where a wrong answer goes on, and which chains are learnt."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from scripted_world import NOWHERE, ORACLE, number, run, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.searching.marco_o1 import ARMS, SEARCH, Settings
from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel
from potstill.records import learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import fill_template
from potstill.world.oracle.program import choose_role

SMALL = Settings(rollouts=2, min_right=1, max_right=3)
CAST = Cast(models={"teacher": ORACLE}, values={"settings": SMALL})
P1 = number("p1", "What is 2 + 2?", "4")


def open_tag(request: Request) -> str:
    return re.findall(r"<([\w-]+)>", request.prefix)[-1]


def think(results):
    """A model whose thoughts come to these results in turn; "{anew}" is right behind a reflection alone."""

    def reply(request: Request) -> str:
        tag, place = open_tag(request), request.sample_index % 1_000_000
        if tag == "thinking":
            result = results[place % len(results)]
            if result == "anew":
                result = "4" if "<reflection>" in request.prefix else "5"
            return f"2 + 2 = {result}.</thinking> And so on."
        if tag == "answer":
            result = re.findall(r"= (\d+)", request.prefix)[-1]
            return f" \\boxed{{{result}}}"
        return f" My {tag}{'!' * place}"

    return reply


def marco(*results, teacher=None, settings=SMALL, **values):
    roles = {
        "teacher": teacher or ScriptedModel(think(results), name="teacher"),
        "checker": ScriptedModel(think(results), name="checker"),
        "student": student(["Hm."]),
    }
    return run("marco_o1", [P1], roles, settings=settings, **values), roles


def shape(text: str) -> list[str]:
    return re.findall(r"<([\w-]+)>", text)


def test_the_longest_right_chain_is_learnt_then_the_shortest_is_preferred():
    ran, roles = marco("4", "5")
    assert [stage.name for stage in ran.stages] == ["sft", "dpo"]
    [row], [pair] = ran.stages[0].rows, ran.stages[1].rows
    assert shape(row.text)[0] == "sub-task" and shape(row.text)[-2:] == ["double-check", "answer"]
    assert row.text.endswith("<answer>The answer is: \\boxed{4}</answer>")
    assert "2 + 2 = 4.</thinking>\n" in row.text and "And so on" not in row.text
    assert row.prompt == pair.prompt == P1.prompt and learns_end(row)
    assert learnt_stretches(row) == [(0, len(row.text))], "tags and openers too"
    assert len(pair.text) < len(row.text) and pair.rejected.verdict.status == "wrong"
    # What both sides begin with is masked, and all behind it is learnt.
    for side in (pair, pair.rejected):
        [(start, stop)] = learnt_stretches(side)
        assert stop == len(side.text) and side.text[:start] == pair.text[:start]
    assert ran.stages[1].constants["sft"] == 1 and ran.stages[1].constants["label_smoothing"] == 0.1
    asked = {name: {open_tag(call) for call in model.calls} for name, model in roles.items()}
    assert asked["teacher"] == {"sub-task", "thinking", "answer"}
    assert asked["checker"] <= {"double-check", "thinking_from_scratch"}
    assert roles["teacher"].calls[0].prompt == fill_template(SEARCH, {"prompt": P1.prompt})


def test_behind_a_wrong_answer_the_search_goes_on_from_the_check_with_a_reflection():
    ran, _ = marco("anew", settings=replace(SMALL, rollouts=10, max_right=1))
    [row] = ran.stages[0].rows
    start = shape(row.text).index("reflection")
    assert shape(row.text)[start - 1 : start + 3] == [
        *("double-check", "reflection"),
        *("thinking_from_scratch", "thinking"),
    ]
    assert "2 + 2 = 5." in row.text and shape(row.text).count("answer") == 1
    assert "reflection" not in shape(ran.stages[1].rows[0].rejected.text)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in ("full", "sft", "distilled")])
def test_the_controls_take_back_one_thing_after_the_other(arm):
    ran, _ = marco("4", "5", arm=arm)
    [pair] = ran.stages[1].rows
    constants = ran.stages[1].constants
    assert learnt_stretches(pair) == [(0, len(pair.text))]
    assert constants["sft"] == (arm == "joint")
    assert (constants["label_smoothing"] > 0) == (arm in ("joint", "conservative"))
    assert (pair.text == ran.stages[0].rows[0].text) == (arm == "dpo")


def test_a_search_that_is_right_too_seldom_is_no_row_and_one_that_is_never_wrong_no_pair():
    with pytest.raises(StageError, match="only 0 rollouts of its search ended right"):
        marco("5", arm="sft")
    with pytest.raises(StageError, match="arm=sft"):
        marco("4")
    ran, _ = marco("4", arm="sft")
    assert len(ran.stages) == 1


def test_failures_are_dead_ends_and_an_answer_that_breaks_off_is_no_row():
    def fail_at_answers(request):
        if open_tag(request) == "answer":
            return {"error": "down"}
        return think(["4"])(request)

    with pytest.raises(StageError):
        marco(teacher=ScriptedModel(fail_at_answers, weights=NOWHERE), arm="sft")
    with pytest.raises(StageError, match="not finished"):
        cut = Settings(rollouts=2, min_right=1, sampling=(("max_new_tokens", 1),))
        marco(teacher=ScriptedModel(lambda request: " \\boxed{4} and"), settings=cut, arm="sft")


def test_the_comparison_learns_the_teachers_own_right_chains():
    ran, _ = marco(teacher=ScriptedModel(["So \\boxed{4}."]), arm="distilled")
    assert ran.texts() == {"p1": ["So \\boxed{4}."]}


def test_the_oracle_knows_the_prompt_of_the_search():
    assert choose_role(SEARCH).name == "tagged_thinker"


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    # The world's student has never seen a tag: two steps leave a loss that rounding to bfloat16 moves.
    sets = ["training.dtype=float32", "settings.rollouts=8"]
    rows = run_on_world(tmp_path, "marco_o1", roles=["teacher=world:oracle"], sets=sets).rows
    assert set(rows) == {"sft", "dpo"} and len(rows["sft"]) > 8
    assert all(row["completion"].startswith("<sub-task>") for row in rows["sft"])
