"""The prefix judge: shown a story and the beginning of a solution, it says whether what is left is routine."""

from __future__ import annotations

import re

from potstill.verifiers.story import needed_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story

# A copy of words of methods/rewriting; tests/world/test_oracle_prefix_judge.py compares the two.
PATTERN = re.compile(r"\nBeginning of the solution:\n(?P<text>.*?)\n\nAnswer \[ENOUGH\]", re.DOTALL)
ROUTINE_STEPS = 2  # equations that may be left


def judge_prefix(role_input: RoleInput) -> str:
    """Enough where the beginning leaves at most two equations to be written."""
    _, story = read_story(role_input.prompt)
    beginning = PATTERN.search(role_input.prompt)
    if beginning is None:
        raise CannotAnswerError("the prefix judge found no beginning in the prompt")
    left = needed_equations(story, beginning["text"])
    return "[ENOUGH]" if len(left) <= ROUTINE_STEPS else "[NOT_ENOUGH]"


ROLE = Role("prefix_judge", PATTERN, judge_prefix)
