"""leg_counting: "how many legs are there in total if you have 2 birds, 2 giraffes?", kind by kind, then the sum."""

from __future__ import annotations

import re
from types import MappingProxyType

from potstill.verifiers.equations.solution import Family, Solution, Step, equation_of

_QUESTION = re.compile(
    r"Your task is to count how many legs there are in total when given a list of animals\.\s+"
    r"Now, how many legs are there in total if you have (\d{1,6} [a-z ]+(?:, \d{1,6} [a-z ]+)*)\?"
)
# As reasoning-gym counts them; a test compares the table with the installed package.
LEGS = MappingProxyType(
    {
        **dict.fromkeys(("snake", "sea slug", "jellyfish", "flatworm", "leech"), 0),
        **dict.fromkeys(("chicken", "bird", "human", "duck"), 2),
        **dict.fromkeys(("dog", "cat", "cow", "horse", "lion", "elephant"), 4),
        **dict.fromkeys(("giraffe", "tiger", "deer", "sheep"), 4),
        "starfish": 5,
        **dict.fromkeys(("insect", "ant", "butterfly", "beetle", "bee", "wasp"), 6),
        **dict.fromkeys(("grasshopper", "cricket", "cockroach", "praying mantis", "firefly"), 6),
        **dict.fromkeys(("spider", "scorpion"), 8),
        **dict.fromkeys(("crab", "lobster", "shrimp"), 10),
        "woodlouse": 14,
    }
)


def solve(match: re.Match[str]) -> Solution | None:
    """The legs of each kind of animal, then one sum after the other."""
    steps: list[Step] = []
    for entry in match[1].split(", "):
        count, animal = entry.split(" ", 1)
        legs = _legs_of(animal, int(count))
        if legs is None:
            return None
        steps.append(Step(equation_of(int(count), "*", legs), label=f"{entry}:"))
    kinds = len(steps)
    total, total_index = steps[0].equation.result, 0
    for index in range(1, kinds):
        equation = equation_of(total, "+", steps[index].equation.result)
        steps.append(Step(equation, needs=(total_index, index)))
        total, total_index = equation.result, len(steps) - 1
    numbers = tuple(
        number for step in steps[:kinds] for number in (step.equation[0], step.equation[2])
    )
    return Solution("Count the legs of each kind.", tuple(steps), total, numbers)


def _legs_of(animal: str, count: int) -> int | None:
    """The legs of one animal; reasoning-gym's plural is an s behind any name."""
    return LEGS.get(animal.removesuffix("s") if count > 1 else animal)


FAMILY = Family(
    task="leg_counting",
    question=_QUESTION,
    solve=solve,
    settings=(("min_animals", 2), ("max_animals", 2), ("min_instances", 1), ("max_instances", 4)),
)
