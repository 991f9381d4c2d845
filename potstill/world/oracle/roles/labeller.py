"""The labeller: solves a story in numbered statements, each step behind those that it follows from, with slips."""

from __future__ import annotations

import re

from potstill.verifiers.story import apply_event
from potstill.world.oracle.role import Role, RoleInput, read_story

PATTERN = re.compile(r"Solve a question in numbered statements\b")
LARGEST_SLIP = 9


def write_statements(role_input: RoleInput) -> str:
    """The sentences of the story, an equation for each of its events, and the answer."""
    question, story = read_story(role_input.prompt)
    sentences = [f"{sentence.strip()}." for sentence in question.rstrip("?").split(".")]
    sentences[-1] = f"{sentences[-1].removesuffix('.')}?"
    slip = -1
    if role_input.rng.random() < role_input.slip_rate:
        slip = role_input.rng.randrange(len(story.events))

    # The first sentence says how many there are, and each following one but the last is an event.
    statements = list(sentences)
    total, label_of_total = story.start, 1
    for number, event in enumerate(story.events):
        result = apply_event(total, event)
        if number == slip:
            result += role_input.rng.randint(1, LARGEST_SLIP)
        premises = " ".join(f"#{label}" for label in sorted((number + 2, label_of_total)))
        statements.append(f"(by {premises}) {total} {event.op} {event.operand} = {result}.")
        total, label_of_total = result, len(statements)
    statements.append(f"(by #{len(sentences)} #{label_of_total}) The answer is \\boxed{{{total}}}.")
    return "\n".join(f"#{label}. {text}" for label, text in enumerate(statements, 1))


ROLE = Role("labeller", PATTERN, write_statements)
