"""The programmer: shown a program task and no plan, it writes a program for the story, now and then with a slip."""

from __future__ import annotations

import re

from potstill.world import story_code
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput
from potstill.world.plans import slip_once


def program(role_input: RoleInput) -> str:
    """A program for the first program task in the prompt."""
    task = story_code.read_question(role_input.prompt)
    if task is None:
        raise CannotAnswerError("the programmer found no program task in the prompt")
    _, _, events = task
    if role_input.rng.random() < role_input.slip_rate:
        events = tuple(slip_once(events, role_input.rng))
    return f"```python\n{story_code.write_program(events)}\n```"


ROLE = Role("programmer", re.compile(r"has n \w+\..*Read n from each line"), program)
