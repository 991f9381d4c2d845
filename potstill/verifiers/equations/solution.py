"""What a question of a family requires: its equations in order, and the answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

from potstill.verifiers.story import Equation, Event, apply_event


class Step(NamedTuple):
    """One required equation.

    Args:
        equation: `left op right = result`.
        needs: indices of the steps whose results it uses; they come before it.
        label: what a chain writes in front of the equation, such as "3 dogs:" or "2*n ="; "" where it says it all.
    """

    equation: Equation
    needs: tuple[int, ...] = ()
    label: str = ""


@final
@dataclass(frozen=True, slots=True)
class Solution:
    """The solution of one question.

    Args:
        opening: the sentence with which a chain begins.
        steps: the required equations, in order.
        answer: the number that is asked for.
        numbers: those that a chain may start from: the question's own, and what one knows (how many legs a dog has).
        unknown: the letter whose value is asked for; "" where there is none.
        factors: of a question with an unknown, by step, by what the unknown is multiplied once the step is taken: 9 and
            1 where 9*n - 1 = 35 becomes 9*n = 36 and n = 4.
    """

    opening: str
    steps: tuple[Step, ...]
    answer: int
    numbers: tuple[int, ...]
    unknown: str = ""
    factors: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Family:
    """A task of reasoning-gym whose chains can be written and followed.

    Args:
        task: its name in reasoning-gym.
        question: matches a whole question of the task.
        solve: the solution that a match requires; None where the numbers are outside of what the family covers.
        settings: of the task, with which its problems are small enough for a model of 135 M parameters.
    """

    task: str
    question: re.Pattern[str]
    solve: Callable[[re.Match[str]], Solution | None]
    settings: tuple[tuple[str, object], ...]


def equation_of(left: int, op: str, right: int) -> Equation:
    """The true equation of an operation; a division leaves no rest."""
    return Equation(left, op, right, apply_event(left, Event(op, right)))


def chain_of_steps(start: int, operations: list[tuple[str, int]]) -> tuple[Step, ...]:
    """One step an operation, each on the result of the one before."""
    steps: list[Step] = []
    total = start
    for index, (op, operand) in enumerate(operations):
        equation = equation_of(total, op, operand)
        steps.append(Step(equation, needs=(index - 1,) if index else ()))
        total = equation.result
    return tuple(steps)
