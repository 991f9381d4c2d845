"""count_bits: "How many 1 bits are there in the binary representation of the number 13?", power of two by power."""

from __future__ import annotations

import re

from potstill.verifiers.equations.solution import Family, Solution, chain_of_steps

_QUESTION = re.compile(
    r"How many 1 bits are there in the binary representation of the number (\d{1,12})\?"
)


def solve(match: re.Match[str]) -> Solution | None:
    """Take the largest power of two, again and again; each is one bit."""
    number = int(match[1])
    powers: list[int] = []
    remainder = number
    while remainder:
        powers.append(1 << (remainder.bit_length() - 1))
        remainder -= powers[-1]
    if not powers:
        return None
    steps = chain_of_steps(number, [("-", power) for power in powers])
    return Solution(f"Take powers of two from {number}.", steps, len(powers), (number, *powers))


FAMILY = Family(
    task="count_bits",
    question=_QUESTION,
    solve=solve,
    settings=(("min_n", 1), ("max_n", 127)),
)
