"""The key pointer: it restates what a story asks for, or lists what happens in it; it computes nothing."""

from __future__ import annotations

import re

from potstill.world.oracle.role import Role, RoleInput, read_story

# Copies of the first words of a method's prompts; the test of that method runs it with the oracle.
_ASKED = re.compile(r"State the core question of the problem|List the problem-solving information")


def point(role_input: RoleInput) -> str:
    """The question of a story, or its other sentences, one a line."""
    question, _ = read_story(role_input.prompt)
    *sentences, core = re.split(r"(?<=\.) ", question)
    if "List the problem-solving information" in role_input.prompt:
        return "\n".join(f"- {sentence}" for sentence in sentences)
    return core


ROLE = Role("key_pointer", _ASKED, point)
