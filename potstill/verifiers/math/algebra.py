"""Two formulas compared by math-verify, in a worker process: with exact numbers, complex ones and angles in degrees.

math-verify calls numbers equal whose difference is small (10^-20 and 10^-21). Here two exact numbers that differ are
different, and a decimal must agree in its leading digits.
"""

from __future__ import annotations

import logging
from typing import Any

import sympy
from math_verify import grader, parse, verify

DECIMAL_TOLERANCE = sympy.Float(
    "1e-5"
)  # relative difference of a decimal: as much as six places leave
DIGITS = 50  # to which exact numbers are evaluated

_numeric_eq = grader.sympy_numeric_eq


def compare(gold: str, answer: str) -> str:
    """Return "right" or "wrong"; "unjudged" or "unparsed" where the gold answer or the answer can't be read."""
    golds = parse(gold, parsing_timeout=None, raise_on_error=True)
    answers = parse(answer, parsing_timeout=None, raise_on_error=True)
    if not golds:
        return "unjudged"
    if not answers:
        return "unparsed"
    if verify(golds, answers, timeout_seconds=None):
        return "right"
    complex_golds, complex_answers = _as_complex(golds), _as_complex(answers)
    has_imaginary = complex_golds != golds or complex_answers != answers
    if has_imaginary and verify(complex_golds, complex_answers, timeout_seconds=None):
        return "right"
    # Where the gold answer was read as a formula and the answer was not, nothing can be compared.
    return "unparsed" if _is_text(answers) and not _is_text(golds) else "wrong"


def prepare() -> None:
    """Build the grammars, which the first call does, and put the exact comparison of numbers in math-verify's place."""
    logging.disable(
        logging.CRITICAL
    )  # it warns that its timeouts are off; the worker's clock kills
    grader.sympy_numeric_eq = _are_equal_numbers
    parse("$x^2+\\frac{1}{2}$", parsing_timeout=None)


def _is_text(formulas: list[Any]) -> bool:
    return all(isinstance(formula, str) for formula in formulas)


def _as_complex(formulas: list[Any]) -> list[Any]:
    """The formulas with the letters i and e as the numbers that they usually are."""
    converted: list[Any] = []
    for formula in formulas:
        if isinstance(formula, sympy.Basic | sympy.MatrixBase):
            # The parser makes symbols of one name with several assumptions.
            symbols = {symbol: symbol.name for symbol in formula.free_symbols}
            if "i" in symbols.values():
                constants = {"i": sympy.I, "e": sympy.E}
                formula = formula.subs(
                    {
                        symbol: constants[name]
                        for symbol, name in symbols.items()
                        if name in constants
                    }
                )
        converted.append(formula)
    return converted


def _are_equal_numbers(first: Any, second: Any, float_rounding: int, precision: int) -> bool:
    """math-verify's comparison by value, and not equal where the numbers differ by more than rounding."""
    if not _numeric_eq(first, second, float_rounding, precision):
        return False
    if isinstance(first, sympy.MatrixBase) or isinstance(second, sympy.MatrixBase):
        return True  # each entry was compared by this function
    if first.has(sympy.UnevaluatedExpr) or second.has(sympy.UnevaluatedExpr):
        return True  # a percentage, which may be meant either way
    difference = first - second
    if difference == 0:
        return True
    has_decimals = first.has(sympy.Float) or second.has(sympy.Float)
    if difference.free_symbols:
        return has_decimals or bool(grader.sympy_symbolic_eq(first, second))
    if has_decimals:
        size = max(abs(first.evalf(15)), abs(second.evalf(15)))
        return bool(abs(difference.evalf(DIGITS)) <= DECIMAL_TOLERANCE * size)
    return all(_is_zero(part) for part in difference.as_real_imag())


def _is_zero(number: Any) -> bool:
    """Whether an exact number is zero: evaluated to many digits, it is 0 or has no digit that is certain."""
    value = number.evalf(DIGITS)
    return bool(value == 0 or getattr(value, "_prec", DIGITS) == 1)
