"""AlphaLLM-CPL, exactly: what the search asks, which steps are a pair, and in which order they are learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_world import NOWHERE, number, run
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.searching.alphallm_cpl import Settings, order_pairs
from potstill.models.scripted import ScriptedModel
from potstill.records import learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import constant, pair_all, sample, score

SMALL = Settings(searches=4, children=2, rollouts=1, epochs=2, parts=2)
CAST = Cast(values={"settings": SMALL})
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
# A first step that leads to the right end, one that does not, and one way to the end of each.
FIRST, OTHER = "2 + 2 = 4.\n", "2 + 2 = 5.\n"


def think(request):
    """A first line in turn; behind it the end that it leads to."""
    if request.prefix:
        return f"So \\boxed{{{request.prefix[-3]}}}."
    return (FIRST, OTHER)[request.sample_index % 2] + "And on."


def improve(reply=think, problems=(P1,), settings=SMALL, logprobs=None, **values):
    pupil = ScriptedModel(reply, weights=NOWHERE, logprobs=logprobs)
    return run(
        "alphallm_cpl", list(problems), {"student": pupil}, settings=settings, **values
    ), pupil


def test_steps_behind_one_beginning_are_paired_by_how_often_they_lead_to_the_right_end():
    ran, pupil = improve(settings=replace(SMALL, parts=1, epochs=1))
    assert [(stage.name, stage.objective) for stage in ran.stages] == [("epoch-1-part-1", "dpo")]
    assert ran.stages[0].constants["num_train_epochs"] == 1
    assert f"{FIRST} > {OTHER}" in ran.texts()["p1"]
    step = next(row for row in ran.rows if row.text == FIRST)
    assert step.scores["reward_gap"] == 1 and step.finish_reason == "cut" and not step.saw_gold
    # Whole texts are paired too, right with wrong.
    ends = f"{FIRST}So \\boxed{{4}}. > {OTHER}So \\boxed{{5}}."
    assert sorted(ran.texts()["p1"]) == sorted([f"{FIRST} > {OTHER}", ends])
    assert [call.sampling.stop for call in pupil.calls[:2]] == [("\n",)] * 2
    assert {call.sampling.temperature for call in pupil.calls} == {1.0}
    assert all(row.prompt == P1.prompt for row in ran.rows)


def test_behind_a_shared_step_only_the_next_one_is_preferred():
    def reply(request):
        if request.prefix == FIRST:
            return ("So \\boxed{4}.", "So \\boxed{9}.")[request.sample_index % 2]
        return FIRST

    ran, _ = improve(reply, settings=replace(SMALL, parts=1, epochs=1, searches=8))
    [pair] = [
        row for row in ran.rows if "reward_gap" in row.scores and row.verdict.status != "right"
    ]
    assert (pair.text, pair.rejected.text) == (
        f"{FIRST}So \\boxed{{4}}.",
        f"{FIRST}So \\boxed{{9}}.",
    )
    for side in (pair, pair.rejected):
        assert learnt_stretches(side) == [(len(FIRST), len(side.text))]


def test_a_rollout_that_failed_makes_no_step_worse():
    def reply(request):
        if request.prefix == OTHER and request.sample_index % 2:
            return {"error": "down"}
        return "So \\boxed{4}." if request.prefix else think(request)

    with pytest.raises(StageError, match="arm=sft"):
        improve(reply, settings=replace(SMALL, rollouts=2))


def pairs_of(problem, *gaps):
    """Pairs of a problem with these reward gaps; their texts are the gaps."""
    pairs = []
    for gap in gaps:
        texts = ScriptedModel([f"good {gap}", f"bad {gap}"], name=str(gap))
        good, bad = sample(texts, [problem], n=2)
        pairs += score("reward_gap", constant(gap), pair_all([good], [bad]))
    return pairs


def test_each_problem_comes_once_before_any_comes_again_the_most_urgent_first():
    pairs = [*pairs_of(P1, 0.4, 1.0, 0.9), *pairs_of(P2, 0.5)]
    indifferent = ScriptedModel([""], logprobs=lambda passage: [-1.0])
    ordered = [pair.text for pair in order_pairs(0.5, indifferent, pairs)]
    assert ordered == ["good 1.0", "good 0.5", "good 0.9", "good 0.4"]
    # A policy that likes the worse side of one pair better has that one first.
    fond = ScriptedModel(
        [""], logprobs=lambda passage: [-0.1 if passage.text == "bad 0.4" else -3.0]
    )
    ordered = [pair.text for pair in order_pairs(0.0, fond, pairs)]
    assert ordered[0] == "good 0.4" and len(ordered) == 4
    assert order_pairs(1.0, fond, pairs)[0].text == "good 1.0"
    assert len(fond.scored) == 8, "the reward gap alone asks nobody"
    # Where nobody can tell, the reward gap decides.
    silent = ScriptedModel([""], logprobs=lambda passage: [])
    assert order_pairs(0.5, silent, pairs)[0].text == "good 1.0"


def test_every_epoch_trains_all_pairs_in_parts_against_the_first_student():
    ran, pupil = improve()
    names = [stage.name for stage in ran.stages]
    assert names == ["epoch-1-part-1", "epoch-1-part-2", "epoch-2-part-1", "epoch-2-part-2"]
    assert [len(stage.rows) for stage in ran.stages] == [1, 1, 1, 1]
    assert ran.texts(0) != ran.texts(1)
    passages = {(passage.prefix, passage.text) for passage in pupil.scored}
    assert ("", FIRST) in passages and len(pupil.scored) == 8


def test_the_controls():
    ran, pupil = improve(arm="no-curriculum")
    assert len(ran.stages) == 1 and ran.stages[0].constants["num_train_epochs"] == 2
    assert len(ran.rows) == 2 and not pupil.scored
    ran, _ = improve(arm="complete")
    assert [row.verdict.status for row in ran.rows] == ["right"]
    assert not improve(arm="reward-gap")[1].scored and improve(arm="policy-gap")[1].scored
    ran, _ = improve(arm="sft")
    assert ran.texts() == {"p1": [f"{FIRST}So \\boxed{{4}}."]} and ran.stages[0].objective == "sft"


def test_without_a_difference_or_with_failures_alone_there_is_no_pair():
    for reply in (
        lambda request: "So \\boxed{4}.",
        lambda request: {"error": "down"},
        lambda request: "Hm.",
    ):
        with pytest.raises(StageError, match="arm=sft"):
            improve(reply)


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    small = ["settings.searches=6", "settings.rollouts=2", "settings.epochs=1", "settings.parts=2"]
    sets = [*small, "settings.step_end='. '"]
    rows = run_on_world(tmp_path, "alphallm_cpl", roles=[], sets=sets).rows
    assert set(rows) == {"epoch-1-part-1", "epoch-1-part-2"}
    assert all(row["chosen"] != row["rejected"] for row in rows["epoch-1-part-1"])
