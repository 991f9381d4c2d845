"""The oracle as ELAD's teacher: it judges the steps that it is shown, and writes the rest behind them."""

from __future__ import annotations

import pytest
from oracle_roles import ask_role, assert_answer_depends_on

from potstill.methods.selecting.elad.prompts import (
    CHECK_ALL,
    CHECK_ANSWER,
    CHECK_STEP,
    CONTINUE,
    NO_STEPS,
)
from potstill.traces.prompts import fill_template

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
OTHER = NED.replace("19", "29")
RIGHT = "1. 19 - 14 = 5.\n2. 5 * 2 = 10.\n3. The answer is \\boxed{10}."
WRONG = "1. 19 - 14 = 5.\n2. 5 * 2 = 12.\n3. The answer is \\boxed{12}."


@pytest.mark.parametrize(
    ("template", "steps", "number", "verdict"),
    [
        (CHECK_STEP, RIGHT, 1, "Yes."),
        (CHECK_STEP, WRONG, 1, "Yes."),
        (CHECK_STEP, WRONG, 2, "No."),
        (CHECK_STEP, "1. Let me see.", 1, "Yes."),
        (CHECK_ANSWER, RIGHT, 3, "Yes."),
        (CHECK_ANSWER, WRONG, 3, "No."),
        (CHECK_ANSWER, "1. 19 - 14 = 5.\n2. The answer is \\boxed{10}.", 2, "No."),
        (CHECK_ALL, RIGHT, 0, "Yes."),
        (CHECK_ALL, WRONG, 0, "No, step 2."),
    ],
)
def test_it_judges_the_step_that_is_asked_about(template, steps, number, verdict):
    values = {"prompt": f"Solve: {NED}", "steps": steps, "number": str(number)}
    assert ask_role("step_judge", fill_template(template, values)) == verdict


@pytest.mark.parametrize("template", [CHECK_STEP, CHECK_ANSWER])
def test_its_verdict_depends_on_the_story_the_steps_and_the_number(template):
    values = {"prompt": NED, "steps": RIGHT, "number": "2"}
    changes = {"prompt": OTHER, "steps": WRONG}
    assert_answer_depends_on("step_judge", template, values, changes)
    values = {"prompt": NED, "steps": WRONG, "number": "2"}
    assert_answer_depends_on("step_judge", template, values, {"number": "1"})


def test_its_verdict_on_all_steps_depends_on_the_story_and_on_them():
    changes = {"prompt": OTHER, "steps": WRONG}
    assert_answer_depends_on("step_judge", CHECK_ALL, {"prompt": NED, "steps": RIGHT}, changes)


@pytest.mark.parametrize(
    ("steps", "rest"),
    [
        (NO_STEPS, "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."),
        ("19 - 14 = 5.", "5 * 2 = 10. The answer is \\boxed{10}."),
        ("19 - 14 = 5. 5 * 2 = 10.", "The answer is \\boxed{10}."),
    ],
)
def test_it_writes_what_the_right_steps_lack(steps, rest):
    values = {"prompt": NED, "steps": steps}
    assert ask_role("continuer", fill_template(CONTINUE, values)) == rest
    assert_answer_depends_on("continuer", CONTINUE, values, {"prompt": OTHER})


def test_a_prompt_without_a_story_gets_an_error():
    from potstill.models.model import Request
    from potstill.world.oracle.program import answer_request

    values = {"prompt": "What is 2 + 2?", "steps": RIGHT, "number": "1"}
    assert "found no story" in answer_request(Request(fill_template(CHECK_STEP, values))).error
