"""The evaluator: chooses one of two outputs to a story, now and then by a bias and not by what is right."""

from __future__ import annotations

import re

from potstill.verifiers.story import required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story

PATTERN = re.compile(r"Choose the output that answers the problem below rightly")
BIAS_RATE = 0.4  # how often what others are said to prefer, a length or a place decides
_OUTPUTS = re.compile(
    r"# Output \(a\)\n(.*?)\n\n# Output \(b\)\n(.*?)"
    r"\n\n(?:Answer with|# Your earlier|# Decision|Second evaluation)",
    re.DOTALL,
)
_STATEMENT = re.compile(r"believe that Output \((a|b)\) is better")
_BOX = re.compile(r"\\boxed\{(-?\d{1,9})\}")


def choose_output(role_input: RoleInput) -> str:
    """The right output, or in a biased moment another; where it chooses again it has no such moment."""
    prompt, rng = role_input.prompt, role_input.rng
    place = right_place(prompt)
    if "# Your earlier choice" not in prompt and rng.random() < BIAS_RATE:
        statement = _STATEMENT.search(prompt)
        texts = read_outputs(prompt)
        longer = max(texts, key=lambda name: len(texts[name]))
        place = statement[1] if statement else rng.choice(["a", longer])
    return f"Output ({place})"


def read_outputs(prompt: str) -> dict[str, str]:
    """The last two outputs that a prompt shows, by place.

    Raises:
        CannotAnswerError: it shows none.
    """
    outputs = _OUTPUTS.findall(prompt)
    if not outputs:
        raise CannotAnswerError("the oracle found no two outputs in the prompt")
    return {"a": outputs[-1][0], "b": outputs[-1][1]}


def right_place(prompt: str) -> str:
    """Where the output with the story's answer stands; the first place where both have it, or neither."""
    _, story = read_story(prompt)
    answer = str(required_equations(story)[-1].result)
    for place, text in read_outputs(prompt).items():
        if _BOX.findall(text)[-1:] == [answer]:
            return place
    return "a"


ROLE = Role("evaluator", PATTERN, choose_output)
