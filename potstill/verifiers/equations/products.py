"""products: "Solve the following multiplication: 3 * 4 * 2. Give only the result …", one factor after the other."""

from __future__ import annotations

import re

from potstill.verifiers.equations.solution import Family, Solution, chain_of_steps

_QUESTION = re.compile(
    r"Solve the following multiplication: (\d{1,6}(?: \* \d{1,6}){1,5})\. "
    r"Give only the result as your final answer\."
)


def solve(match: re.Match[str]) -> Solution:
    """Multiply by each factor in turn."""
    first, *others = match[1].split(" * ")
    factors = [int(factor) for factor in others]
    steps = chain_of_steps(int(first), [("*", factor) for factor in factors])
    return Solution(
        f"Start with {first}.", steps, steps[-1].equation.result, (int(first), *factors)
    )


FAMILY = Family(
    task="products",
    question=_QUESTION,
    solve=solve,
    settings=(("min_terms", 4), ("max_terms", 4), ("min_digits", 1), ("max_digits", 1)),
)
