"""Answers that algebra would never finish, recognised from their text: towers, factorials, expansions, nesting.

This only saves time: what slips through is killed by the worker's clock. It errs towards letting pass.
"""

from __future__ import annotations

import math
import re

MAX_DIGITS = 10_000  # powers and factorials with more digits are not evaluated
# Powers of a bracket of two terms, and of more, beyond which it is not multiplied out.
MAX_POWER_OF_TWO_TERMS, MAX_POWER_OF_MORE_TERMS = 400, 40
MAX_DEPTH = 60  # brackets in brackets
CEILING = 1e18  # where estimates stop
_MAX_FACTORIAL = 3_000  # its factorial has about 9,000 digits

_NUMBER_TOO_LARGE = "a number too large to evaluate"

# `2^3^4`, `(2^3)^4`, `2^{3!}`; and one link of such a tower with the brackets that close after it.
_TOWER = re.compile(r"\d+!*(?:[)}\]\s]*\^[({\[\s]*\d+!*)+")
_TOWER_LINK = re.compile(r"(\d+)(!*)([)}\]\s]*)")
_FACTORIAL = re.compile(r"(\d+)\s*(!+)")
_FACTORIAL_IN_BRACKETS = re.compile(r"[({\[]\s*(\d+)\s*(!+)\s*[)}\]]\s*!")
_FACTORIAL_OF_POWER = re.compile(r"[!^][^()]{0,40}[)}\]]\s*!")
_POWER_OF_BRACKET = re.compile(r"\(([^()]*)\)\s*\^\s*[({]*\s*(\d+)([!^]?)")
_LARGE_EXPONENT = re.compile(r"\d\s?[eE]\s?\+?\d{5,}")
_LARGE_BINOMIAL = re.compile(
    r"\\[dt]?binom\s?\{?\s?(\d{5,})\}?\s?\{?\s?(\d{4,})|\\Gamma\s?[({]\s?(\d{5,})"
)


def too_large_reason(text: str) -> str:
    """Say why an answer is not to be evaluated; "" where it may be tried."""
    if _bracket_depth(text) > MAX_DEPTH:
        return "nested too deeply to evaluate"
    if any(_tower_digits(tower[0]) > MAX_DIGITS for tower in _TOWER.finditer(text)):
        return _NUMBER_TOO_LARGE
    # Factorials: (3!)! is read as 3!!.
    for _ in range(4):
        text = _FACTORIAL_IN_BRACKETS.sub(r"\1\2!", text)
    for digits, marks in _FACTORIAL.findall(text):
        if _is_large_factorial(int(digits[:9]), len(marks)):
            return _NUMBER_TOO_LARGE
    for pattern in (_FACTORIAL_OF_POWER, _LARGE_BINOMIAL, _LARGE_EXPONENT):
        if pattern.search(text):
            return _NUMBER_TOO_LARGE
    # Powers of sums, which algebra multiplies out.
    for content, power, further_operator in _POWER_OF_BRACKET.findall(text):
        terms = 1 + len(re.findall(r"[+-]", content))
        limit = MAX_POWER_OF_TWO_TERMS if terms == 2 else MAX_POWER_OF_MORE_TERMS
        if further_operator or (terms > 1 and int(power[:9]) > limit):
            return "a power too large to multiply out"
    return ""


def _is_large_factorial(number: int, marks: int) -> bool:
    """Whether number!, or (number!)! where the mark is doubled, has more than MAX_DIGITS digits or so."""
    for _ in range(min(marks, 9)):
        if number > _MAX_FACTORIAL:
            return True
        number = math.factorial(number)
    return marks > 2 and number > 2


def _bracket_depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest


def _tower_digits(tower: str) -> float:
    """Digits of a tower of powers, counted up to CEILING: `a^b^c` is a^(b^c), but `(a^b)^c` is a^(b c)."""
    links: list[tuple[float, bool]] = []
    for digits, marks, brackets in _TOWER_LINK.findall(tower):
        links.append((_link_value(digits, marks), brackets.strip() != ""))
    # From the top of the tower down.
    exponent = links[-1][0]
    for value, is_closed in reversed(links[1:-1]):
        if is_closed:
            exponent = min(value * exponent, CEILING)
        elif exponent * math.log10(max(value, 1)) < math.log10(CEILING):
            exponent = value**exponent
        else:
            exponent = CEILING
    return math.log10(max(links[0][0], 1)) * exponent


def _link_value(digits: str, marks: str) -> float:
    """The value of one number of a tower, factorials included, up to CEILING."""
    if not marks:
        return min(float(digits[:300]), CEILING) if len(digits) < 19 else CEILING
    if len(marks) == 1 and int(digits[:9]) < 19:
        return float(math.factorial(int(digits)))
    return CEILING
