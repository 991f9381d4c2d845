"""Answers that algebra would work on for ever, told from their spelling alone: towers, factorials, expansions, nesting.

This only saves time: what slips through is killed by the worker's clock. It errs towards letting pass.
"""

from __future__ import annotations

import math
import re

HUGE = 10_000  # digits: powers and factorials beyond this are not evaluated
EXPANDED, EXPANDED_MANY = (
    400,
    40,
)  # powers of a bracket of two terms, and of more, beyond which it is not multiplied out
DEEP = 60  # brackets in brackets
MOST = 1e18  # where estimates stop

_CHAIN = re.compile(r"\d+!*(?:[)}\]\s]*\^[({\[\s]*\d+!*)+")
_LINK = re.compile(r"(\d+)(!*)([)}\]\s]*)")
_FACTORIAL = re.compile(r"(\d+)\s*(!+)")
_INNER_FACTORIAL = re.compile(r"[({\[]\s*(\d+)\s*(!+)\s*[)}\]]\s*!")
_OUTER_FACTORIAL = re.compile(r"[!^][^()]{0,40}[)}\]]\s*!")
_BRACKET = re.compile(r"\(([^()]*)\)\s*\^\s*[({]*\s*(\d+)([!^]?)")
_EXPONENT = re.compile(r"\d\s?[eE]\s?\+?\d{5,}")
_CHOOSE = re.compile(r"\\[dt]?binom\s?\{?\s?(\d{5,})\}?\s?\{?\s?(\d{4,})|\\Gamma\s?[({]\s?(\d{5,})")


def explodes(text: str) -> str:
    """Why this is not to be evaluated; "" where it may be tried."""
    if _depth(text) > DEEP:
        return "nested too deeply to evaluate"
    if any(_digits(chain[0]) > HUGE for chain in _CHAIN.finditer(text)):
        return "a number too large to evaluate"
    for _ in range(4):  # (3!)! as 3!!
        text = _INNER_FACTORIAL.sub(r"\1\2!", text)
    if any(_factorial(int(n[:9]), len(marks)) for n, marks in _FACTORIAL.findall(text)):
        return "a number too large to evaluate"
    if _OUTER_FACTORIAL.search(text) or _CHOOSE.search(text) or _EXPONENT.search(text):
        return "a number too large to evaluate"
    for inner, power, more in _BRACKET.findall(text):
        terms = 1 + len(re.findall(r"[+-]", inner))
        if more or (terms > 1 and int(power[:9]) > (EXPANDED if terms == 2 else EXPANDED_MANY)):
            return "a power too large to multiply out"
    return ""


def _factorial(n: int, times: int) -> bool:
    """Whether n!, or (n!)! where the mark is doubled, has more than HUGE digits or so."""
    for _ in range(min(times, 9)):
        if n > 3_000:
            return True
        n = math.factorial(n)
    return times > 2 and n > 2


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _digits(chain: str) -> float:
    """Digits of a tower of powers, counted up to MOST: `a^b^c` is a^(b^c), but `(a^b)^c` is a^(b c)."""
    links = [(_value(n, marks), closed.strip() != "") for n, marks, closed in _LINK.findall(chain)]
    top = links[-1][0]
    for value, closed in reversed(links[1:-1]):
        if closed:
            top = min(value * top, MOST)
        else:
            top = value**top if top * math.log10(max(value, 1)) < math.log10(MOST) else MOST
    return math.log10(max(links[0][0], 1)) * top


def _value(digits: str, marks: str) -> float:
    if marks:
        return (
            float(math.factorial(int(digits))) if len(marks) == 1 and int(digits[:9]) < 19 else MOST
        )
    return min(float(digits[:300]), MOST) if len(digits) < 19 else MOST
