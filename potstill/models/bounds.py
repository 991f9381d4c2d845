"""Numbers beside a completion, held to what one call can have used, so that no sum over them overflows.

Whoever wrote the completion (a server, a vendor's library, an installed package) is not trusted with them.
"""

from __future__ import annotations

from typing import Any

from potstill.models.model import MAX_CALL_COST, MAX_CALL_TOKENS, Attempt, Completion
from potstill.records import NO_TOKENS, Tokens

MAX_CALL_SECONDS = 10**8  # three years


def bound_numbers(completion: Completion) -> Completion:
    """The completion without numbers that can't be right; they are named in its `ignored`."""
    if not completion.tries and _has_sound_numbers(completion):
        return completion  # as nearly all are: every new completion comes through here
    ignored = list(completion.ignored)
    tokens = _bound_tokens(completion.tokens, ignored)
    cost = _bound_cost(completion.cost, ignored)
    seconds = _bound_seconds(completion.seconds)
    tries = tuple(_bound_attempt(attempt, ignored) for attempt in completion.tries)
    return completion._replace(
        tokens=tokens,
        cost=cost,
        seconds=seconds,
        tries=tries,
        ignored=tuple(ignored),
    )


def _has_sound_numbers(completion: Completion) -> bool:
    prompt, written, cached, reasoning = completion.tokens
    for count in (prompt, written, cached, reasoning):
        if type(count) is not int or not 0 <= count <= MAX_CALL_TOKENS:
            return False
    cost, seconds = completion.cost, completion.seconds
    has_sound_cost = cost is None or (type(cost) is float and 0 <= cost <= MAX_CALL_COST)
    return has_sound_cost and type(seconds) is float and 0 <= seconds <= MAX_CALL_SECONDS


def _bound_attempt(attempt: Attempt, ignored: list[str]) -> Attempt:
    return attempt._replace(
        tokens=_bound_tokens(attempt.tokens, ignored),
        cost=_bound_cost(attempt.cost, ignored),
        seconds=_bound_seconds(attempt.seconds),
    )


def _bound_tokens(tokens: Tokens, ignored: list[str]) -> Tokens:
    if tokens == NO_TOKENS:
        return NO_TOKENS
    counts = []
    for name, count in zip(Tokens._fields, tokens, strict=True):
        if not _is_number(count, MAX_CALL_TOKENS):
            ignored.append(f"{name} tokens={count!r:.40}")
            count = 0
        counts.append(int(count))
    return Tokens(*counts)


def _bound_cost(cost: float | None, ignored: list[str]) -> float | None:
    if cost is None or _is_number(cost, MAX_CALL_COST):
        return cost
    ignored.append(f"cost={cost!r:.40}")
    return None


def _bound_seconds(seconds: float) -> float:
    return seconds if _is_number(seconds, MAX_CALL_SECONDS) else 0.0


def _is_number(value: Any, highest: float) -> bool:
    """Whether a value is a number from 0 to `highest`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= highest
