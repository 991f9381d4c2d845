"""CoT-Bridge, exactly: what the bridger sees, where its steps go, and what an apprentice is taught."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from scripted_world import NOWHERE, number, prompts, run, student

from potstill.methods.rewriting.cot_bridge import (
    BRIDGE,
    MissingStep,
    choose_gaps,
    read_missing_steps,
    step_starts,
)
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Trace
from potstill.runs.cast import Cast
from potstill.traces import segment
from potstill.world.scripted import scripted_teacher

# Gold solutions are the same for every seed, a teacher's are not.
CAST = Cast(models={"teacher": scripted_teacher()})

SOLUTION = "2 + 3 = 5.\n\n5 * 4 = 20.\n\n#### 20"


def solved(name: str, solution: str, answer: str) -> Trace:
    trace = number(name, f"What is {name}?", answer)
    return dataclasses.replace(trace, problem=dataclasses.replace(trace.problem, solution=solution))


def missing(behind: int, text: str, number: int = 1) -> str:
    return (
        f"Missing Step {number}:\nThe missing step should be placed between Step {behind} and "
        f"Step {behind + 1}.\nThe missing step is:\n{text}\n"
    )


P1, P2 = solved("p1", SOLUTION, "20"), solved("p2", "9 - 2 = 7.\n#### 7", "7")
FIRST = "Add the two numbers first."


def bridge(replies, problems=(P1, P2), **values):
    bridger = ScriptedModel(replies)
    return run(
        "cot_bridge", list(problems), {"student": student(["-"]), "bridger": bridger}, **values
    ), bridger


def test_the_missing_step_is_put_in_behind_its_step():
    replies = {"": missing(0, FIRST) + missing(1, "Now times 4.", 2)}
    ran, bridger = bridge(
        [
            {"pattern": "5 \\* 4", "answer": replies[""]},
            {"pattern": "", "answer": "No missing steps."},
        ]
    )
    assert [row.text for row in ran.rows] == [
        f"{FIRST}\n\n2 + 3 = 5.\n\nNow times 4.\n\n5 * 4 = 20.\n\n#### 20",
        P2.problem.solution,
    ]
    assert [row.prompt for row in ran.rows] == [P1.prompt, P2.prompt]
    assert prompts(bridger)[0] == (
        f"{BRIDGE}Step 0:\nWhat is p1?\nStep 1:\n2 + 3 = 5.\nStep 2:\n5 * 4 = 20.\nStep 3:\n#### 20"
    )
    assert {request.sampling for request in bridger.calls} == {Sampling(0.0, max_new_tokens=1024)}


@pytest.mark.parametrize(
    "reply",
    [
        "I can't tell.",
        {"error": "down"},
        missing(3, "Behind the end."),
        missing(1, "So it is \\boxed{3}.\n\n#### 3"),
    ],
)
def test_a_reply_that_is_unreadable_failed_misplaced_or_wrong_leaves_the_solution(reply):
    ran, _ = bridge([reply], [P1])
    assert ran.rows[0].text in (
        SOLUTION,
        SOLUTION.replace("5 * 4", "So it is \\boxed{3}.\n\n#### 3\n\n5 * 4"),
    )
    assert ran.rows[0].verdict.status == "right"


def test_replies_are_read_by_place_and_counted_as_unread():
    assert read_missing_steps("no idea", 3) is None
    assert read_missing_steps("No missing steps.", 3) == []
    text = missing(2, "b", 1) + missing(1, "#### 3", 2) + missing(0, "a\nc", 3)
    assert read_missing_steps(text, 3) == [MissingStep(0, "a\nc"), MissingStep(2, "b")]
    assert read_missing_steps(missing(1, "a").replace("Step 2", "Step 4"), 3) == []


def test_the_controls_bridge_nothing_or_elsewhere():
    ran, bridger = bridge([missing(0, FIRST)], [P1], arm="none")
    assert [row.text for row in ran.rows] == [SOLUTION] and not bridger.calls
    ran, _ = bridge([missing(0, FIRST)], [P1], arm="random-place")
    assert sorted(ran.rows[0].text.split("\n\n")) == sorted([FIRST, *SOLUTION.split("\n\n")])


LINES = "\n".join(f"{n} + 1 = {n + 1}" for n in range(8)) + "\n#### 8"


def test_an_apprentice_is_trained_on_gaps_first_and_then_bridges():
    pupils = [solved(f"q{n}", LINES, "8") for n in range(12)]
    apprentice = ScriptedModel(["No missing steps."], weights=NOWHERE, name="apprentice")
    asked = ScriptedModel(["-"])
    roles = {"student": student(["-"]), "bridger": asked, "apprentice": apprentice}
    ran = run("cot_bridge", pupils, roles)
    first, second = ran.stages
    assert first.model is apprentice and second.model is roles["student"]
    assert len(apprentice.calls) == 12 and not asked.calls
    complete = [row for row in first.rows if row.text == "No missing steps."]
    assert 0 < len(complete) < 7
    for row in first.rows:
        # What was taken out of the prompt is what the row says.
        removed = [step.text for step in read_missing_steps(row.text, 9) or []]
        shown = row.prompt.removeprefix(BRIDGE).splitlines()
        assert [text in shown for text in LINES.splitlines()] == [
            text not in removed for text in LINES.splitlines()
        ]


def test_gaps_are_no_neighbours_and_none_of_the_last_two():
    for name in range(30):
        [trace] = segment(
            step_starts, [dataclasses.replace(number(str(name), "q", "8"), text=LINES)]
        )
        gaps = choose_gaps(trace)
        assert len(gaps) <= 2 and all(gap < 7 for gap in gaps)
        assert all(two - one > 1 for one, two in pairwise(gaps))
    assert step_starts("One. Two. Three.") == [0, 5, 10]


def test_what_the_bridger_thinks_is_not_put_in():
    thought = f"<think>\n{missing(0, 'Perhaps this?')}</think>\n"
    ran, _ = bridge([thought + missing(1, FIRST)], [P1])
    assert ran.texts() == {"p1": [f"2 + 3 = 5.\n\n{FIRST}\n\n5 * 4 = 20.\n\n#### 20"]}
