r"""Read equations with an unknown, as people write them: "9n = 36", "n = \frac{36}{9} = 4", "9(n - 1) = 27 = 35 - 8".

A chain is expressions with "=" between them, of which one at least has the unknown. Expressions have whole and decimal
numbers, the unknown, `+ - * /`, brackets and `\frac{}{}`, and "9n", "9 n" and "9(n + 1)" are products. Every expression
must be linear in the unknown.

A chain is read as far as it is sure. Not read at all: one that goes on to the left ("y + 9n = 36", "2^9n = 36"), one
with another letter, with a power, or with the unknown in a divisor. An expression that goes on to the right in a form
that is not known here ("= 6^2", "= 4 - y") is left out, and so is everything behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

MAX_DEPTH = 8  # of brackets
MAX_SIDES = 8  # of a chain
MAX_OPERATIONS = 12  # of an expression
_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,3}(?!\d)|\d{1,12})(?:\.\d{1,6})?"
_SIGN = r"[-+*/]|\\times|\\cdot|\\div"
_SIGN_OF = {"\\times": "*", "\\cdot": "*", "\\div": "/"}
_FRACTION = r"\\[dt]?frac"
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER})|(?P<sign>{_SIGN})|(?P<fraction>{_FRACTION})"
    r"|(?P<letter>(?<![A-Za-z_])[a-z](?![A-Za-z_]))|(?P<bracket>[(){}])|(?P<equals>=(?![=>]))"
)
# An expression that has one of these on its left is the rest of a longer one: "k9n", "y * 9n", "2 + 9n", "x - 9n".
_OPEN_LEFT = re.compile(rf"(?:[\w.^)}}\]√]|(?:{_SIGN}) ?)\Z")
_BULLET = re.compile(r"(?:\A|\n) *[-*+] \Z")
_BOLD = re.compile(r"(?:\A|[\s(:$])\*\*\Z")
# A minus is an operation behind one of these, and a sign anywhere else.
_OPERAND_LEFT = re.compile(r"(?:(?<![A-Za-z])[A-Za-z]|[\d)}\]]) ?\Z")
# One that has one of these on its right goes on: "36^2", "4.5e3", "4 - y", "4\sqrt{2}". Not so "4 - which", "36 -> n",
# "**n = 4**", and LaTeX's blanks, arrows, boxes and closing brackets.
_OPEN_RIGHT = re.compile(
    r"[\w^%°√({\[]|\.\d|!="
    r"| ?(?:[+/^±]|-(?!-?>)) ?(?![A-Za-z]{2})[^\s*]"
    r"| ?\* ?[\w(\\]"
    r"| ?\\(?![\s\\)\],;:!]|q?quad|text|boxed|begin|end|implies|therefore|to\b|(?:long)?[Rr]ightarrow)"
)


class Linear(NamedTuple):
    """`factor * unknown + constant`."""

    factor: Fraction
    constant: Fraction

    def at(self, unknown: Fraction) -> Fraction:
        """The value where the unknown is known."""
        return self.factor * unknown + self.constant


class Chain(NamedTuple):
    """Expressions that a text says are equal.

    Args:
        start: where it begins in the text.
        stop: where it ends.
        sides: the expressions.
        numbers: the numbers that are written in it.
        operations: how many operations the expressions without the unknown have.
        is_defined: whether nothing in it is divided by 0.
    """

    start: int
    stop: int
    sides: tuple[Linear, ...]
    numbers: frozenset[Fraction]
    operations: int
    is_defined: bool = True

    def holds(self, unknown: Fraction) -> bool:
        """Whether all expressions are equal where the unknown has this value."""
        return self.is_defined and len({side.at(unknown) for side in self.sides}) == 1

    @property
    def isolated_factor(self) -> Fraction | None:
        """The `a` of "a * unknown = a number", without its sign; None where no side is that, or no side is a number."""
        if all(side.factor for side in self.sides):
            return None
        for side in self.sides:
            if side.factor and not side.constant:
                return abs(side.factor)
        return None


class _UnreadableError(Exception):
    """What stands here is no expression, or not a linear one."""


def read_chains(text: str, unknown: str) -> Iterator[Chain]:
    """The chains of a text in order, without overlap.

    Args:
        text: with plain signs (`*`, `/`, `-`) or LaTeX's.
        unknown: the letter.
    """
    starts = re.compile(rf"[-(\d{unknown}]|{_FRACTION}")
    position = 0
    while match := starts.search(text, position):
        position = match.end()
        if _begins_here(text, match.start()):
            reader = _Reader(text, unknown, match.start())
            chain = reader.read_chain()
            position = max(position, reader.position)
            if chain is not None:
                yield chain


def _begins_here(text: str, start: int) -> bool:
    """Whether an expression may begin at a place: nothing on its left belongs to it."""
    left = text[max(0, start - 12) : start]
    if text[start] == "-":
        # A sign stands close to its number; "- n = 4" is a dash or the point of a list.
        return not _OPERAND_LEFT.search(left) and not text.startswith("- ", start)
    if _BULLET.search(left) or _BOLD.search(left):
        return True
    return not _OPEN_LEFT.search(left)


@dataclass(slots=True)
class _Reader:
    """Reads one chain from a place on.

    Args:
        text: that is read.
        unknown: its letter.
        position: of what is read next.
        numbers: that were read.
        operations: that were read in the expression under way.
        divides_by_0: whether one of them was a division by 0.
        sides: how many expressions were read.
    """

    text: str
    unknown: str
    position: int
    numbers: list[Fraction] | None = None
    operations: int = 0
    divides_by_0: bool = False
    sides: int = 0

    def read_chain(self) -> Chain | None:
        """The chain that begins here; None where there is none. `position` is where the next one may begin."""
        start, stop = self.position, self.position
        sides: list[Linear] = []
        numbers: set[Fraction] = set()
        operations = 0
        is_defined = True
        while self.sides < MAX_SIDES:
            self.numbers, self.operations, self.divides_by_0 = [], 0, False
            before = self.position
            try:
                side = self._read_sum(depth=0)
            except _UnreadableError:
                self.position = max(before, start + 1)
                break
            if _OPEN_RIGHT.match(self.text, self.position):
                break
            sides.append(side)
            numbers.update(self.numbers)
            is_defined = is_defined and not self.divides_by_0
            if not side.factor:
                operations += self.operations
            stop = self.position
            self.sides += 1
            if self._take("equals") is None:
                break
        if len(sides) < 2 or not self._has_unknown(start, stop):
            return None
        self.position = stop
        return Chain(start, stop, tuple(sides), frozenset(numbers), operations, is_defined)

    def _has_unknown(self, start: int, stop: int) -> bool:
        """Whether the unknown stands between two places; "0n = 2" has it, though its factor is 0."""
        tokens = _TOKEN.finditer(self.text, start, stop)
        return any(token["letter"] == self.unknown for token in tokens)

    # Expressions: a sum of products of factors.

    def _read_sum(self, *, depth: int) -> Linear:
        total = self._read_product(depth=depth)
        while True:
            sign_position = self.position
            sign = self._take_sign("+-")
            if sign is None:
                return total
            try:
                product = self._read_product(depth=depth)
            except _UnreadableError:
                self.position = sign_position
                return total
            self._count_operation()
            direction = 1 if sign == "+" else -1
            total = Linear(
                total.factor + direction * product.factor,
                total.constant + direction * product.constant,
            )
        return total

    def _read_product(self, *, depth: int) -> Linear:
        product = self._read_factor(depth=depth)
        while True:
            before = self.position
            sign = self._take_sign("*/")
            try:
                if sign is not None:
                    factor = self._read_factor(depth=depth)
                elif self._is_product_without_sign():
                    sign, factor = "*", self._read_factor(depth=depth, is_signed=False)
                else:
                    return product
            except _UnreadableError:
                self.position = before
                return product
            self._count_operation()
            product = _multiply(product, factor) if sign == "*" else self._divide(product, factor)

    def _read_factor(self, *, depth: int, is_signed: bool = True) -> Linear:
        if depth > MAX_DEPTH:
            raise _UnreadableError
        if is_signed and self._take_sign("-") is not None:
            factor = self._read_factor(depth=depth + 1)
            return Linear(-factor.factor, -factor.constant)
        if (number := self._take("number")) is not None:
            value = Fraction(number.replace(",", ""))
            assert self.numbers is not None
            self.numbers.append(value)
            return Linear(Fraction(0), value)
        if self._take("letter", self.unknown) is not None:
            return Linear(Fraction(1), Fraction(0))
        if self._take("fraction") is not None:
            self._count_operation()
            top = self._read_bracket("{", "}", depth=depth)
            return self._divide(top, self._read_bracket("{", "}", depth=depth))
        return self._read_bracket("(", ")", depth=depth)

    def _read_bracket(self, opening: str, closing: str, *, depth: int) -> Linear:
        if self._take("bracket", opening) is None:
            raise _UnreadableError
        inner = self._read_sum(depth=depth + 1)
        if self._take("bracket", closing) is None:
            raise _UnreadableError
        return inner

    def _divide(self, left: Linear, right: Linear) -> Linear:
        if right.factor:
            raise _UnreadableError
        if not right.constant:
            self.divides_by_0 = True
            return left
        return Linear(left.factor / right.constant, left.constant / right.constant)

    def _count_operation(self) -> None:
        self.operations += 1
        if self.operations > MAX_OPERATIONS:
            raise _UnreadableError

    # Tokens.

    def _is_product_without_sign(self) -> bool:
        """Whether a number before this place is multiplied with what stands here: "9n", "9 n", "9(n + 1)"."""
        if not self.text[self.position - 1].isdigit():
            return False
        if self.text.startswith(("(", self.unknown), self.position):
            return True
        # "36 n = 4" behind a "=": the end of one chain and the beginning of another. And "4 a day" has an article.
        product = re.compile(rf" {self.unknown}(?![A-Za-z_])( ?=)?").match(self.text, self.position)
        if product is None or self.unknown == "a":
            return False
        return product[1] is None or self.sides == 0

    def _take_sign(self, signs: str) -> str | None:
        before = self.position
        sign = self._take("sign")
        if sign is not None and _SIGN_OF.get(sign, sign) in signs:
            return _SIGN_OF.get(sign, sign)
        self.position = before
        return None

    def _take(self, kind: str, text: str = "") -> str | None:
        """Read a token of a kind, after any blanks; None, and nothing is read, where another one stands here."""
        position = self.position
        while self.text.startswith(" ", position):
            position += 1
        token = _TOKEN.match(self.text, position)
        if token is None or token.lastgroup != kind or (text and token[0] != text):
            return None
        self.position = token.end()
        return token[0]


def _multiply(left: Linear, right: Linear) -> Linear:
    if left.factor and right.factor:
        raise _UnreadableError
    if right.factor:
        left, right = right, left
    return Linear(left.factor * right.constant, left.constant * right.constant)
