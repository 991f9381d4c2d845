"""What a role of the oracle is, and all that it is given to answer a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from potstill.verifiers.story import Story, parse_story

STORY = re.compile(r"\w+ has \d+ \w+\..*? How many \w+ does \w+ have now\?")


class CannotAnswerError(Exception):
    """The prompt does not show what the role needs; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class RoleInput:
    """All that a role knows.

    Args:
        prompt: the contents of the prompt's messages, one a line.
        prefix: what the assistant has already written. The answer may begin with it, or go on behind it.
        rng: random numbers of this sample: the same for an equal request, others for another sample index.
        slip_rate: how likely one answer has a slip of the role's own; 0 is a role without slips.
    """

    prompt: str
    prefix: str
    rng: Random
    slip_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Role:
    """A role that the oracle plays.

    Args:
        name: of the role and of its file.
        pattern: what is searched in a prompt to recognise the role.
        answer: what the role writes; raises `CannotAnswerError` where the prompt lacks what it needs.
        version: goes up whenever answers change.
    """

    name: str
    pattern: re.Pattern[str]
    answer: Callable[[RoleInput], str]
    version: int = 1


def read_story(prompt: str) -> tuple[str, Story]:
    """The first story that a prompt shows: its question and the story itself.

    Raises:
        CannotAnswerError: it shows none.
    """
    question = STORY.search(prompt)
    story = parse_story(question[0]) if question is not None else None
    if question is None or story is None:
        raise CannotAnswerError("the oracle found no story in the prompt")
    return question[0], story
