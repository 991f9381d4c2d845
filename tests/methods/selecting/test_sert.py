"""SERT, exactly: what the student is asked, which of its samples look like reasoning, and what comes after."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_world import NOWHERE, number, prompts, run, script
from world_run import run_on_world

from potstill.methods.selecting.sert import Rules, looks_like_reasoning

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
REASONED = "Two and two more are three, so it is \\boxed{3}."
OWN = {
    "Question: What is 2": ["\\boxed{4}", REASONED, REASONED, {"error": "down"}],
    "Question: What is 3": [
        "It is seven, it must be seven I guess: \\boxed{7}",
        {"text": "First three, then four, so that makes", "finish": "length"},
        "So so so so so so so so so so so so",
        "Because three and four are seven it is \\boxed{7}.",
    ],
}
CHAINS = {"2 + 2": "2 + 2 = 4: \\boxed{4}", "": "Hm."}


def sert(**values):
    pupil, teacher = script(OWN, weights=NOWHERE), script(CHAINS)
    return run("sert", [P1, P2], {"teacher": teacher, "student": pupil}, n=4, **values), pupil


def test_samples_that_look_like_reasoning_are_learnt_right_or_wrong_and_then_the_teachers_chains():
    ran, pupil = sert()
    assert [stage.name for stage in ran.stages] == ["activation", "distillation"]
    assert ran.texts(0) == {
        "p1": [REASONED],
        "p2": ["Because three and four are seven it is \\boxed{7}."],
    }
    assert ran.texts(1) == {"p1": ["2 + 2 = 4: \\boxed{4}"]}
    assert ran.prompts_learnt(0) == [P1.prompt, P2.prompt]
    assert set(prompts(pupil)) == {f"Question: {problem.question}\nAnswer:" for problem in (P1, P2)}
    assert len(pupil.calls) == 8 and all(stage.model is pupil for stage in ran.stages)


def test_what_does_not_look_like_reasoning_says_why():
    reasons = sert()[0].reasons()
    [rules] = [found for test, found in reasons.items() if test.startswith("looks_like")]
    assert rules == [
        "not 8 to 256 words long",
        "nothing in it leads from one step to the next",
        "repeats more than 20% of its 3-word stretches",
    ]
    assert reasons["is_finished"] == ["error: down", "not finished"]
    assert reasons["right"] == ["unparsed: no number (last line)"]


def test_the_controls_leave_a_stage_out_or_choose_other_samples():
    ran, pupil = sert(arm="distill-only")
    assert [stage.name for stage in ran.stages] == ["distillation"] and not pupil.calls
    assert [stage.name for stage in sert(arm="self-only")[0].stages] == ["activation"]
    assert len(sert(arm="unfiltered")[0].stages[0].rows) == 2
    assert sert(arm="right")[0].texts(0)["p1"] == ["\\boxed{4}"]


@pytest.mark.parametrize(
    ("text", "rules", "is_reasoning"),
    [
        ("2 + 2 = 4 and 4 + 1 = 5", Rules(), True),
        ("Yes.", Rules(min_words=1), False),
        ("Yes, because it is.", Rules(min_words=1), True),
        (REASONED, Rules(min_connectives=2), False),
    ],
)
def test_the_rules_are_settings(text, rules, is_reasoning):
    assert looks_like_reasoning(rules, replace(P1, text=text))[0] == is_reasoning


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """The world's student reasons in nearly all of its samples, so this shows the stages, not the rules."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "sert", roles=["teacher=world:teacher"], sets=["n=4"])
    assert set(ran.rows) == {"activation", "distillation"}
    assert all("=" in row["completion"] for row in ran.rows["activation"])
