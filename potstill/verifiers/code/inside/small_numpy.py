"""Stands for numpy on the tests' side: what the tests of MBPP+ and HumanEval+ use, over plain lists and numbers.

Only this side imports it, and only where numpy itself is not to be had. Any other name is an AttributeError.
"""

from __future__ import annotations

import math
from typing import Any

inf, nan, pi, e = math.inf, math.nan, math.pi, math.e
float16 = float32 = float64 = double = float
int32 = int64 = int
bool_ = bool


class ndarray:
    """No value is one: plain data alone comes from a program."""


def isclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether two numbers are near: `|a - b| <= atol + rtol |b|`."""
    if math.isnan(abs(a)) or math.isnan(abs(b)):
        return equal_nan and math.isnan(abs(a)) and math.isnan(abs(b))
    if math.isinf(abs(a)) or math.isinf(abs(b)):
        return bool(a == b)
    return bool(abs(a - b) <= atol + rtol * abs(b))


def allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all numbers of two values of the same shape are near; a single number is compared with each.

    Raises:
        ValueError: the shapes differ.
        TypeError: something in them is no number.
    """
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            raise ValueError(f"shapes of {len(a)} and {len(b)} do not match")
        return all(allclose(x, y, rtol, atol, equal_nan) for x, y in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return all(allclose(x, b, rtol, atol, equal_nan) for x in a)
    if isinstance(b, list | tuple):
        return all(allclose(a, y, rtol, atol, equal_nan) for y in b)
    for value in (a, b):
        if not isinstance(value, int | float | complex):
            raise TypeError(f"{type(value).__name__} is no number")
    return isclose(a, b, rtol, atol, equal_nan)
