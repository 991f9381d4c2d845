"""Keys to group by, predicates to keep by, and the names under which functions appear in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from potstill.records import Trace

Key: TypeAlias = Callable[[Trace], Hashable]


def problem(trace: Trace) -> str:
    """The id of the trace's problem."""
    return trace.problem.id


def line(trace: Trace) -> str:
    """Which attempt the trace descends from: the id of its first non-blank ancestor, or its own."""
    return trace.line


def ok(trace: Trace) -> bool:
    """The generation did not fail."""
    return not trace.error


def right(trace: Trace) -> bool:
    """The verifier found the right answer."""
    return trace.verdict.status == "right"


def wrong(trace: Trace) -> bool:
    """The verifier found an answer, and it is wrong."""
    return trace.verdict.status == "wrong"


def unparsed(trace: Trace) -> bool:
    """The verifier found no answer."""
    return trace.verdict.status == "unparsed"


def sound(trace: Trace) -> bool:
    """Right, and every step of it is right."""
    return right(trace) and trace.scores.get("steps") == 1


def grouped(traces: Iterable[Trace], by: Key | None) -> dict[Hashable, list[Trace]]:
    """Traces by key, groups in the order of their first member; one group for all without a key."""
    groups: dict[Hashable, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(by(trace) if by else None, []).append(trace)
    return groups


def name_of(fn: Callable[..., Any]) -> str:
    """A function's name as the ledger shows it; a partial shows its plain arguments."""
    if isinstance(fn, partial):
        shown = [_plain(a) for a in fn.args] + [f"{k}={_plain(v)}" for k, v in fn.keywords.items()]
        return f"{name_of(fn.func)}({', '.join(shown)})"
    return str(getattr(fn, "__name__", type(fn).__name__))


def _plain(value: Any) -> str:
    if value is None or isinstance(value, str | bool | int | float):
        return repr(value)
    return str(getattr(value, "id", None) or getattr(value, "__name__", type(value).__name__))


def unique(values: Sequence[str]) -> tuple[str, ...]:
    """The values without repetitions, in order."""
    return tuple(dict.fromkeys(values))
