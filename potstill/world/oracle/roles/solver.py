"""The solver: shown a story, it writes the brief solution. It answers where no other role recognises the prompt."""

from __future__ import annotations

import re

from potstill.world.oracle.role import Role, RoleInput, read_story
from potstill.world.story import brief_solution


def solve(role_input: RoleInput) -> str:
    """The brief solution of the first story in the prompt, of a conversation's in its last turn."""
    _, story = read_story(role_input.prompt)
    return brief_solution(story)


ROLE = Role("solver", re.compile(""), solve, version=2)
