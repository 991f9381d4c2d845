"""The divider: breaks a story down into the sub-questions of its running total, three at most, answering none."""

from __future__ import annotations

import re

from potstill.world.oracle.role import Role, RoleInput, read_story

# What a prompt for sub-questions begins with; one in other words gets a solution.
_DIVIDE = re.compile(r"Break the question below down\b")


def divide(role_input: RoleInput) -> str:
    """How large the pile is after some of its changes, and in the end."""
    question, story = read_story(role_input.prompt)
    name, _, _, item = question.split(".")[0].split()
    changes = range(1, len(story.events))
    stops = sorted(role_input.rng.sample(changes, min(2, len(changes))))
    parts: list[str] = []
    for number, stop in enumerate(stops, 1):
        changes_so_far = "the first change" if stop == 1 else f"the first {stop} changes"
        parts.append(f"{number}. How many {item} does {name} have after {changes_so_far}?")
    parts.append(f"{len(stops) + 1}. How many {item} does {name} have now?")
    return "\n".join(parts)


ROLE = Role("divider", _DIVIDE, divide)
