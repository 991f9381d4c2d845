"""The step judge: shown a story and a solution's steps, it says whether one is right, or which is wrong first."""

from __future__ import annotations

import re

from potstill.records import Problem
from potstill.verifiers.story import steps
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story

PATTERN = re.compile(
    r"Is (?:step|the answer in step) (?P<number>\d+) right\? Answer Yes or No"
    r"|Is every step right\? Answer Yes, or No and the number"
)
_STEPS = re.compile(r"\nSteps(?: so far)?:\n(?P<steps>.*?)\n\nIs ", re.DOTALL)
_NUMBERED = re.compile(r"^\d+\. ", re.MULTILINE)


def judge_steps(role_input: RoleInput) -> str:
    """Yes or No on the step that the prompt asks about; on all, Yes, or No with the first wrong one's number."""
    question, _ = read_story(role_input.prompt)
    request = PATTERN.search(role_input.prompt)
    steps_match = _STEPS.search(role_input.prompt)
    if request is None or steps_match is None:
        raise CannotAnswerError("the step judge found no steps in the prompt")
    # The prompt numbers the steps, a line each.
    shown_steps = [step.strip() for step in _NUMBERED.split(steps_match["steps"])[1:]]
    wrong_numbers = wrong_steps(question, shown_steps)

    # One step is asked about, or all of them.
    if request["number"]:
        return "No." if int(request["number"]) in wrong_numbers else "Yes."
    return f"No, step {wrong_numbers[0]}." if wrong_numbers else "Yes."


def wrong_steps(question: str, shown_steps: list[str]) -> list[int]:
    """The numbers of the steps that claim something wrong, each in the light of those before it."""
    problem = Problem("", question, kind="story")
    wrong: list[int] = []
    # Up to each step and no further: what a later sentence takes back was not yet taken back.
    for number, step in enumerate(shown_steps, 1):
        text = " ".join(shown_steps[:number])
        start = len(text) - len(step)
        claims = [span for span in steps(problem, text) if span.start >= start]
        if any(claim.score == 0 for claim in claims):
            wrong.append(number)
    return wrong


ROLE = Role("step_judge", PATTERN, judge_steps)
