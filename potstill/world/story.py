"""Stories of a running total: the generator with its dials, and reference reasoning in two styles.

`brief_solution` is the student's own style (one equation an event). `long_solution` is the teacher's: it names each
event, takes two together, checks, takes a wrong turn and corrects it, starts again. Both pass the step verifier.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

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
from potstill.world.distinct_problems import draw_distinct_problems

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
# How the long style leads into a step.
_LEADS = {
    "+": "The pile grows:",
    "-": "The pile shrinks:",
    "*": "The pile is multiplied:",
    "/": "The pile is halved:",
}
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True, slots=True)
class Dials:
    """How hard a story is: events at least and at most, largest total."""

    min_events: int = 4
    max_events: int = 8
    max_total: int = 99


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

    def draw(rng: random.Random, problem_id: str) -> Problem:
        question, story = draw_story(rng, TASKS[task])
        return Problem(
            problem_id,
            question,
            str(required_equations(story)[-1].result),
            "story",
            brief_solution(story),
            source=task,
            metadata={"level": len(story.events)},
        )

    return draw_distinct_problems(draw, task=task, tasks=TASKS, size=size, seed=seed, split=split)


def draw_story(rng: random.Random, dials: Dials) -> tuple[str, Story]:
    """One story and its question."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    start = rng.randint(2, min(40, dials.max_total))
    total = start
    sentences: list[str] = []
    events: list[Event] = []
    for _ in range(rng.randint(dials.min_events, dials.max_events)):
        phrase, event = _draw_event(rng, total, dials.max_total)
        friend = rng.choice([other for other in NAMES if other != name])
        sentences.append(f"Then {name} {phrase.format(n=event.operand, friend=friend)}.")
        events.append(event)
        total = apply_event(total, event)
    beginning = f"{name} has {start} {item}."
    question = f"{beginning} {' '.join(sentences)} How many {item} does {name} have now?"
    return question, Story(start, tuple(events))


def _draw_event(rng: random.Random, total: int, max_total: int) -> tuple[str, Event]:
    """A phrase that keeps the total between 0 and `max_total`."""
    while True:
        phrase = rng.choice(list(PHRASES))
        op, factor = PHRASES[phrase]
        if factor is not None:
            if op == "*":
                fits = 0 < total * factor <= max_total
            else:
                fits = total > 0 and total % factor == 0
            if fits:
                return phrase, Event(op, factor)
            continue
        max_operand = max_total - total if op == "+" else total
        if max_operand >= 1:
            return phrase, Event(op, rng.randint(1, min(max_operand, 50)))


def write_equation(equation: Equation) -> str:
    """An equation as both styles write it."""
    return f"{equation.left} {equation.op} {equation.right} = {equation.result}."


def brief_solution(story: Story) -> str:
    """The student's own style: one equation an event, then the answer."""
    equations = required_equations(story)
    steps = " ".join(write_equation(equation) for equation in equations)
    return f"{steps} The answer is \\boxed{{{equations[-1].result}}}."


@dataclass(frozen=True, slots=True)
class Habits:
    """How often the teacher's style checks, takes two events together, slips and takes it back, or starts again."""

    check: float = 0.3
    together: float = 0.85
    slip: float = 0.1
    restart: float = 0.06


def careful_steps(equation: Equation) -> str:
    """A calculation in small true steps, each a check, before it is written down."""
    if equation.op in "+-":
        parts = _split_sum(equation)
    else:
        parts = _split_product(equation)
    # Where there is nothing to split, the calculation is checked backwards.
    parts = parts or [_inverse(equation)]
    return " ".join(f"Check: {write_equation(part)}" for part in parts)


def _split_sum(equation: Equation) -> list[Equation]:
    """A sum or difference in two steps, by way of the tens; nothing where it is one step already."""
    left, op, right, result = equation
    if right >= 10 and right % 10:
        first = right - right % 10  # the tens of what is added or taken
    elif op == "+":
        first = 10 - left % 10  # up to the next ten
    else:
        first = left % 10  # down to the last ten
    if not 0 < first < right:
        return []
    middle = apply_event(left, Event(op, first))
    return [Equation(left, op, first, middle), Equation(middle, op, right - first, result)]


def _split_product(equation: Equation) -> list[Equation]:
    """A product or quotient as that of the round part and that of the rest; nothing where there is no rest."""
    left, op, right, result = equation
    remainder = left % (10 * right) if op == "/" else left % 10
    if remainder in (left, 0):
        return []
    round_result = apply_event(left - remainder, Event(op, right))
    remainder_result = apply_event(remainder, Event(op, right))
    return [
        Equation(left - remainder, op, right, round_result),
        Equation(remainder, op, right, remainder_result),
        Equation(round_result, "+", remainder_result, result),
    ]


def _inverse(equation: Equation) -> Equation:
    return Equation(equation.result, INVERSE[equation.op], equation.right, equation.left)


def long_solution(story: Story, rng: random.Random, habits: Habits = Habits()) -> str:
    """The teacher's style: events named, two taken together, results checked, a slip taken back, a new start."""
    equations = required_equations(story)
    parts = [f"We start with {story.start}."]
    if len(equations) > 2 and rng.random() < habits.restart:
        for equation in equations[: rng.randint(1, 2)]:
            parts.append(f"{_LEADS[equation.op]} {write_equation(equation)}")
        parts += ["Hmm, let me be careful.", f"Start again with {story.start}."]
    done = 0
    while done < len(equations):
        # The order of the draws decides what the shipped teacher was taught: first together, then slip, then check.
        both = None
        if rng.random() < habits.together:
            both = sum_of_two(equations[done : done + 2])
        count = 1 if both is None else 2
        if both is not None:
            parts.append(f"Together: {write_equation(both)}")
        step = join_equations(equations[done : done + count])
        assert step is not None
        parts += _long_step(step, rng, habits)
        done += count
    thought = " ".join(parts)
    return f"<think>\n{thought}\n</think>\nThe answer is \\boxed{{{equations[-1].result}}}."


def _long_step(equation: Equation, rng: random.Random, habits: Habits) -> Iterator[str]:
    yield _LEADS[equation.op]
    if rng.random() < habits.slip:
        yield write_equation(equation._replace(result=near_miss(equation.result, rng)))
        yield "Wait, that is not right."
    yield write_equation(equation)
    if rng.random() < habits.check:
        yield f"Check: {write_equation(_inverse(equation))}"


def near_miss(number: int, rng: random.Random) -> int:
    """A wrong number close by: off by a little, off by ten, digits swapped."""
    swapped = int(str(number)[::-1])
    candidates: list[int] = []
    for other in (
        number - 1,
        number + 1,
        number - 2,
        number + 2,
        number - 10,
        number + 10,
        swapped,
    ):
        if other >= 0 and other != number:
            candidates.append(other)
    return rng.choice(candidates)
