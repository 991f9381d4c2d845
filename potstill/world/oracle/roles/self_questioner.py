"""The self-questioner: solves a story by asking for the pile after each of its changes, and answering that."""

from __future__ import annotations

import re

from potstill.verifiers.story import required_equations
from potstill.world.oracle.role import Role, RoleInput, read_story
from potstill.world.story import write_equation

# Copies of a few words of a method's prompt; the test of that method runs it with the oracle.
_ASKED = re.compile(r"Solve the problem below by simpler sub-questions")


def ask_and_answer(role_input: RoleInput) -> str:
    """A question and an equation for each change, the last one with the answer in a box."""
    question, story = read_story(role_input.prompt)
    name, _, _, item = question.split(".")[0].split()
    equations = required_equations(story)
    when = role_input.rng.choice(("after change", "when it has gone through change"))
    lines: list[str] = []
    for number, equation in enumerate(equations, 1):
        after = "now" if number == len(equations) else f"{when} {number}"
        lines.append(f"Question {number}: How many {item} does {name} have {after}?")
        lines.append(f"Answer {number}: {write_equation(equation)}")
    lines[-1] += f" \\boxed{{{equations[-1].result}}}"
    return "\n".join(lines)


ROLE = Role("self_questioner", _ASKED, ask_and_answer)
