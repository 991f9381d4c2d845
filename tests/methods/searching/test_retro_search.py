"""Retro-Search, exactly: which prefixes go on, what is banned, which rollouts take the place of the rest."""

from __future__ import annotations

import re

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.searching.retro_search import BANNED, next_switch, step_starts
from potstill.models.model import Request
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.world.scripted import teacher_reply


def write_detour(request: Request) -> str:
    """The world's teacher behind a thought that it leaves; going on with the thought it needs a step less."""
    thought = request.prefix or "<think>\nLet me see. Wait, what is asked? I begin."
    return f"{thought} So.\n</think>\n{teacher_reply(request)}"


CAST = Cast(models={"teacher": ScriptedModel(write_detour)})

P1 = number("p1", "What is 2 + 2 + 2?", "6")
THOUGHT = "2 + 2 = 4.\n\nWait, is it?\n\nYes.\n\nAlternatively, count.\n\n4 + 2 = 6.\n"
CHAIN = f"<think>\n{THOUGHT}</think>\n\\boxed{{6}}"
FIRST, SECOND = (CHAIN[: CHAIN.index(word)] for word in ("Wait", "Alternatively"))
END = "</think>\n\\boxed{6}"


def search(rollouts, chains=(CHAIN,), **values):
    """The teacher's chain revised by a reviser that goes on with a prefix so."""
    rules = [Rule((text,), pattern=re.escape(prefix) + r"\Z") for prefix, text in rollouts.items()]
    reviser = ScriptedModel([*rules, Rule(("No idea.\n</think>\nHm.",))], name="reviser")
    roles = {
        "teacher": script({"": list(chains)}),
        "reviser": reviser,
        "student": student(["never asked"]),
    }
    return run("retro_search", [P1], roles, **values), reviser


def test_a_shorter_right_way_takes_the_place_of_the_rest_and_the_search_goes_on_in_it():
    ran, reviser = search({FIRST: f"Then 4 + 2.\n\nBut check.\n\nIt is 6.\n{END}"})
    shorter = f"{FIRST}Then 4 + 2.\n\nBut check.\n\nIt is 6.\n{END}"
    assert ran.texts() == {"p1": [shorter]} and ran.prompts_learnt() == [P1.prompt]
    # The second call goes on before the new chain's own switch, not before one of the old chain.
    assert [call.prefix for call in reviser.calls] == [FIRST, shorter[: shorter.index("But")]]
    assert all(call.sampling.ban_first == BANNED for call in reviser.calls)
    [row] = ran.rows
    assert learnt_stretches(row) == [(0, len(shorter))] and learns_end(row)
    assert ran.sources(row) == [FIRST]


@pytest.mark.parametrize(
    ("rollout", "test", "reason"),
    [
        ("Then 4 + 2 = 7.\n</think>\n\\boxed{7}", "right", "wrong"),
        ("Hm.", "right", "unparsed"),
        (f"Then.\n\nOne.\n\nTwo.\n\nSix.\n{END}", "has_fewer_steps", "5 steps, where there were 5"),
        (f"wait, no: 6.\n{END}", "continues_thought", "begins with a switch of thought"),
        ({"text": f"So 6.\n{END}", "finish": "length"}, "is_finished", "not finished"),
        ({"error": "down"}, "is_finished", "error: down"),
    ],
)
def test_a_rollout_that_is_worse_leaves_the_chain_and_the_next_thought_is_tried(
    rollout, test, reason
):
    ran, reviser = search({FIRST: rollout})
    assert ran.texts() == {"p1": [CHAIN]}
    assert [call.prefix for call in reviser.calls] == [FIRST, SECOND]
    assert any(text.startswith(reason) for text in ran.reasons()[test])


def test_the_controls():
    ran, reviser = search({}, arm="original")
    assert ran.texts() == {"p1": [CHAIN]} and not reviser.calls
    ran, reviser = search({FIRST: f"Wait, 6.\n{END}"}, arm="free")
    assert ran.texts() == {"p1": [f"{FIRST}Wait, 6.\n{END}"]}
    assert reviser.calls[0].sampling.ban_first == ()
    _, reviser = search({}, ban=False)
    assert reviser.calls[0].sampling.ban_first == ()


def test_it_may_begin_at_a_switch_by_chance_and_a_wrong_chain_is_not_revised():
    _, reviser = search({}, start="random")
    assert [call.prefix for call in reviser.calls] in ([FIRST, SECOND], [SECOND])
    with pytest.raises(StageError, match="keep right: 1"):
        search({}, ["<think>\nWait.\n</think>\n\\boxed{5}"])


def test_steps_are_sentences_where_there_are_no_blank_lines():
    text = "<think>\n2 + 2 = 5. Wait, no.\n2 + 2 = 4.\n</think>\nBut \\boxed{4}."
    assert [text[place : place + 4] for place in step_starts(text)] == ["2 + ", "Wait", "2 + "]
    assert next_switch(text, text.index("Wait")) is None
    assert len(step_starts(CHAIN)) == 5


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "retro_search", roles=["teacher=world:teacher"], sets=[])
    assert ran.rows["retro_search"]
