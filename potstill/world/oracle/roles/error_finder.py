"""The error finder: shown a story and a solution in numbered paragraphs, it says which is wrong first, or none."""

from __future__ import annotations

import re

from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.oracle.roles.step_judge import wrong_steps

PATTERN = re.compile(
    r"give the number of that paragraph|number of the paragraph with the earliest error"
)
_PARAGRAPH = re.compile(r"<paragraph_(\d{1,4})>\n(.*?)\n</paragraph_\1>", re.DOTALL)


def find_error(role_input: RoleInput) -> str:
    """The number of the first wrong paragraph or -1, in a box; with a slip another number."""
    question, _ = read_story(role_input.prompt)
    paragraphs = [text for _, text in _PARAGRAPH.findall(role_input.prompt)]
    if not paragraphs:
        raise CannotAnswerError("the error finder found no paragraphs in the prompt")
    wrong = wrong_steps(question, paragraphs)
    location = wrong[0] - 1 if wrong else -1
    if role_input.rng.random() < role_input.slip_rate:
        others = [number for number in range(-1, len(paragraphs)) if number != location]
        location = role_input.rng.choice(others)
    if location < 0:
        return "Every paragraph is right. \\boxed{-1}"
    return f"Paragraph {location} is wrong: {paragraphs[location].strip()} \\boxed{{{location}}}"


ROLE = Role("error_finder", PATTERN, find_error)
