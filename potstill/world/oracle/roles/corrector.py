"""The corrector: shown a story and an attempt, it finds, explains and corrects the attempt's first error."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.records import Problem
from potstill.verifiers.story import (
    Equation,
    Story,
    count_done_events,
    needed_equations,
    parse_story,
    required_equations,
    steps,
)
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.story import brief_solution, write_equation

ATTEMPT = re.compile(r"(?:Wrong attempts:\n1\. |Attempt:\n)(.*?)(?=\n2\. |\Z)", re.DOTALL)


def correct(role_input: RoleInput) -> str:
    """The first attempt that the prompt shows, corrected."""
    question, _ = read_story(role_input.prompt)
    attempt = ATTEMPT.search(role_input.prompt)
    if attempt is None:
        raise CannotAnswerError("the corrector found no attempt in the prompt")
    return correct_attempt(question, attempt[1])


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


ROLE = Role("corrector", ATTEMPT, correct)
