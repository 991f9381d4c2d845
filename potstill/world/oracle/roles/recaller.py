"""The recaller: it plans a story in steps that recall or reason, and answers the questions that such a plan asks."""

from __future__ import annotations

import re

from potstill.verifiers.story import required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.story import write_equation

# Copies of the first words of a method's prompts; the test of that method runs it with the oracle.
_ASKED = re.compile(
    r"Plan the steps that lead to the correct answer|Answer each question below with the fact"
)
_NUMBERED = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
# What there is to know of each operation: a question, and the fact that answers it.
FACTS = {
    ("+", None): ("What happens to a pile that gets more?", "A pile that gets more grows by it."),
    ("-", None): (
        "What happens to a pile that loses some?",
        "A pile that loses some shrinks by it.",
    ),
    ("*", 2): (
        "What does it mean to double a number?",
        "To double a number is to multiply it by 2.",
    ),
    ("*", 3): (
        "What does it mean to triple a number?",
        "To triple a number is to multiply it by 3.",
    ),
    ("/", 2): ("What is half of a number?", "Half of a number is the number divided by 2."),
}
ASKED_SHARE = 0.5  # of a plan's steps that recall first what they use


def recall(role_input: RoleInput) -> str:
    """A plan of the story in the prompt, or the answers to the questions of one."""
    if "Plan the steps" in role_input.prompt:
        return plan_steps(role_input)
    # Questions are known by their words: it answers what its own plans ask, and nothing else.
    answers = dict(FACTS.values())
    lines: list[str] = []
    for number, question in _NUMBERED.findall(role_input.prompt):
        if question not in answers:
            raise CannotAnswerError(f"the recaller knows nothing of {question[:60]!r}")
        lines.append(f"{number}. {answers[question]}")
    return "\n".join(lines)


def plan_steps(role_input: RoleInput) -> str:
    """The equations of the story, some of them behind the question of fact that they want answered."""
    _, story = read_story(role_input.prompt)
    lines: list[str] = []
    for event, equation in zip(story.events, required_equations(story), strict=True):
        # What adding does is the same for every number; a factor has a word of its own.
        operand = event.operand if event.op in "*/" else None
        if role_input.rng.random() < ASKED_SHARE:
            lines.append(f"[memory] {FACTS[event.op, operand][0]}")
        lines.append(f"[reason] {write_equation(equation)}")
    return "\n".join(lines)


ROLE = Role("recaller", _ASKED, recall)
