"""The reckoner: asked for a function `solution()`, it writes one that follows a story, now and then with a slip."""

from __future__ import annotations

import re

from potstill.world.oracle.role import Role, RoleInput, read_story
from potstill.world.plans import slip_once


def reckon(role_input: RoleInput) -> str:
    """A function that carries out what happens in the last story of the prompt."""
    # A worked example may stand before the story that is asked.
    _, _, asked = role_input.prompt.rpartition("Question:")
    _, story = read_story(asked)
    events = list(story.events)
    if role_input.rng.random() < role_input.slip_rate:
        events = slip_once(tuple(events), role_input.rng)
    lines = ["def solution():", f"    total_0 = {story.start}"]
    for number, event in enumerate(events, 1):
        op = "//" if event.op == "/" else event.op
        lines.append(f"    total_{number} = total_{number - 1} {op} {event.operand}")
    lines += [f"    result = total_{len(events)}", "    return result"]
    return "```python\n" + "\n".join(lines) + "\n```"


ROLE = Role("reckoner", re.compile(r"a Python function `solution\(\)`"), reckon)
