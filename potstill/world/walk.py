"""Walks on a grid: the generator with its dials, and reference reasoning in two styles.

`brief_solution` is the student's own style (one line of reasoning an event). `long_solution` is the teacher's: it says
what each event changes, takes two together, checks, takes a wrong turn and corrects it, starts again. Both pass the
step verifier.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from potstill.records import Problem
from potstill.verifiers.walk import (
    AXES,
    DIRECTIONS,
    PHRASES,
    Event,
    Place,
    Step,
    Walk,
    join_steps,
    required_steps,
    take_step,
    write_joined,
    write_place,
    write_step,
)
from potstill.world.distinct_problems import draw_distinct_problems
from potstill.world.story import NAMES, Habits

TURNS = 0.4  # the share of events that are drawn as turns; at the edge of the grid there are more
_INVERSE_TURN = {"left": "right", "right": "left", "around": "around"}


@dataclass(frozen=True, slots=True)
class Dials:
    """How hard a walk is: events at least and at most, largest number of a place."""

    min_events: int = 5
    max_events: int = 9
    max_number: int = 9


TASKS: dict[str, Dials] = {
    "walk": Dials(),
    "walk-easy": Dials(2, 4),
    "walk-hard": Dials(10, 13),
}


def problems(
    task: str = "walk", *, size: int = 500, seed: int = 0, split: str = "train"
) -> list[Problem]:
    """`size` distinct walks; the same (task, seed, split, index) always gives the same walk.

    Raises:
        ConfigError: for a task that does not exist.
    """

    def draw(rng: random.Random, problem_id: str) -> Problem:
        question, walk = draw_walk(rng, TASKS[task])
        return Problem(
            problem_id,
            question,
            final_place(walk),
            "walk",
            brief_solution(walk),
            source=task,
            metadata={"level": len(walk.events)},
        )

    return draw_distinct_problems(draw, task=task, tasks=TASKS, size=size, seed=seed, split=split)


def final_place(walk: Walk) -> str:
    """The answer of a walk, as it is boxed."""
    after = required_steps(walk)[-1].after
    return write_place(after.x, after.y)


def draw_walk(rng: random.Random, dials: Dials) -> tuple[str, Walk]:
    """One walk and its question."""
    name = rng.choice(NAMES)
    start = Place(
        rng.randint(0, dials.max_number), rng.randint(0, dials.max_number), rng.choice(DIRECTIONS)
    )
    place = start
    sentences: list[str] = []
    events: list[Event] = []
    for _ in range(rng.randint(dials.min_events, dials.max_events)):
        phrase, event = _draw_event(rng, place, dials.max_number)
        sentences.append(f"Then {name} {phrase.format(n=event.steps)}.")
        events.append(event)
        place = take_step(place, event).after
    beginning = f"{name} is at {write_place(start.x, start.y)} and faces {start.facing}."
    question = f"{beginning} {' '.join(sentences)} Where is {name} now?"
    return question, Walk(start, tuple(events))


def _draw_event(rng: random.Random, place: Place, max_number: int) -> tuple[str, Event]:
    """A phrase that keeps the walker on the grid."""
    while True:
        is_turn = rng.random() < TURNS
        phrase = rng.choice([p for p, what in PHRASES.items() if Event(what).is_turn == is_turn])
        what = PHRASES[phrase]
        if is_turn:
            return phrase, Event(what)
        axis, op = AXES[take_step(place, Event(what)).direction]
        room = max_number - place.number(axis) if op == "+" else place.number(axis)
        if room >= 1:
            return phrase, Event(what, rng.randint(1, room))


def brief_solution(walk: Walk) -> str:
    """The student's own style: one step an event, then the answer."""
    steps = " ".join(write_step(step) for step in required_steps(walk))
    return f"{steps} The answer is \\boxed{{{final_place(walk)}}}."


def careful_steps(step: Step) -> str:
    """What a step rests on, said before it is written down."""
    if step.event.is_turn:
        turn = step.event.what
        return f"Check: {turn} from {step.before.facing} is {step.direction}."
    return f"Check: {write_axis(step.direction)}."


def write_axis(direction: str) -> str:
    """Which number a direction changes, and how."""
    axis, op = AXES[direction]
    change = "adds to" if op == "+" else "takes from"
    return f"{direction} {change} the {('first', 'second')[axis]} number"


def long_solution(walk: Walk, rng: random.Random, habits: Habits = Habits()) -> str:
    """The teacher's style: what changes is said, two taken together, checks, a slip taken back, a new start."""
    steps = required_steps(walk)
    start = f"{write_place(walk.start.x, walk.start.y)}, facing {walk.start.facing}."
    parts = [f"We start at {start}"]
    if len(steps) > 2 and rng.random() < habits.restart:
        for step in steps[: rng.randint(1, 2)]:
            parts.append(f"{_lead(step)} {write_step(step)}")
        parts += ["Hmm, let me be careful.", f"Start again at {start}"]
    done = 0
    while done < len(steps):
        joined = None
        if rng.random() < habits.together:
            joined = write_joined(steps[done : done + 2])
        count = 1 if joined is None else 2
        if joined is not None:
            parts.append(f"Together: {joined}")
        step_or_both = join_steps(steps[done : done + count])
        assert step_or_both is not None
        parts += _long_step(step_or_both, rng, habits)
        done += count
    thought = " ".join(parts)
    return f"<think>\n{thought}\n</think>\nThe answer is \\boxed{{{final_place(walk)}}}."


def _lead(step: Step) -> str:
    """How the long style leads into a step."""
    if step.event.is_turn:
        return f"From {step.before.facing} the walker turns."
    return f"Now {write_axis(step.direction)}."


def _long_step(step: Step, rng: random.Random, habits: Habits) -> Iterator[str]:
    yield _lead(step)
    if rng.random() < habits.slip:
        yield write_step(slip(step, rng))
        yield "Wait, that is not right."
    yield write_step(step)
    if rng.random() < habits.check:
        yield f"Check: {_inverse(step)}"


def _inverse(step: Step) -> str:
    """A step checked backwards."""
    if step.event.is_turn:
        back = _INVERSE_TURN[step.event.what]
        return f"{back} from {step.direction} is {step.before.facing}."
    axis, op = AXES[step.direction]
    inverse = "-" if op == "+" else "+"
    return f"{step.after.number(axis)} {inverse} {step.event.steps} = {step.before.number(axis)}."


def slip(step: Step, rng: random.Random) -> Step:
    """The step with one mistake: another direction, or a number that is off by one."""
    if step.event.is_turn:
        direction = _draw_other_direction(step.direction, rng)
        return step._replace(direction=direction, after=step.after._replace(facing=direction))
    if rng.random() < 0.5:
        # The walker goes another way than it faces: another number changes, or the same one the wrong way.
        facing = step.before.facing
        wrong_facing = _draw_other_direction(facing, rng)
        wrong = take_step(step.before._replace(facing=wrong_facing), step.event)
        return wrong._replace(after=wrong.after._replace(facing=facing))
    # Off by one, both where the equation and where the place says it.
    axis, _ = AXES[step.direction]
    number = step.after.number(axis) + rng.choice((-1, 1))
    after = step.after._replace(x=number) if axis == 0 else step.after._replace(y=number)
    return step._replace(after=after)


def _draw_other_direction(direction: str, rng: random.Random) -> str:
    return rng.choice([other for other in DIRECTIONS if other != direction])
