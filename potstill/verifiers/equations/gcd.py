"""gcd: "Find the Greatest Common Divisor (GCD) of these numbers: 24, 21. …", by Euclid's divisions with remainder."""

from __future__ import annotations

import re

from potstill.verifiers.equations.solution import Family, Solution, Step, equation_of

_QUESTION = re.compile(
    r"Find the Greatest Common Divisor \(GCD\) of these numbers: (\d{1,9}), (\d{1,9})\. "
    r"Give only the GCD as your final answer\."
)


def solve(match: re.Match[str]) -> Solution | None:
    """Take the largest multiple of the smaller number from the larger one, until nothing is left."""
    larger, smaller = max(int(match[1]), int(match[2])), min(int(match[1]), int(match[2]))
    opening = f"The larger number is {larger}, the smaller is {smaller}."
    if smaller == 0:
        return None
    steps: list[Step] = []
    while smaller:
        multiple = equation_of(larger // smaller, "*", smaller)
        before = (len(steps) - 1,) if steps else ()
        steps.append(Step(multiple, needs=before))
        remainder = equation_of(larger, "-", multiple.result)
        steps.append(Step(remainder, needs=(len(steps) - 1,)))
        larger, smaller = smaller, remainder.result
    numbers = (int(match[1]), int(match[2]))
    return Solution(opening, tuple(steps), larger, numbers)


FAMILY = Family(
    task="gcd",
    question=_QUESTION,
    solve=solve,
    settings=(("min_value", 2), ("max_value", 30)),
)
