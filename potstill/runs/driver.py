"""Drives a method: take a stage, train or find the student, send it back; end with a solver."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from potstill.errors import ConfigError, StageError
from potstill.evaluation.benchmark import Solver
from potstill.models.model import Model
from potstill.records import Stage, Trace
from potstill.traces import Drop, Ledger, plain, using
from potstill.traces.keys import name_of
from potstill.traces.session import current, made

Method: TypeAlias = Callable[..., Generator[Stage, Model, Solver | None]]


def drive(
    method: Method,
    problems: Sequence[Trace],
    roles: Mapping[str, Any],
    values: Mapping[str, Any],
    train: Callable[[Stage], Model],
) -> Solver:
    """Run a method to its end and return its solver, or the one that samples the last student.

    Args:
        problems: blank traces.
        roles: models by parameter name.
        values: the method's other parameters.
        train: finds the student of a stage, or trains and registers it.
    """
    generator = method(problems, **roles, **values)
    if not isinstance(generator, Generator):
        raise ConfigError(
            f"{name_of(method)} is no method",
            expected="a generator function that yields Stage(...)",
        )
    student: Model | None = None
    with _counting() as drops:
        made(problems)
        while True:
            try:
                stage = generator.send(student)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as end:
                return _ended(method, end.value, student)
            _check(method, stage, drops)
            drops.clear()
            student = train(stage)


def _ended(method: Method, solver: Solver | None, student: Model | None) -> Solver:
    if solver is not None:
        describe(solver)
        return solver
    if student is None:
        raise StageError(
            f"{name_of(method)} ended without a stage and without a solver",
            expected="at least one yield Stage(...), or return partial(plain, student)",
        )
    return partial(plain, student)


def _check(method: Method, stage: object, drops: Counter[tuple[str, str, str]]) -> None:
    if not isinstance(stage, Stage):
        raise ConfigError(
            f"{name_of(method)} yielded {type(stage).__name__}",
            expected="Stage(model, traces, objective)",
        )
    for name, value in stage.constants.items():
        if callable(value) and not isinstance(value, Model):
            _top_level(value, f"the constant {name} of a stage")
    if stage.rows:
        return
    counts = [
        f"{operator} {test}: {n} ({reason})" for (operator, test, reason), n in drops.most_common(8)
    ]
    errored = f"; {stage.errored} rows were failed generations" if stage.errored else ""
    raise StageError(
        f"{name_of(method)} yielded a stage without rows{errored}; dropped before it: {'; '.join(counts) or 'nothing'}",
        expected="at least one trace to train on",
        fix=_cure(stage, drops),
    )


_FINAL = ("error: length", "error: context")  # failures that asking again does not mend


def _cure(stage: Stage, drops: Counter[tuple[str, str, str]]) -> str:
    """What helps: failed calls are no fault of the method, and are asked for again only on request."""
    counts: Counter[str] = Counter({"error": stage.errored})
    for (_, _, reason), n in drops.items():
        counts[reason if reason in _FINAL else reason.split(":")[0]] += n
    if 2 * counts["error: context"] > counts.total():
        return (
            "the prompts are longer than the model's context: shorter problems or --prompt, or a model with a longer "
            "context, in another folder; --retry-errors does not help"
        )
    if 2 * counts["error: length"] > counts.total():
        return "another folder with a larger --set max_tokens=N, or with --truncated raise, continue or shorter"
    if 2 * counts["error"] > counts.total():
        return "potstill cache journal RUN --status error says what failed; --retry-errors asks for it again"
    return "more problems or draws, a stronger writer, or a weaker filter; what was generated so far is kept"


def describe(solver: Solver) -> dict[str, Any]:
    """A solver as name, model ids and values, so that an evaluation can say what it measured; refuses closures."""
    if isinstance(solver, partial):
        inner = describe(solver.func)
        arguments = {str(i): _value(a) for i, a in enumerate(solver.args)} | {
            k: _value(v) for k, v in solver.keywords.items()
        }
        return {"name": inner["name"], "arguments": inner["arguments"] | arguments}
    return {"name": _top_level(solver, "the solver"), "arguments": {}}


def _top_level(fn: Callable[..., Any], what: str) -> str:
    """A function's full name; only a top-level one can be told from another later, by name, values and source."""
    if isinstance(fn, partial):
        return _top_level(fn.func, what)
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", type(fn).__name__)
    if getattr(sys.modules.get(module or ""), name, None) is not fn:
        raise ConfigError(
            f"{what} is {name}, a closure, lambda or method: nothing could say later what it was",
            expected="a top-level function, its values bound with functools.partial, as partial(solve, student, n=4)",
        )
    return f"{module}.{name}"


def _value(value: Any) -> Any:
    if isinstance(value, Model):
        return {"model": value.id}
    return [_value(v) for v in value] if isinstance(value, list | tuple) else value


@contextmanager
def _counting() -> Iterator[Counter[tuple[str, str, str]]]:
    """Count what is dropped, by operator, test and reason, beside the session's own ledger."""
    session = current()
    drops: Counter[tuple[str, str, str]] = Counter()
    with using(dataclasses.replace(session, ledger=_Counting(session.ledger, drops))):
        yield drops


class _Counting:
    """A ledger that counts drops and passes everything on."""

    def __init__(self, inner: Ledger | None, drops: Counter[tuple[str, str, str]]) -> None:
        self.inner, self.drops = inner, drops

    def made(self, traces: Sequence[Trace]) -> None:
        if self.inner:
            self.inner.made(traces)

    def dropped(self, drops: Sequence[Drop]) -> None:
        self.drops.update((drop.operator, drop.test, _kind(drop.reason)) for drop in drops)
        if self.inner:
            self.inner.dropped(drops)

    def step(self, operator: str, label: str, taken: int, returned: int) -> None:
        if self.inner:
            self.inner.step(operator, label, taken, returned)


def _kind(reason: str) -> str:
    """The kind of a reason, which quotes an answer after its colon; of a failed call what failed."""
    kind, _, rest = reason.partition(":")
    failure = rest.partition(":")[0].strip()
    return f"{kind}: {failure}" if kind == "error" and failure.isidentifier() else kind
