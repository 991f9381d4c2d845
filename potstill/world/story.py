"""Stories of a running total: the generator with its dials, and reference reasoning in two styles.

`brief` is the student's own style (one equation an event). `long` is the teacher's: it names each event, takes two
together, checks, takes a wrong turn and mends it, starts again. Both pass the step verifier.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from potstill.errors import ConfigError
from potstill.records import Problem
from potstill.verifiers.story import (
    PHRASES,
    Equation,
    Event,
    Story,
    apply_event,
    join_equations,
    required_equations,
    sum_of_two,
)

NAMES = ("Ned", "Ann", "Tom", "Mia", "Sam", "Eva", "Leo", "Ida", "Max", "Zoe", "Bob", "Kim")
ITEMS = (
    "shells",
    "coins",
    "cards",
    "beads",
    "nuts",
    "pens",
    "keys",
    "cups",
    "figs",
    "maps",
    "bells",
    "rocks",
)
_NAMED = {
    "+": "The pile grows:",
    "-": "The pile shrinks:",
    "*": "The pile is multiplied:",
    "/": "The pile is halved:",
}
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True, slots=True)
class Dials:
    """How hard a story is: events at least and at most, largest total."""

    least: int = 4
    most: int = 8
    total: int = 99


TASKS: dict[str, Dials] = {
    "story": Dials(),
    "story-easy": Dials(2, 3),
    "story-hard": Dials(8, 10),
}


def problems(
    task: str = "story", *, size: int = 500, seed: int = 0, split: str = "train"
) -> list[Problem]:
    """`size` distinct stories; the same (task, seed, split, index) always gives the same story.

    Raises:
        ConfigError: for a task that does not exist.
    """
    if task not in TASKS:
        raise ConfigError(
            f"no world task called {task!r}", available=TASKS, wanted=task, fix="use world:story"
        )
    found: dict[str, Problem] = {}
    for i in range(size * 20):
        if len(found) == size:
            break
        rng = random.Random(hashlib.sha256(f"{task}/{seed}/{split}/{i}".encode()).digest())
        question, story = draw(rng, TASKS[task])
        answer = str(required_equations(story)[-1].result)
        found.setdefault(
            question,
            Problem(
                f"{task}-{split}-{seed}-{i}", question, answer, "story", brief(story), source=task
            ),
        )
    return list(found.values())


def draw(rng: random.Random, dials: Dials) -> tuple[str, Story]:
    """One story and its question."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    start = rng.randint(2, min(40, dials.total))
    total, told, events = start, [], []
    for _ in range(rng.randint(dials.least, dials.most)):
        phrase, event = _happening(rng, total, dials.total)
        friend = rng.choice([n for n in NAMES if n != name])
        told.append(f"Then {name} {phrase.format(n=event.operand, friend=friend)}.")
        events.append(event)
        total = apply_event(total, event)
    question = f"{name} has {start} {item}. {' '.join(told)} How many {item} does {name} have now?"
    return question, Story(start, tuple(events))


def _happening(rng: random.Random, total: int, most: int) -> tuple[str, Event]:
    """A phrase that keeps the total between 0 and `most`."""
    while True:
        phrase = rng.choice(list(PHRASES))
        op, factor = PHRASES[phrase]
        if factor is not None:
            fits = 0 < total * factor <= most if op == "*" else total > 0 and total % factor == 0
            if fits:
                return phrase, Event(op, factor)
            continue
        room = most - total if op == "+" else total
        if room >= 1:
            return phrase, Event(op, rng.randint(1, min(room, 50)))


def write(e: Equation) -> str:
    """An equation as both styles write it."""
    return f"{e.left} {e.op} {e.right} = {e.result}."


def brief(story: Story) -> str:
    """The student's own style: one equation an event, then the answer."""
    line = required_equations(story)
    return " ".join(write(e) for e in line) + f" The answer is \\boxed{{{line[-1].result}}}."


@dataclass(frozen=True, slots=True)
class Habits:
    """How often the teacher's style checks, takes two events together, slips and mends it, or starts again."""

    check: float = 0.3
    together: float = 0.85
    slip: float = 0.1
    restart: float = 0.06


def careful(e: Equation) -> str:
    """A calculation in small true steps, each a check, before it is written down."""
    a, op, b, result = e
    if op in "+-":
        first = b - b % 10 if b >= 10 and b % 10 else (10 - a % 10 if op == "+" else a % 10)
        if not 0 < first < b:
            parts = [Equation(result, INVERSE[op], b, a)]
        else:
            middle = apply_event(a, Event(op, first))
            parts = [Equation(a, op, first, middle), Equation(middle, op, b - first, result)]
    else:
        low = a % (10 * b) if op == "/" else a % 10
        if low in (a, 0):
            parts = [Equation(result, INVERSE[op], b, a)]
        else:
            high, rest = apply_event(a - low, Event(op, b)), apply_event(low, Event(op, b))
            parts = [
                Equation(a - low, op, b, high),
                Equation(low, op, b, rest),
                Equation(high, "+", rest, result),
            ]
    return " ".join(f"Check: {write(part)}" for part in parts)


def long(story: Story, rng: random.Random, habits: Habits = Habits()) -> str:
    """The teacher's style: events named, two taken together, results checked, a slip taken back, a new start."""
    line = required_equations(story)
    parts = [f"We start with {story.start}."]
    if len(line) > 2 and rng.random() < habits.restart:
        parts += [f"{_NAMED[e.op]} {write(e)}" for e in line[: rng.randint(1, 2)]]
        parts += ["Hmm, let me be careful.", f"Start again with {story.start}."]
    at = 0
    while at < len(line):
        both = sum_of_two(line[at : at + 2]) if rng.random() < habits.together else None
        if both:
            parts.append(f"Together: {write(both)}")
        now = join_equations(line[at : at + (2 if both else 1)])
        assert now is not None
        parts += _told(now, rng, habits)
        at += 2 if both else 1
    return f"<think>\n{' '.join(parts)}\n</think>\nThe answer is \\boxed{{{line[-1].result}}}."


def _told(e: Equation, rng: random.Random, habits: Habits) -> Iterator[str]:
    yield _NAMED[e.op]
    if rng.random() < habits.slip:
        yield write(e._replace(result=slip(e.result, rng)))
        yield "Wait, that is not right."
    yield write(e)
    if rng.random() < habits.check:
        yield f"Check: {write(Equation(e.result, INVERSE[e.op], e.right, e.left))}"


def slip(n: int, rng: random.Random) -> int:
    """A near miss: off by a little, off by ten, digits swapped."""
    turned = int(str(n)[::-1])
    near = [m for m in (n - 1, n + 1, n - 2, n + 2, n - 10, n + 10, turned) if m >= 0 and m != n]
    return rng.choice(near)
