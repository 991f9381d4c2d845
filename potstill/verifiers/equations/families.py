"""The families by their task, and the solution of any question of theirs."""

from __future__ import annotations

from types import MappingProxyType

from potstill.verifiers.equations import (
    basic_arithmetic,
    chain_sum,
    count_bits,
    gcd,
    leg_counting,
    products,
    simple_equations,
)
from potstill.verifiers.equations.solution import Family, Solution

FAMILIES: MappingProxyType[str, Family] = MappingProxyType(
    {
        module.FAMILY.task: module.FAMILY
        for module in (
            chain_sum,
            products,
            simple_equations,
            basic_arithmetic,
            leg_counting,
            gcd,
            count_bits,
        )
    }
)


def solve_question(question: str) -> Solution | None:
    """The solution of a whole question; None where it is of no family."""
    for family in FAMILIES.values():
        match = family.question.fullmatch(question.strip())
        if match is not None:
            return family.solve(match)
    return None


def solve_first_question(text: str) -> Solution | None:
    """The solution of the first question in a text, such as a prompt; None where it shows none."""
    matches = []
    for family in FAMILIES.values():
        match = family.question.search(text)
        if match is not None:
            matches.append((match.start(), family, match))
    if not matches:
        return None
    _, family, match = min(matches, key=lambda entry: entry[0])
    return family.solve(match)
