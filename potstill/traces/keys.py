"""Keys to group by, predicates to keep by, and the names under which functions appear in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, TypeAlias

from potstill import verifiers
from potstill.records import Trace

Key: TypeAlias = Callable[[Trace], Hashable]


def problem(trace: Trace) -> str:
    """Key: the id of the trace's problem."""
    return trace.problem.id


def line(trace: Trace) -> str:
    """Key: which attempt the trace descends from, by the id of its first non-blank ancestor, or its own."""
    return trace.line


def words(trace: Trace) -> tuple[str, str]:
    """Key: the trace's problem and words, without regard to white space."""
    return trace.problem.id, " ".join(trace.text.split())


def ok(trace: Trace) -> bool:
    """Predicate: the generation did not fail."""
    return not trace.error


def right(trace: Trace) -> bool:
    """Predicate: the verifier found the right answer."""
    return trace.verdict.status == "right"


def wrong(trace: Trace) -> bool:
    """Predicate: the verifier found an answer, and it is wrong."""
    return trace.verdict.status == "wrong"


def unparsed(trace: Trace) -> bool:
    """Predicate: the verifier found no answer."""
    return trace.verdict.status == "unparsed"


def sound(trace: Trace) -> bool:
    """Predicate: the answer is right, and so is every step."""
    return right(trace) and trace.scores.get("steps") == 1


def checked(trace: Trace) -> bool:
    """Predicate: the answer is right, and so is every step where the problem's verifier judges steps."""
    return sound(trace) if verifiers.has_steps(trace.problem) else right(trace)


def right_test(problems: Iterable[Trace], steps: bool | None) -> Callable[[Trace], bool]:
    """Return the predicate that a method's value `steps` asks for.

    Args:
        problems: what will be judged.
        steps: True is `sound`, which nothing is where no verifier judges steps; False is `right`; None is `sound` where
            the problems' verifiers judge steps, `right` where none does, and `checked` where some do.
    """
    if steps is None:
        judging = {verifiers.has_steps(trace.problem) for trace in problems}
        if len(judging) > 1:
            return checked
        steps = judging == {True}
    return sound if steps else right


def chance(*parts: object) -> str:
    """Return a hash of the parts, such as a seed and an id: to sort or choose by chance.

    The order in which traces come, and how many there are, changes nothing.
    """
    return hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()


def by_chance(trace: Trace) -> str:
    """Key: a hash of the trace; the highest are a sample of all that their order does not change."""
    return chance(trace.id)


def chance_fraction(*parts: object) -> float:
    """Return a number from 0 up to 1 by the same hash."""
    return int(chance(*parts)[:16], 16) / 2**64


def group_traces(traces: Iterable[Trace], by: Key | None) -> dict[Hashable, list[Trace]]:
    """Group traces by a key, groups in the order of their first member; one group for all without a key."""
    groups: dict[Hashable, list[Trace]] = {}
    for trace in traces:
        key = by(trace) if by else None
        groups.setdefault(key, []).append(trace)
    return groups


def function_name(function: Callable[..., Any]) -> str:
    """Return a function's name as the ledger shows it; a partial shows its arguments."""
    if isinstance(function, partial):
        arguments = [_format_argument(value) for value in function.args]
        for keyword, value in function.keywords.items():
            arguments.append(f"{keyword}={_format_argument(value)}")
        return f"{function_name(function.func)}({', '.join(arguments)})"
    return str(getattr(function, "__name__", type(function).__name__))


def _format_argument(value: Any) -> str:
    """Show a constant as it is, and anything else by its id or name."""
    if value is None or isinstance(value, str | bool | int | float):
        return repr(value)
    return str(getattr(value, "id", None) or getattr(value, "__name__", type(value).__name__))
