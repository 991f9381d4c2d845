"""Questions of multiple choice: whoever answers or judges one must see what can be chosen."""

from __future__ import annotations

from typing import Any


def with_choices(question: str, problem: Any) -> str:
    """A question, and below it the problem's lettered choices where it has any."""
    choices = problem.lettered_choices
    return f"{question}\n{choices}" if choices else question
