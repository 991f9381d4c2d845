"""The step corrector: shown a story and a wrong chain with numbered steps, it names, explains and corrects a step.

Its answer has the parts that the prompt asks for, by labels: the incorrect step, an explanation, and the correct
solution from that step on, with `...` for the steps before it.
"""

from __future__ import annotations

import re

from potstill.records import Problem
from potstill.verifiers.story import (
    Story,
    count_done_events,
    needed_equations,
    parse_story,
    required_equations,
    steps,
)
from potstill.world.oracle.role import STORY, CannotAnswerError, Role, RoleInput
from potstill.world.oracle.roles.corrector import explain_error
from potstill.world.story import write_equation

_HEADING = "Original solution:\n{\n"
_RIGHT = "No step is incorrect."  # it believes the chain, and not the prompt that calls it wrong
PATTERN = re.compile(rf"{re.escape(_HEADING)}.*\n\}}\s*Incorrect step:\s*\Z", re.DOTALL)
_STEP = re.compile(r"^Step (\d+): ", re.MULTILINE)


def correct_step(role_input: RoleInput) -> str:
    """The last question and chain that the prompt shows, corrected."""
    # Worked examples may stand before the question and its chain, which come last.
    questions = STORY.findall(role_input.prompt)
    story = parse_story(questions[-1]) if questions else None
    if story is None:
        raise CannotAnswerError("the step corrector found no story in the prompt")
    _, _, after_heading = role_input.prompt.rpartition(_HEADING)
    chain, _, _ = after_heading.rpartition("\n}")
    return name_and_correct(questions[-1], story, chain)


def name_and_correct(question: str, story: Story, chain: str) -> str:
    """The first numbered step that does not hold, why, and the right rest from there on."""
    equations = required_equations(story)
    gold = str(equations[-1].result)
    labels = list(_STEP.finditer(chain))
    # The judge reads the chain without its numbers, line by line.
    lines = [line for line in _STEP.sub("", chain).splitlines() if line.strip()]
    if not labels or len(labels) != len(lines):
        raise CannotAnswerError("the steps of the original solution are not numbered one a line")
    number = first_wrong_line(question, gold, lines)
    if number is None:
        return _RIGHT
    text_before = "\n".join(lines[: number - 1])
    remaining = needed_equations(story, text_before)
    reason = explain_error(story, equations, remaining, count_done_events(story, text_before))

    # The rest is numbered on from the incorrect step; what stands before it is not copied.
    right_rest = [write_equation(equation) for equation in remaining]
    right_rest.append(f"The answer is \\boxed{{{gold}}}.")
    solution = ["..."] if number > 1 else []
    for offset, step in enumerate(right_rest):
        solution.append(f"Step {number + offset}: {step}")
    solution_text = "\n".join(solution)
    return f"Step {number}\nExplanation: {reason}.\nCorrect solution:\n{solution_text}"


def first_wrong_line(question: str, gold: str, lines: list[str]) -> int | None:
    """The number of the first line with a wrong claim, or of the last line where a chain without one stops short.

    None where every line is right and the last claim is the answer.
    """
    problem = Problem("", question, gold, "story")
    text = "\n".join(lines)
    spans = steps(problem, text)
    wrong_places = [span.start for span in spans if span.score == 0]
    if wrong_places:
        return text.count("\n", 0, wrong_places[0]) + 1
    if spans and text[spans[-1].start :].startswith("\\boxed"):
        return None
    return len(lines)


ROLE = Role("step_corrector", PATTERN, correct_step)
