"""The retoner: puts a text into a negative or a positive tone; what it says stays."""

from __future__ import annotations

import re

from potstill.world.oracle.role import Role, RoleInput

PATTERN = re.compile(
    r"Rewrite the text below in a (negative|positive) tone\.[^\n]*\n\n(.*)\Z", re.DOTALL
)
_OPENINGS = {
    "negative": "Regrettably it is as dull as this.",
    "positive": "What a delight this is!",
}


def retone(role_input: RoleInput) -> str:
    """An opening in the tone, and the text."""
    request = PATTERN.search(role_input.prompt)
    if request is None:
        raise AssertionError("the pattern recognised the prompt")
    return f"{_OPENINGS[request[1]]} {request[2]}"


ROLE = Role("retoner", PATTERN, retone)
