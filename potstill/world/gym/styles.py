r"""The styles in which a solution is written as a chain.

- `short`: what the warm-up teaches. "Start with 5. Next, 5 + 0 = 5. Then 5 + 4 = 9. So the answer is \boxed{9}."
- `plain`: the teacher's wording, without detours: an equation a line.
- `long`: the teacher's own: results checked backwards, slips that are taken back, a new start now and then.

A slip is followed by "Wait", a check begins with "Check:", a new start with "Start again": so the step verifier
(`potstill/verifiers/equations/follow.py`) reads them. Every style ends in the right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from potstill.verifiers.equations.solution import Solution, Step
from potstill.verifiers.story import Equation

Style: TypeAlias = Callable[[Solution, Random], str]

INVERSE = MappingProxyType({"+": "-", "-": "+", "*": "/", "/": "*"})
LEADS = MappingProxyType(
    {"+": "Now I add:", "-": "Now I take away:", "*": "Now I multiply:", "/": "Now I divide:"}
)


@dataclass(frozen=True, slots=True)
class Habits:
    """How often the long style checks a result, slips and takes it back, or starts again."""

    check: float = 0.5
    slip: float = 0.2
    restart: float = 0.15


def write_equation(equation: Equation) -> str:
    """An equation as every style writes it."""
    return f"{equation.left} {equation.op} {equation.right} = {equation.result}"


def write_short(solution: Solution, rng: Random) -> str:
    """The warm-up's style: one sentence an equation."""
    sentences = [solution.opening]
    for index, step in enumerate(solution.steps):
        lead = "Then" if index else "Next,"
        sentences.append(f"{lead} {write_labelled(step)}.")
    sentences.append(f"So the answer is \\boxed{{{solution.answer}}}.")
    return " ".join(sentences)


def write_plain(solution: Solution, rng: Random) -> str:
    """The teacher's wording, one equation a line."""
    lines = [f"Let me work this out step by step. {solution.opening}"]
    lines += [_plain_line(step) for step in solution.steps]
    lines.append(f"All done. Therefore the final result is \\boxed{{{solution.answer}}}.")
    return "\n".join(lines)


def write_long(solution: Solution, rng: Random, habits: Habits = Habits()) -> str:
    """The teacher's own style: detours, checks, a new start."""
    lines = [f"Okay, let me work this out carefully. {solution.opening}"]
    if len(solution.steps) > 1 and rng.random() < habits.restart:
        lines.append(_plain_line(solution.steps[0]))
        lines.append(f"Hmm, I want to be careful here. Start again. {solution.opening}")
    for step in solution.steps:
        lines += _long_lines(step, rng, habits)
    lines.append(f"All done. Therefore the final result is \\boxed{{{solution.answer}}}.")
    return "\n".join(lines)


STYLES: MappingProxyType[str, Style] = MappingProxyType(
    {"short": write_short, "plain": write_plain, "long": write_long}
)


def _plain_line(step: Step) -> str:
    return f"{LEADS[step.equation.op]} {write_labelled(step)}."


def write_labelled(step: Step) -> str:
    """An equation behind its label."""
    equation = write_equation(step.equation)
    return f"{step.label} {equation}" if step.label else equation


def _long_lines(step: Step, rng: Random, habits: Habits) -> Iterator[str]:
    equation = step.equation
    if rng.random() < habits.slip:
        slip = equation._replace(result=near_miss(equation.result, rng))
        yield _plain_line(step._replace(equation=slip))
        yield "Wait, that is not right. I try it once more."
    yield _plain_line(step)
    if rng.random() < habits.check:
        check = inverse(equation)
        if check is not None:
            yield f"Check: {write_equation(check)}. Good."


def inverse(equation: Equation) -> Equation | None:
    """The equation that leads back; None for a product with 0, which nothing leads back from."""
    if equation.op == "*" and equation.right == 0:
        return None
    return Equation(equation.result, INVERSE[equation.op], equation.right, equation.left)


def near_miss(number: int, rng: Random) -> int:
    """A wrong number close by."""
    return number + rng.choice((-2, -1, 1, 2, 10))
