"""basic_arithmetic: "Calculate ( 5 + -3 ) * 8.", brackets first, products before sums, from left to right."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from potstill.verifiers.equations.solution import Family, Solution, Step, equation_of

_QUESTION = re.compile(r"Calculate ([-+*/()\d ]{1,200})\.")
_TOKEN = re.compile(r"\d{1,9}|[-+*/()]")


class _OutsideError(Exception):
    """The expression has something that the family does not cover."""


@dataclass(slots=True)
class _Value:
    """A number, and the step that it comes from, if any."""

    number: int
    step: int | None = None


@dataclass(slots=True)
class _Reader:
    """Reads an expression from left to right, and writes down a step for each operation."""

    tokens: list[str]
    position: int = 0
    steps: list[Step] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def peek(self) -> str:
        """The next token; "" at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        """The next token, which is then behind."""
        token = self.peek()
        self.position += 1
        return token

    def read_sum(self) -> _Value:
        """Products, added and taken away."""
        value = self.read_product()
        while self.peek() in ("+", "-"):
            value = self.operate(value, self.take(), self.read_product())
        return value

    def read_product(self) -> _Value:
        """Numbers and brackets, multiplied and divided."""
        value = self.read_number()
        while self.peek() in ("*", "/"):
            value = self.operate(value, self.take(), self.read_number())
        return value

    def read_number(self) -> _Value:
        """A number, which may be negative, or what is in brackets."""
        token = self.take()
        if token == "(":
            value = self.read_sum()
            if self.take() != ")":
                raise _OutsideError
            return value
        sign = 1
        if token == "-":
            sign, token = -1, self.take()
        if not token.isdigit():
            raise _OutsideError  # such as -( 5 + 3 )
        self.numbers.append(sign * int(token))
        return _Value(self.numbers[-1])

    def operate(self, left: _Value, op: str, right: _Value) -> _Value:
        """Write down a step; its value."""
        if op == "/" and (right.number == 0 or left.number % right.number):
            raise _OutsideError
        needs = tuple(value.step for value in (left, right) if value.step is not None)
        equation = equation_of(left.number, op, right.number)
        self.steps.append(Step(equation, needs=needs))
        return _Value(equation.result, len(self.steps) - 1)


def solve(match: re.Match[str]) -> Solution | None:
    """One step an operation, in the order in which they are carried out."""
    tokens = _TOKEN.findall(match[1])
    reader = _Reader(tokens)
    try:
        value = reader.read_sum()
    except (_OutsideError, RecursionError):
        return None
    if reader.position < len(tokens) or not reader.steps:
        return None
    opening = f"Work out {match[1].strip()}."
    return Solution(opening, tuple(reader.steps), value.number, tuple(reader.numbers))


FAMILY = Family(
    task="basic_arithmetic",
    question=_QUESTION,
    solve=solve,
    settings=(
        ("min_terms", 2),
        ("max_terms", 3),
        ("min_digits", 1),
        ("max_digits", 1),
        ("allow_negation", False),
        ("operators", ("+", "-", "*")),
    ),
)
