"""The template inspector: it compares a solution, or the correction of one, with the reference that the prompt shows.

It believes the reference, and says of the first difference which step it is in. It never slips: what it does not find
is what the prompt does not show.
"""

from __future__ import annotations

import re

from potstill.verifiers.story import Equation
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput
from potstill.world.oracle.stepped import (
    Block,
    Reference,
    final_answer,
    need_reference,
    read_blocks,
)
from potstill.world.story import write_equation

_INSPECTED = re.compile(r"^(?:Solution|Correction) to inspect:\n(.*)\Z", re.MULTILINE | re.DOTALL)
_CAUSE = re.compile(r"<Cause>|^Cause:", re.MULTILINE)


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
    blocks = read_blocks(text)
    for number, (block, right) in enumerate(zip(blocks, reference.equations, strict=False), 1):
        fault = find_fault_of_step(block, right)
        if fault:
            return f"Step {number} is wrong: {fault}."
    # A step behind the end may be there to be taken back.
    extra_blocks = blocks[len(reference.equations) :]
    is_taken_back = len(extra_blocks) == 1 and _CAUSE.search(extra_blocks[0].content) is not None
    if len(blocks) != len(reference.equations) and not is_taken_back:
        return f"It has {len(blocks)} steps, and the reference {len(reference.equations)}."
    if final_answer(text) != reference.answer:
        return f"The final answer is wrong: it is {reference.answer}."
    return ""


def find_fault_of_step(block: Block, right: Equation) -> str:
    """What is wrong with a step; a corrected one is as its correction says, and must have been wrong before."""
    if not block.equations or block.equations[-1] != right:
        return "there comes " + write_equation(right).removesuffix(".").replace(" = ", " makes ")
    if _CAUSE.search(block.content) and block.equations[0] == right:
        return "it was right as it stood"
    return ""


ROLE = Role(
    "template_inspector",
    re.compile(r"^Inspect (?:a solution|the correction of a student's solution):", re.MULTILINE),
    inspect_steps,
)
