"""The restructurer: shown a story, its answer and an explanation, it sorts them into four parts."""

from __future__ import annotations

import re

from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story

# Copies of words of a method's prompts; the test of that method runs it with the oracle.
PATTERN = re.compile(r"Restructure the explanation of an answer into four parts")
_SHOWN = re.compile(
    r"\nRight answer: (?P<answer>[^\n]+)\n\nExplanation:\n(?P<explanation>.*)\n\nWrite the four parts",
    re.DOTALL,
)


def restructure(role_input: RoleInput) -> str:
    """The four parts with their tags: the facts of the story, and the explanation's own sentences."""
    question, _ = read_story(role_input.prompt)
    match = _SHOWN.search(role_input.prompt)
    if match is None:
        raise CannotAnswerError("the restructurer found no answer and explanation in the prompt")
    *facts, core = re.split(r"(?<=\.) ", question)
    # What the explanation ends in is the conclusion's.
    steps = match["explanation"].split("The answer is")[0].strip()
    return (
        f"<concept>A total that each event changes. {core}</concept>\n"
        f"<facts>{' '.join(facts)}</facts>\n"
        f"<application>{steps}</application>\n"
        f"<conclusion>So the answer is {match['answer']}.</conclusion>"
    )


ROLE = Role("restructurer", PATTERN, restructure)
