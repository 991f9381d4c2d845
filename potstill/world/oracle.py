"""`world:oracle`: a program, not a model, that solves stories and finds, explains and corrects a first error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from potstill.models.model import Completion, Request
from potstill.records import Problem, Prompt, Tokens
from potstill.verifiers.story import (
    VERSION,
    count_done_events,
    needed_equations,
    parse_story,
    required_equations,
    steps,
)
from potstill.world.story import brief, write

_STORY = re.compile(r"\w+ has \d+ \w+\..*? How many \w+ does \w+ have now\?")
_ATTEMPT = re.compile(r"(?:Wrong attempts:\n1\. |Attempt:\n)(.*?)(?=\n2\. |\Z)", re.DOTALL)


@final
class Oracle:
    """Answers any prompt that holds one story: the brief solution; with an attempt in it, its first error corrected."""

    id = f"program-oracle-{VERSION}"

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request; a prompt without a story is a completion with an error."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        prompt = _text(request.prompt)
        found = _STORY.search(prompt)
        story = parse_story(found[0]) if found else None
        if found is None or story is None:
            return Completion("", "", error="program: the oracle found no story in the prompt")
        attempt = _ATTEMPT.search(prompt)
        text = correction(found[0], attempt[1]) if attempt else brief(story)
        if request.prefix:
            text = text[len(request.prefix) :] if text.startswith(request.prefix) else text
        return Completion(text, "stop", Tokens(len(prompt.split()), len(text.split())))


def correction(question: str, attempt: str) -> str:
    """The attempt up to its first wrong step, that step taken back with the reason, and the right rest.

    The kept part stands as it was written, so the step verifier passes the whole; a right attempt is returned as it is.
    """
    story = parse_story(question)
    assert story is not None
    line = required_equations(story)
    marks = steps(Problem("", question, str(line[-1].result), "story"), attempt)
    bad = next((span for span in marks if span.score == 0), None)
    if bad is None:
        return (
            attempt if marks and attempt[marks[-1].start :].startswith("\\boxed") else brief(story)
        )
    done = count_done_events(story, attempt[: bad.start])
    where = f"after {line[done - 1].result}" if done else f"at the start with {story.start}"
    needed = needed_equations(story, attempt[: bad.start])
    why = (
        f"{where} comes {write(needed[0])[:-1]}"
        if needed
        else f"the story ends with {line[-1].result}"
    )
    rest = [write(e) for e in needed] + [f"The answer is \\boxed{{{line[-1].result}}}."]
    number = marks.index(bad) + 1
    return (
        f"{attempt[: bad.stop]}. Wait, step {number} is wrong: {_unclaimed(why)}. {' '.join(rest)}"
    )


def _unclaimed(why: str) -> str:
    """An explanation in words, so that it is not itself read as a step."""
    return why.replace(" = ", " makes ")


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(content for _, content in prompt)
