"""simple_equations: "Solve for n: 9*n - 1 = 35", with one unknown on the left side, undone from the outside in."""

from __future__ import annotations

import re

from potstill.verifiers.equations.solution import Family, Solution, chain_of_steps

_NUMBER = r"\d{1,6}"
_EQUATION = (
    rf"(?:(?P<first>{_NUMBER}) (?P<sign>[-+]) )?(?:(?P<factor>{_NUMBER})\*)?(?P<unknown>[a-z])"
    rf"(?: (?P<op>[-+]) (?P<term>{_NUMBER}))? = (?P<right>-?{_NUMBER})"
)
_QUESTION = re.compile(
    r"(?:Solve for [a-z]: |Find the value of [a-z] in the equation: "
    rf"|Determine the value of [a-z] that satisfies: )(?P<equation>{_EQUATION})"
)


def solve(match: re.Match[str]) -> Solution | None:
    """Move the term to the right side, then divide by the factor of the unknown."""
    right = int(match["right"])
    operations: list[tuple[str, int]] = []
    start = right
    if match["first"] and match["term"]:
        return None
    if match["first"] and match["sign"] == "-":
        # a - f*x = c: f*x is a - c.
        start = int(match["first"])
        operations.append(("-", right) if right >= 0 else ("+", -right))
    elif match["first"]:
        operations.append(("-", int(match["first"])))
    elif match["term"]:
        operations.append(("+" if match["op"] == "-" else "-", int(match["term"])))
    if match["factor"]:
        operations.append(("/", int(match["factor"])))
    if not operations or not _is_whole(start, operations):
        return None
    # "2*n = 6 - 2 = 4", then "n = 4 / 2 = 2".
    steps = chain_of_steps(start, operations)
    labels = [f"{match['unknown']} ="]
    factors = [1]
    if len(steps) == 2:
        labels.insert(0, f"{match['factor']}*{match['unknown']} =")
        factors.insert(0, int(match["factor"]))
    steps = tuple(step._replace(label=label) for step, label in zip(steps, labels, strict=True))
    opening = f"The equation is {match['equation']}."
    numbers = tuple(int(number) for number in re.findall(r"\d+", match["equation"]))
    numbers += tuple(-number for number in numbers)
    return Solution(
        opening=opening,
        steps=steps,
        answer=steps[-1].equation.result,
        numbers=numbers,
        unknown=match["unknown"],
        factors=tuple(factors),
    )


def _is_whole(start: int, operations: list[tuple[str, int]]) -> bool:
    """Whether the division, which comes last, leaves no rest."""
    op, divisor = operations[-1]
    if op != "/":
        return True
    moved = chain_of_steps(start, operations[:-1])
    dividend = moved[-1].equation.result if moved else start
    return divisor != 0 and dividend % divisor == 0


FAMILY = Family(
    task="simple_equations",
    question=_QUESTION,
    solve=solve,
    settings=(("min_terms", 2), ("max_terms", 2), ("max_value", 9)),
)
