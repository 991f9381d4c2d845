"""The continuer: shown a story and the right steps of a solution, it writes the rest."""

from __future__ import annotations

import re

from potstill.verifiers.story import needed_equations, required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.story import write_equation

PATTERN = re.compile(r"\nRight steps so far:\n(?P<steps>.*)\Z", re.DOTALL)


def write_rest(role_input: RoleInput) -> str:
    """The equations that the shown steps still need, in the brief style, and the answer."""
    _, story = read_story(role_input.prompt)
    steps_match = PATTERN.search(role_input.prompt)
    if steps_match is None:
        raise CannotAnswerError("the continuer found no steps in the prompt")
    # From the end of what is shown on; at the end of the story only the answer is missing.
    steps = steps_match["steps"]
    sentences = [write_equation(equation) for equation in needed_equations(story, steps)]
    sentences.append(f"The answer is \\boxed{{{required_equations(story)[-1].result}}}.")
    return " ".join(sentences)


ROLE = Role("continuer", PATTERN, write_rest)
