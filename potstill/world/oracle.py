"""`world:oracle`: a program, not a model, that solves stories and finds, explains and corrects a first error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from potstill.models.model import Completion, Request, cut_at_stop
from potstill.records import Problem, Prompt, Tokens
from potstill.verifiers.story import (
    VERSION,
    Equation,
    Story,
    count_done_events,
    needed_equations,
    parse_story,
    required_equations,
    steps,
)
from potstill.world.story import brief_solution, write_equation

_STORY = re.compile(r"\w+ has \d+ \w+\..*? How many \w+ does \w+ have now\?")
_ATTEMPT = re.compile(r"(?:Wrong attempts:\n1\. |Attempt:\n)(.*?)(?=\n2\. |\Z)", re.DOTALL)


@final
class Oracle:
    """Answers any prompt that holds one story: the brief solution; with an attempt in it, its first error corrected."""

    id = f"program-oracle-{VERSION}"

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request; a prompt without a story is a completion with an error."""
        return [answer_request(request) for request in requests]


def answer_request(request: Request) -> Completion:
    """The completion of a prompt that holds one story."""
    prompt = prompt_text(request.prompt)
    question = _STORY.search(prompt)
    story = parse_story(question[0]) if question is not None else None
    if question is None or story is None:
        return Completion("", "", error="program: the oracle found no story in the prompt")
    attempt = _ATTEMPT.search(prompt)
    if attempt is not None:
        text = correct_attempt(question[0], attempt[1])
    else:
        text = brief_solution(story)
    text, stop_string = cut_at_stop(text.removeprefix(request.prefix), request.sampling.stop)
    return Completion(
        text,
        "stop_string" if stop_string else "stop",
        Tokens(len(prompt.split()), len(text.split())),
        stop_string=stop_string,
    )


def correct_attempt(question: str, attempt: str) -> str:
    """The attempt up to its first wrong step, that step taken back with the reason, and the right rest.

    The kept part stands as it was written, so the step verifier passes the whole; a right attempt is returned as it is.
    """
    story = parse_story(question)
    assert story is not None
    equations = required_equations(story)
    answer = f"\\boxed{{{equations[-1].result}}}"
    problem = Problem("", question, str(equations[-1].result), "story")
    spans = steps(problem, attempt)
    wrong_spans = [span for span in spans if span.score == 0]
    if not wrong_spans:
        is_answered = bool(spans) and attempt[spans[-1].start :].startswith("\\boxed")
        return attempt if is_answered else brief_solution(story)

    first_wrong = wrong_spans[0]
    step_number = spans.index(first_wrong) + 1
    text_before = attempt[: first_wrong.start]
    remaining = needed_equations(story, text_before)
    reason = explain_error(story, equations, remaining, count_done_events(story, text_before))
    right_rest = [write_equation(equation) for equation in remaining]
    right_rest.append(f"The answer is {answer}.")
    text_so_far = attempt[: first_wrong.stop]
    return f"{text_so_far}. Wait, step {step_number} is wrong: {reason}. {' '.join(right_rest)}"


def explain_error(
    story: Story, equations: Sequence[Equation], remaining: Sequence[Equation], done: int
) -> str:
    """What should have come after `done` events, in words, so that it is not itself read as a step."""
    if not remaining:
        return f"the story ends with {equations[-1].result}"
    place = f"after {equations[done - 1].result}" if done else f"at the start with {story.start}"
    step = write_equation(remaining[0]).removesuffix(".")
    return f"{place} comes {step}".replace(" = ", " makes ")


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text, the contents of its messages one a line."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message.content for message in prompt)
