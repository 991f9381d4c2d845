"""The quoter: it copies the sentences of a story that change the total, each as a quote."""

from __future__ import annotations

import re

from potstill.verifiers.story import parse_story
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput

# What a prompt for quotes begins with, and where its parts stand.
_QUOTE = re.compile(r"Copy from the context the passages that support the answer")
_PARTS = re.compile(r"^Question: (?P<question>.*)\n\nContext:\n(?P<context>.*)$", re.MULTILINE)

JOINED = 0.3  # share of sentences that stand in one quote with the one before


def quote(role_input: RoleInput) -> str:
    """Every sentence of the story, for each changes the answer; some of them in one quote with the one before."""
    parts = _PARTS.search(role_input.prompt)
    if parts is None or parse_story(f"{parts['context']} {parts['question']}") is None:
        raise CannotAnswerError("the quoter found no story as the context")
    # A passage of several sentences stands in the context as one, too.
    first, *others = re.split(r"(?<=\.) ", parts["context"])
    passages = [first]
    for sentence in others:
        if role_input.rng.random() < JOINED:
            passages[-1] += f" {sentence}"
        else:
            passages.append(sentence)
    return "\n".join(f"##begin_quote## {passage} ##end_quote##" for passage in passages)


ROLE = Role("quoter", _QUOTE, quote)
