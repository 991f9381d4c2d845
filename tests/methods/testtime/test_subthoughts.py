"""Subthoughts, exactly: where an answer is cut, what the student goes on from, and which answer is elected."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_world import number, run
from world_run import calls_on_world

from potstill.methods.testtime.subthoughts import cut_before_markers, spread
from potstill.models.scripted import Rule, ScriptedModel

P1 = number("p1", "What is 2 + 3 + 4?", "9")
FIRST = "<think>\n2 + 3 = 6. Wait, so 5. So 6 + 4 = 10. Let me stop.\n</think>\n\\boxed{10}"
CUTS = [
    "<think>\n2 + 3 = 6.",
    "<think>\n2 + 3 = 6. Wait, so 5.",
    "<think>\n2 + 3 = 6. Wait, so 5. So 6 + 4 = 10.",
    "<think>\n2 + 3 = 6. Wait, so 5. So 6 + 4 = 10. Let me stop.\n",
]
ENDS = [
    " 9.\n</think>\n\\boxed{9}",
    " Hm.",
    " Yes.\n</think>\n\\boxed{9.0}",
    "</think>\n\\boxed{10}",
]


def ask(ends=ENDS, fresh=(FIRST,), n=1, **values):
    rules = [
        Rule((end,), pattern=f"(?s)\\A.*{ending}\\Z")
        for end, ending in zip(ends, ENDINGS, strict=True)
    ]
    pupil = ScriptedModel([*rules, Rule(tuple(fresh), prompt=P1.prompt)])
    ran = run("subthoughts", [P1], {"student": pupil}, **values)
    assert not ran.stages
    return ran.solver([P1], n=n, temperature=0.0), pupil


ENDINGS = [r"= 6\.", r"so 5\.", r"= 10\.", r"stop\.\n"]


def test_the_student_goes_on_from_each_subthought_and_the_mode_is_elected():
    [answer], pupil = ask()
    assert [call.prefix for call in pupil.calls] == ["", *CUTS]
    assert answer.text == CUTS[0] + ENDS[0] and answer.prompt == P1.prompt
    assert {(call.sampling.temperature, call.sampling.top_p) for call in pupil.calls[1:]} == {
        (1.0, 0.95)
    }
    assert round(answer.scores["entropy"], 3) == 0.637  # 9, 9 and 10: no answer is no vote


def test_ties_go_to_the_first_and_nothing_read_is_an_answer_too():
    [answer], _ = ask([" Hm.", "</think>\n\\boxed{10}", "</think>\n\\boxed{9}", " Hm."])
    assert answer.text == CUTS[1] + "</think>\n\\boxed{10}"
    [answer], _ = ask([" Hm."] * 4)
    assert answer.text == CUTS[0] + " Hm." and answer.scores["entropy"] is None


def test_fewer_cuts_are_spread_and_the_last_one_stays():
    assert spread(0, [1, 2, 3]) == spread(9, [1, 2, 3]) == [1, 2, 3]
    assert spread(2, [1, 2, 3, 4, 5]) == [2, 5] and spread(1, [1, 2]) == [2]
    _, pupil = ask(cuts=2)
    assert [call.prefix for call in pupil.calls[1:]] == [CUTS[1], CUTS[3]]


def test_controls_keep_the_first_answer_or_begin_anew_as_often():
    [answer], pupil = ask(arm="last")
    assert answer.text == FIRST and len(pupil.calls) == 1
    fresh = [FIRST, "\\boxed{9}", "\\boxed{9}", "\\boxed{8}"]
    [answer], pupil = ask(fresh=fresh, arm="resample")
    assert answer.text == "\\boxed{9}" and [call.prefix for call in pupil.calls] == [""] * 5
    assert {call.sampling.temperature for call in pupil.calls[1:]} == {1.0}


def test_several_answers_are_voted_on_apart_and_a_failed_one_stays_failed():
    answers, pupil = ask(fresh=[FIRST, {"error": "down"}], n=2)
    assert [bool(answer.error) for answer in answers] == [False, True] and len(pupil.calls) == 6


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("2 + 2 = 4.\nSo it is \\boxed{4}.", ["2 + 2 = 4."]),
        (
            "Wait, I’m off. I don’t see any errors.\n\\boxed{4}",
            ["Wait, I’m off.", "Wait, I’m off. I don’t see any errors."],
        ),
        ("Nowhere so. Sofa\n4", ["Nowhere so. Sofa"]),
    ],
)
def test_without_a_thought_the_last_line_is_no_reasoning(text, cuts):
    beginnings = cut_before_markers(0, replace(P1, text=text), is_blank=False)
    assert [beginning["text"].rstrip() for beginning in beginnings] == cuts


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """Its short chains have no markers: each is finished anew from before its last line."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    assert calls_on_world(tmp_path, "subthoughts", sets=[]) == (2, 1)
