"""Chain of Logic, exactly: what the student is shown, and what a program makes of its expression.

There is no run on the built-in world: its stories have no rule to apply.
"""

from __future__ import annotations

import pytest
from scripted_world import prompts, run, script

from potstill.methods.testtime.chain_of_logic import (
    CASE,
    CHAIN,
    COT,
    SELF_ASK,
    STANDARD,
    resolve_expression,
)
from potstill.records import Problem, blank
from potstill.traces import verify

P1 = blank(
    Problem("p1", "Rule: … Facts: … Is it so?", "No", kind="exact"),
    "Rule: … Facts: … Is it so? Say Yes or No.",
)
REPLY = "Expression: E1 AND (E2 or not E3)\nE1 = Yes\nE2 = No\nE3 = Yes\nResult: Yes.\nThe answer is \\boxed{Yes}."


def ask(reply=REPLY, problem=P1, **values):
    pupil = script({"": reply})
    ran = run("chain_of_logic", [problem], {"student": pupil}, **values)
    assert not ran.stages
    return verify(ran.solver([problem], n=1, temperature=0.0)), prompts(pupil)


@pytest.mark.parametrize(
    ("arm", "demonstration"),
    [("chain", CHAIN), ("self-ask", SELF_ASK), ("cot", COT), ("standard", STANDARD)],
)
def test_the_question_stands_behind_one_demonstration(arm, demonstration):
    [answer], [shown] = ask(arm=arm)
    assert f"Example:\n{CASE}\n\n{demonstration}\n\nQuestion:\n{P1.prompt}" in shown
    assert (answer.text, answer.prompt, answer.verdict.status) == (REPLY, P1.prompt, "wrong")


def test_without_a_demonstration_it_is_the_bare_prompt():
    _, shown = ask(arm="zero-shot", resolver="code")
    assert shown == [P1.prompt]


def test_a_program_may_resolve_the_expression():
    [answer], _ = ask(resolver="code")
    assert (
        answer.text == f"{REPLY}\nResolved by a program: \\boxed{{No}}."
        and answer.verdict.status == "right"
    )
    choice = blank(Problem("c", "Is it so?", "B", kind="choice", choices=("Yes", "No")))
    [answer], _ = ask(problem=choice, resolver="code")
    assert answer.text.endswith("\\boxed{B}.") and answer.verdict.status == "right"
    other = blank(Problem("c", "Which?", "B", kind="choice", choices=("the first", "the second")))
    [answer], _ = ask(problem=other, resolver="code")
    assert answer.text == REPLY


@pytest.mark.parametrize(
    "reply",
    [
        "No idea.",
        "Expression: E1 and E2\nE1 = Yes",
        "Expression: E1 and\nE1 = Yes",
        "Expression: E1()\nE1 = Yes",
        "Expression: E1 E1\nE1 = Yes",
        "Expression: __import__('os')\nE1 = Yes",
        "Expression: " + "(" * 200 + "E1" + ")" * 190 + "\nE1 = Yes",
        "Expression: " + "not " * 90 + "E2\nE1 = Yes",
        {"error": "down"},
    ],
)
def test_what_is_no_expression_of_answered_elements_leaves_the_reply_as_it_is(reply):
    [answer], _ = ask(reply=reply, resolver="code")
    assert answer.text == ("" if isinstance(reply, dict) else reply)


def test_the_demonstration_resolves_to_what_it_says():
    assert resolve_expression(CHAIN) is True
    assert resolve_expression(CHAIN.replace("E2 = Yes", "E2 = No")) is False
