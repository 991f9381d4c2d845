"""Cases of one law: a few run in the fast suite, the others are slow."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(fast: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """The values for `parametrize`; those that are not among the fast ones are marked slow."""
    cases = []
    for value in values:
        marks = () if value in fast else (pytest.mark.slow,)
        cases.append(pytest.param(value, marks=marks))
    return cases
