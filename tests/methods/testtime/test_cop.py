"""COP, exactly: how a question is numbered, mapped, pruned and put in order, and what an unread map costs."""

from __future__ import annotations

import pytest
from scripted_world import number, prompts, run, script
from world_run import calls_on_world

from potstill.methods.testtime.cop import MAP, QUERY, read_map, walk_tree

P1 = number("p1", "Tom is late. All cats purr. Ada is a cat. It rains. What purrs?", "5")
NUMBERED = "S1: Tom is late.\nS2: All cats purr.\nS3: Ada is a cat.\nS4: It rains.\nQ: What purrs?"
REPLY = "<think>\nS4 <- S1\n</think>\nQ <- S2\n- S2 <- S3, S3, S9"


def ask(reply=REPLY, n=1, **values):
    pupil = script({"numbered below": reply, "": "It is \\boxed{5}."})
    ran = run("cop", [P1], {"student": pupil}, **values)
    assert not ran.stages
    return ran.solver([P1], n=n, temperature=0.5), prompts(pupil)


@pytest.mark.parametrize(
    ("arm", "perceived"),
    [
        ("cop", "Ada is a cat. All cats purr. What purrs?"),
        ("concise", "All cats purr. Ada is a cat. What purrs?"),
        ("organized", "Tom is late. It rains. Ada is a cat. All cats purr. What purrs?"),
    ],
)
def test_the_map_decides_what_the_second_call_sees(arm, perceived):
    [answer], shown = ask(arm=arm)
    assert shown == [MAP + NUMBERED, f"Solve: {perceived}"]
    assert answer.text == "It is \\boxed{5}." and answer.prompt == P1.prompt


@pytest.mark.parametrize(
    "reply", ["All cats purr.", "S2 <- S3", "Q <- S9, rain", "Q <-", "<think>\nQ <- S1"]
)
def test_a_map_that_leads_nowhere_leaves_the_question_as_it_is(reply):
    _, shown = ask(reply=reply)
    assert shown[1] == P1.prompt


def test_the_whole_question_is_asked_once_and_a_failed_map_stays_failed():
    _, shown = ask(arm="whole")
    assert shown == [P1.prompt]
    answers, shown = ask(reply=[REPLY, {"error": "down"}], n=2)
    assert [bool(answer.error) for answer in answers] == [False, True] and len(shown) == 3


def test_circles_end_and_long_chains_are_walked():
    assert walk_tree({QUERY: [0], 0: [1], 1: [0, 2], 2: [2]}) == [2, 1, 0]
    assert walk_tree({QUERY: [0], **{place: [place + 1] for place in range(5000)}})[0] == 5000
    assert read_map("Q <= S1\n2. S2 ← S1", 2) == {QUERY: [0]}
    assert read_map("S0 <- S2\nQ <- S1", 2) == {QUERY: [0]}  # S0 is no statement


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """No student and no program of the world maps premises: each question is asked as it is, behind an unread map."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    assert calls_on_world(tmp_path, "cop", sets=[]) == (2, 1)
