"""The premise checker: says of one step of a story whether it follows from what it cites, or of all its steps."""

from __future__ import annotations

import re

from potstill.verifiers.story import parse_story, required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.oracle.roles.step_judge import wrong_steps
from potstill.world.story import write_equation

PATTERN = re.compile(
    r"Based on the given information alone, here is a step of reasoning:"
    r"|Is the reasoning of this solution right\?"
)
_SOLUTION = re.compile(r"\nSolution:\n(.*?)\n\nYou are a teacher", re.DOTALL)
_PARTS = re.compile(r'information:\n"(.*?)"\n\nBased on .*?:\n"(.*?)"\n\nDouble-check', re.DOTALL)
_START = re.compile(r"\w+ has (-?\d{1,9}) \w+\.")
_RESULT = re.compile(r"= (-?\d{1,9})\.")


def check_step(role_input: RoleInput) -> str:
    """Yes or no in the last line, behind what the step should have said; with a slip the other word."""
    parts, solution = _PARTS.search(role_input.prompt), _SOLUTION.search(role_input.prompt)
    if parts is not None:
        expected = follow(parts[1])
        is_right = expected is not None and parts[2].strip() == expected
    elif solution is not None:
        # A chain as one text: no step of it is wrong, and its last line says the number that is asked for.
        question, story = read_story(role_input.prompt)
        expected = f"The answer is \\boxed{{{required_equations(story)[-1].result}}}."
        lines = solution[1].splitlines()
        is_right = not wrong_steps(question, lines) and lines[-1].endswith(expected)
    else:
        raise CannotAnswerError("the premise checker found no step in the prompt")
    if role_input.rng.random() < role_input.slip_rate:
        is_right = not is_right
    reason = f"From the information follows: {expected}" if expected else "Nothing follows from it."
    return f"{reason}\n{'yes' if is_right else 'no'}"


def follow(premises: str) -> str | None:
    """The step that follows from a total and an event, or from a total and the question; None from anything else."""
    totals = [*_START.findall(premises), *_RESULT.findall(premises)]
    if len(totals) != 1:
        return None
    if premises.strip().endswith("now?") or "How many " in premises:
        return f"The answer is \\boxed{{{totals[0]}}}."
    events = [line for line in premises.splitlines() if line.startswith("Then ")]
    story = parse_story(
        f"Ann has {totals[0]} pens. {' '.join(events)} How many pens does Ann have now?"
    )
    if story is None or len(story.events) != 1:
        return None
    return write_equation(required_equations(story)[0])


ROLE = Role("premise_checker", PATTERN, check_step)
