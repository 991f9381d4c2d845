"""The template corrector: it restates a student's steps, and gives cause and correction inside the first wrong one.

Shown a reference it believes that, also a wrong one; without one it works the story out. It may slip in its correction;
shown its last version with an inspector's faults it mends the step that they name.
"""

from __future__ import annotations

import re

from potstill.verifiers.story import Equation, required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.oracle.stepped import (
    Reference,
    asked_form,
    read_blocks,
    read_reference,
    revise_draft,
)
from potstill.world.story import near_miss, write_equation

# Of a step behind the end of the story.
EXTRA_CAUSE = "the story is over"
EXTRA_CORRECTION = "There is no such step."

_ATTEMPT = re.compile(
    r"^The student's solution:\n(.*?)(?=\n\nYour last version:\n|\Z)", re.MULTILINE | re.DOTALL
)


def correct_steps(role_input: RoleInput) -> str:
    """The student's steps up to the first wrong one, that one with cause and correction, and the right rest."""
    attempt = _ATTEMPT.search(role_input.prompt)
    if attempt is None:
        raise CannotAnswerError("the corrector found no solution of a student in the prompt")
    right = right_solution(role_input.prompt)
    revised = revise_draft(role_input.prompt, right.equations, right.answer)
    if revised is not None:
        return revised
    form = asked_form(role_input.prompt)
    blocks = read_blocks(attempt[1])
    wrong_index = first_wrong(
        [block.equations[-1] if block.equations else None for block in blocks], right.equations
    )
    text = ""
    for number, block in enumerate(blocks[:wrong_index], 1):
        text += form.step(number, block.content)
    if wrong_index < len(right.equations):
        correction = right.equations[wrong_index]
        cause = "it is missing"
        content = "\n"  # a part has a line of its own
        if wrong_index < len(blocks):
            wrong_equations = blocks[wrong_index].equations
            cause = explain_cause(wrong_equations[-1] if wrong_equations else None, correction)
            content = blocks[wrong_index].content + "\n"
        if role_input.rng.random() < role_input.slip_rate:
            wrong_result = near_miss(correction.result, role_input.rng)
            correction = correction._replace(result=wrong_result)
        content += form.part("Cause", cause) + "\n"
        content += form.part("Correction", write_equation(correction))
        text += form.step(wrong_index + 1, content)
    elif wrong_index < len(blocks):
        content = f"{blocks[wrong_index].content}\n{form.part('Cause', EXTRA_CAUSE)}\n"
        text += form.step(wrong_index + 1, content + form.part("Correction", EXTRA_CORRECTION))
    for number, equation in enumerate(right.equations[wrong_index + 1 :], wrong_index + 2):
        text += form.step(number, write_equation(equation))
    return text + form.part("Answer", f"\\boxed{{{right.answer}}}")


def right_solution(prompt: str) -> Reference:
    """The reference that the prompt shows, or without one the story's own equations."""
    reference = read_reference(prompt)
    if reference is not None:
        return reference
    _, story = read_story(prompt)
    equations = required_equations(story)
    return Reference(equations, str(equations[-1].result))


def first_wrong(written: list[Equation | None], right: list[Equation]) -> int:
    """The index of the first step that is not as it should be; behind the last one where all are right."""
    for index, (equation, right_equation) in enumerate(zip(written, right, strict=False)):
        if equation != right_equation:
            return index
    return min(len(written), len(right))  # a missing step, an extra one, or none


def explain_cause(written: Equation | None, right: Equation) -> str:
    """Why a step is wrong, in words, so that it is not itself read as a step."""
    if written is None:
        return "nothing is worked out"
    if written.left != right.left:
        return f"the total before it is {right.left}, not {written.left}"
    if (written.op, written.right) != (right.op, right.right):
        return f"the event is {right.op} {right.right}, not {written.op} {written.right}"
    return f"{right.left} {right.op} {right.right} does not make {written.result}"


ROLE = Role(
    "template_corrector",
    re.compile(r"^A student's solution is wrong\.", re.MULTILINE),
    correct_steps,
)
