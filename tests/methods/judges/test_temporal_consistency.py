"""Temporal consistency, exactly: what each round shows whom, when it ends, and which chains are learnt."""

from __future__ import annotations

import json

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import ConfigError
from potstill.methods.judges.temporal_consistency import read_location
from potstill.methods.paragraphs import split_paragraphs
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.world.oracle.program import answer_request
from potstill.world.oracle.roles import error_finder
from potstill.world.scripted import teacher_reply


def check_or_solve(request):
    """The scripted teacher of the suite, which also finds errors."""
    is_asked = error_finder.PATTERN.search(render(request.prompt))
    return answer_request(request, 0.1).text if is_asked else teacher_reply(request)


CHECKER = ScriptedModel(check_or_solve, name="checker")
CAST = Cast(
    models=dict.fromkeys(("teacher", "verifiers.1", "verifiers.2"), CHECKER),
    values={"agents": 2, "max_rounds": 4},
)
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
RIGHT, WRONG = "2 + 2 = 4.\n\nSo \\boxed{4}.", "3 + 4 = 8.\n\nSo \\boxed{8}."
FOUND, MISSED = "3 + 4 is 7. \\boxed{0}", "All is right. \\boxed{-1}"
TEACHER = {P1.question: RIGHT, P2.question: WRONG}
# One of three sees the error at once, the others where they look at their own verdict again.
VERIFIER = {
    ("solved the problem anew", "number]\n-1", P2.question): FOUND,
    ("solved the problem anew", "number]\n0", P2.question): FOUND,
    P2.question: [MISSED, FOUND, MISSED],
    "": MISSED,
}


def check(verifier, **values):
    verifiers = [script(verifier)] if isinstance(verifier, dict) else verifier
    roles = {"teacher": script(TEACHER), "student": student(["-"]), "verifiers": verifiers}
    return run("temporal_consistency", [P1, P2], roles, **{"agents": 3, **values}), verifiers[0]


def test_each_verifier_examines_its_own_verdict_until_the_majority_is_stable():
    ran, verifier = check(VERIFIER)
    assert ran.texts() == {"p1": [RIGHT]} and ran.prompts_learnt() == [P1.prompt]
    assert ran.reasons() == {"has_no_error": ["paragraph 0 is wrong to the verifiers"]}
    # Three rounds of the first chain; of the other one another, for its majority changed in the second.
    shown = [prompt for prompt in prompts(verifier) if P2.question in prompt]
    assert len(verifier.calls) == 9 + 12 and len(shown) == 12
    assert "<paragraph_1>\nSo \\boxed{8}.\n</paragraph_1>" in shown[0] and P2.prompt in shown[0]
    assert sorted(FOUND in prompt for prompt in shown[3:6]) == [False, False, True]
    assert all((FOUND in prompt) != (MISSED in prompt) for prompt in shown[3:])
    assert [call.sampling.top_k for call in verifier.calls[::6]] == [0, 40, 40, 40]


def test_without_a_second_look_the_first_majority_decides_and_in_a_debate_others_are_shown():
    ran, verifier = check(VERIFIER, arm="vote")
    assert sorted(ran.texts()) == ["p1", "p2"] and len(verifier.calls) == 6
    ran, verifier = check(VERIFIER, stable_rounds=1)
    assert sorted(ran.texts()) == ["p1"] and len(verifier.calls) == 12
    ran, verifier = check(VERIFIER, arm="greedy")
    assert len(verifier.calls) == 2 and verifier.calls[0].sampling.temperature == 0
    ran, verifier = check(VERIFIER, arm="debate")
    shown = [prompt for prompt in prompts(verifier)[6:] if P2.question in prompt]
    assert len(verifier.calls) == 12
    assert sorted(prompt.count("One verifier: 3 + 4 is 7.") for prompt in shown) == [0, 1, 1]
    assert all(prompt.count("One verifier:") == 2 for prompt in shown)


def test_labels_and_all_chains_are_controls_that_ask_no_verifier():
    ran, verifier = check(VERIFIER, arm="answers")
    assert ran.texts() == {"p1": [RIGHT]} and not verifier.calls
    assert sorted(check(VERIFIER, arm="unfiltered")[0].texts()) == ["p1", "p2"]


@pytest.mark.parametrize("reply", ["Hm.", {"error": "down"}, "\\boxed{2}"])
def test_a_verdict_that_can_not_be_read_is_given_anew_and_counts_for_no_number(reply):
    answers = {
        ("solved the problem anew", P2.question): FOUND,
        P2.question: [FOUND, reply, reply],
        "": MISSED,
    }
    ran, verifier = check(answers, max_rounds=2)
    assert "paragraph 0 is wrong to the verifiers" in ran.reasons()["has_no_error"]
    # In the second round the one that was read is examined, and the two others are asked as at first.
    shown = [prompt for prompt in prompts(verifier)[6:] if P2.question in prompt]
    assert ["solved the problem anew" in prompt for prompt in shown] == [True, False, False]


def test_a_chain_without_any_verdict_is_no_row_and_values_below_one_are_refused():
    ran, _ = check({P1.question: MISSED, "": "Hm."}, arm="vote")
    assert ran.reasons()["has_no_error"] == ["no verdict of the verifiers could be read"]
    with pytest.raises(ConfigError, match="agents=0"):
        check(VERIFIER, agents=0)


def test_numbers_are_read_in_the_last_box_behind_the_thought():
    assert read_location("<think>\\boxed{0}</think>It is \\boxed{4}, in \\boxed{ 1 }", 2) == 1
    assert read_location("\\boxed{-2}", 2) is read_location("\\boxed{x}", 2) is None
    assert split_paragraphs("One.\nTwo.\n\nThree.") == ["One.\nTwo.", "Three."]
    assert split_paragraphs("One. Two.\nThree.") == ["One.", "Two.", "Three."]


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["teacher=world:student", "verifiers=world:oracle"]
    ran = run_on_world(tmp_path, "temporal_consistency", roles=roles, sets=["agents=3"])
    assert ran.rows["temporal_consistency"]
    assert "they are right with an F1 of" in json.dumps(ran.results)
