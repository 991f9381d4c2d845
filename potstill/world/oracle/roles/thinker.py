"""The thinker: shown a story, and mostly a response to it, it writes the thought before the response in one line.

It slips as often as it is told to, and carries the slip on. Where its last step then misses the number of the response
that it is shown, it makes that step arrive there half of the time: a thought that was bent towards its end.
"""

from __future__ import annotations

import re
from random import Random

from potstill.verifiers.story import Equation, Story, apply_event, required_equations
from potstill.world.oracle.role import Role, RoleInput, read_story
from potstill.world.story import write_equation

# A copy of words of methods/searching; tests/world/test_oracle_reer.py compares the two.
PATTERN = re.compile(r"Put the thinking between <think> and </think>, its parts separated by blank")
_RESPONSE = re.compile(r"\nResponse:\n(.*?)(?=\n\nThinking:\n|\Z)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+")
LARGEST_SLIP = 9
BENT_SHARE = 0.5


def think(role_input: RoleInput) -> str:
    """The thought before the response, between its tags."""
    _, story = read_story(role_input.prompt)
    equations = solve_with_slip(story, role_input.slip_rate, role_input.rng)
    target = read_target(role_input.prompt)
    # Hindsight: a last step that misses the response's number is made to arrive there.
    is_missed = equations[-1].result != target
    if target is not None and is_missed and role_input.rng.random() < BENT_SHARE:
        equations[-1] = equations[-1]._replace(result=target)
    sentences = [write_equation(equation) for equation in equations]
    opening = "<think>\n"
    if role_input.prefix:
        # The reply was begun by somebody else, who is let finish the sentence.
        opening = role_input.prefix
        sentences.insert(0, ", step by step.")
    steps = " ".join(sentences)
    return f"{opening}{steps}\n</think>"


def solve_with_slip(story: Story, slip_rate: float, rng: Random) -> list[Equation]:
    """The story's equations; with this chance one of them comes out wrong, and the others go on from there."""
    slip = -1
    if rng.random() < slip_rate:
        slip = rng.randrange(len(story.events))
    total = story.start
    equations: list[Equation] = []
    for index, required in enumerate(required_equations(story)):
        result = apply_event(total, story.events[index])
        # The slip is in the result, so that the steps behind it are right in themselves.
        if index == slip:
            result += rng.randint(1, LARGEST_SLIP)
        equations.append(required._replace(left=total, result=result))
        total = result
    return equations


def read_target(prompt: str) -> int | None:
    """The last number of the response that a prompt shows; None where it shows none."""
    response = _RESPONSE.search(prompt)
    numbers = _NUMBER.findall(response[1]) if response is not None else []
    return int(numbers[-1]) if numbers else None


ROLE = Role("thinker", PATTERN, think, version=2)
