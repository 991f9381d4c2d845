"""The step reasoner: shown a story as labelled statements, it reasons in steps that select some and infer one more."""

from __future__ import annotations

import re

from potstill.verifiers.story import parse_story, required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput

# What a prompt for such reasoning begins with.
_ASKED = re.compile(r"Reason from the numbered statements to the answer")
_STATEMENT = re.compile(r"^sent \d+: (.*)$", re.MULTILINE)
_QUESTION = re.compile(r"^Question: (.*)$", re.MULTILINE)


def reason(role_input: RoleInput) -> str:
    """A step for each change of the pile: that change, and how large the pile was before it."""
    statements = _STATEMENT.findall(role_input.prompt)
    question = _QUESTION.search(role_input.prompt)
    story = parse_story(" ".join([*statements, question[1]])) if question else None
    if story is None:
        raise CannotAnswerError("the oracle found no story in the statements")
    name, _, _, item = statements[0].removesuffix(".").split()
    lines: list[str] = []
    known = 1
    for number, equation in enumerate(required_equations(story), start=1):
        selection = f"sent {number + 1}. We know that sent {known}."
        lines.append(f"{selection} Therefore, {name} has {equation.result} {item}.")
        known = len(statements) + number
    total = story.start if not lines else required_equations(story)[-1].result
    return "\n".join([*lines, f"The answer is \\boxed{{{total}}}."])


ROLE = Role("step_reasoner", _ASKED, reason)
