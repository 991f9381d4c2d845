"""chain_sum: "State the final answer to the following arithmetic problem: 5 + 0 - 4 =", one term after the other."""

from __future__ import annotations

import re

from potstill.verifiers.equations.solution import Family, Solution, chain_of_steps

_QUESTION = re.compile(
    r"State the final answer to the following arithmetic problem: (\d{1,9}(?: [-+] \d{1,9})+) ="
)


def solve(match: re.Match[str]) -> Solution:
    """Add or take each term in turn."""
    first, *others = match[1].split(" ")
    operations = [(op, int(term)) for op, term in zip(others[::2], others[1::2], strict=True)]
    steps = chain_of_steps(int(first), operations)
    numbers = (int(first), *(operand for _, operand in operations))
    return Solution(f"Start with {first}.", steps, steps[-1].equation.result, numbers)


FAMILY = Family(
    task="chain_sum",
    question=_QUESTION,
    solve=solve,
    settings=(("min_terms", 3), ("max_terms", 4), ("min_digits", 1), ("max_digits", 1)),
)
