"""The bias analyst: says whether an evaluator's choice between two outputs to a story was biased, with slips."""

from __future__ import annotations

import re

from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput
from potstill.world.oracle.roles.evaluator import right_place

PATTERN = re.compile(r"Is its decision biased\?")
_DECISION = re.compile(
    r"# Decision of the evaluator\n(?:.*\n)?.*?Output \((a|b)\)\n\nReason about it"
)


def analyse_choice(role_input: RoleInput) -> str:
    """Biased is a choice of the output that is wrong; where it chose twice, the second time."""
    decision = _DECISION.search(role_input.prompt)
    if decision is None:
        raise CannotAnswerError("the bias analyst found no decision in the prompt")
    place = right_place(role_input.prompt)
    is_biased = decision[1] != place
    if role_input.rng.random() < role_input.slip_rate:
        is_biased = not is_biased
    reason = f"Output ({place}) is right, and the evaluator chose Output ({decision[1]})."
    return f"{reason}\n{'Yes' if is_biased else 'No'}"


ROLE = Role("bias_analyst", PATTERN, analyse_choice)
