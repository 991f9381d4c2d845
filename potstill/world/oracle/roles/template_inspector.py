"""The template inspector: it compares a solution, or the correction of one, with the reference that the prompt shows.

It believes the reference, and says of the first difference which step it is in. It never slips: what it does not find
is what the prompt does not show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.verifiers.story import Equation
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput
from potstill.world.oracle.stepped import (
    Reference,
    check_block,
    final_answer,
    need_reference,
    read_blocks,
    split_correction,
)
from potstill.world.story import write_equation

_INSPECTED = re.compile(r"^(?:Solution|Correction) to inspect:\n(.*)\Z", re.MULTILINE | re.DOTALL)


def inspect_steps(role_input: RoleInput) -> str:
    """Yes, or No with the first step that is wrong."""
    reference = need_reference(role_input.prompt)
    inspected = _INSPECTED.search(role_input.prompt)
    if inspected is None:
        raise CannotAnswerError("the inspector found nothing to inspect in the prompt")
    fault = find_fault(inspected[1], reference)
    return f"No. {fault}" if fault else "Yes."


def find_fault(text: str, reference: Reference) -> str:
    """The first difference of a text from the reference; "" without one."""
    right = reference.equations
    place = 0  # equations of the reference that are accounted for
    for number, block in enumerate(read_blocks(text), 1):
        attempted, corrected = split_correction(block)
        check = check_block(attempted, right, place)
        place = check.place
        if corrected is not None:
            if check.is_right:
                return f"Step {number} is wrong: it was right as it stood."
            if corrected.equations != right[place : place + 1]:
                return f"Step {number} is wrong: {describe_next(right, place)}."
            place += len(corrected.equations)
        elif not check.is_right:
            return f"Step {number} is wrong: {describe_next(right, place)}."
    if place < len(right):
        return f"A step is missing at the end: {describe_next(right, place)}."
    if final_answer(text) != reference.answer:
        return f"The final answer is wrong: it is {reference.answer}."
    return ""


def describe_next(right: Sequence[Equation], place: int) -> str:
    """What comes next in the reference, in words."""
    if place >= len(right):
        return "the reference has ended"
    return "there comes " + write_equation(right[place]).removesuffix(".").replace(" = ", " makes ")


ROLE = Role(
    "template_inspector",
    re.compile(r"^Inspect (?:a solution|the correction of a student's solution):", re.MULTILINE),
    inspect_steps,
    version=2,
)
