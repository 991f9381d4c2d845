"""Plans: what happens in a story in words, one step an event, and a slip in carrying one out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from potstill.verifiers.story import Event

# The word of an event whose number is a factor.
_FACTOR_WORDS = {("*", 2): "double", ("*", 3): "triple", ("/", 2): "halve"}
_VERBS = {"+": "add", "-": "take away", "*": "multiply by", "/": "divide by"}
_EVENT_OF_WORD = {word: Event(*event) for event, word in _FACTOR_WORDS.items()}
_OP_OF_VERB = {verb: op for op, verb in _VERBS.items()}

_STEP = re.compile(
    rf"\b(?:({'|'.join(_VERBS.values())}) (\d{{1,6}})|({'|'.join(_EVENT_OF_WORD)}))\b",
    re.IGNORECASE,
)
_EQUATION = re.compile(r"(?<![\d.])\d{1,6} ([-+*/]) (\d{1,6}) = ")


def write_step(event: Event) -> str:
    """An event as a plan says it: "take away 14", "double"."""
    word = _FACTOR_WORDS.get((event.op, event.operand))
    return word or f"{_VERBS[event.op]} {event.operand}"


def read_steps(plan: str) -> list[Event]:
    """The steps that a plan says, in order; of a plan that says none, the operations of its equations."""
    events: list[Event] = []
    for step in _STEP.finditer(plan):
        verb, operand, word = step.groups()
        if word:
            events.append(_EVENT_OF_WORD[word.lower()])
        else:
            events.append(Event(_OP_OF_VERB[verb.lower()], int(operand)))
    if events:
        return events
    return [Event(equation[1], int(equation[2])) for equation in _EQUATION.finditer(plan)]


def slip_once(events: Sequence[Event], rng: Random) -> list[Event]:
    """The events with one of them left out, or done with a number that is off by a little.

    A division stays one by a number above 0. Without events there is nothing to slip on.
    """
    changed = list(events)
    if not changed:
        return changed
    # Half of the slips leave a step out, half of them misread its number.
    place = rng.randrange(len(changed))
    if rng.random() < 0.5:
        del changed[place]
        return changed
    op, operand = changed[place]
    changed[place] = Event(op, operand + rng.choice((1, 2)))
    return changed
