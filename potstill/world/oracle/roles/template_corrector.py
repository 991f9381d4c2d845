"""The template corrector: it restates a student's steps, and gives cause and correction inside the first wrong one.

Shown a reference it believes that, also a wrong one; without one it works the story out. It may slip in its correction;
shown its last version with an inspector's faults it mends the step that they name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.verifiers.story import Equation, required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.oracle.stepped import (
    BlockCheck,
    Form,
    Reference,
    asked_form,
    check_block,
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
    text = ""
    number = place = 0  # the step, and the equations that are accounted for
    for number, block in enumerate(read_blocks(attempt[1]), 1):
        check = check_block(block, right.equations, place)
        place = check.place
        if not check.is_right:
            fault = write_fault(form, check, right.equations, role_input)
            text += form.step(number, f"{block.content}\n{fault}")
            break
        text += form.step(number, block.content)
    else:
        number += 1
        if place < len(right.equations):
            check = BlockCheck(is_right=False, wrong=None, place=place)
            fault = write_fault(form, check, right.equations, role_input)
            text += form.step(number, f"\n{fault}")  # a part has a line of its own
    for equation in right.equations[place + 1 :]:
        number += 1
        text += form.step(number, write_equation(equation))
    return text + form.part("Answer", f"\\boxed{{{right.answer}}}")


def write_fault(
    form: Form, check: BlockCheck, right: Sequence[Equation], role_input: RoleInput
) -> str:
    """Cause and correction of a wrong step."""
    if check.place >= len(right):
        return f"{form.part('Cause', EXTRA_CAUSE)}\n{form.part('Correction', EXTRA_CORRECTION)}"
    correction = right[check.place]
    cause = explain_cause(check.wrong, correction)
    if role_input.rng.random() < role_input.slip_rate:
        wrong_result = near_miss(correction.result, role_input.rng)
        correction = correction._replace(result=wrong_result)
    return f"{form.part('Cause', cause)}\n{form.part('Correction', write_equation(correction))}"


def right_solution(prompt: str) -> Reference:
    """The reference that the prompt shows, or without one the story's own equations."""
    reference = read_reference(prompt)
    if reference is not None:
        return reference
    _, story = read_story(prompt)
    equations = required_equations(story)
    return Reference(equations, str(equations[-1].result))


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
    version=2,
)
