"""Drive a method: take a stage, train or find its student, send the student back; end with a solver."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from potstill.errors import ConfigError, StageError
from potstill.evaluation.benchmark import Solver
from potstill.models.model import Model
from potstill.records import Stage, Trace
from potstill.runs.drops import DropCounter, check_errors, check_rows
from potstill.traces import plain, using
from potstill.traces.keys import function_name
from potstill.traces.reading import replies_section
from potstill.traces.reply_counts import ReplyCounter
from potstill.traces.session import current_session, record_traces, report

Method: TypeAlias = Callable[..., Generator[Stage, Model, Solver | None]]


def drive(
    method: Method,
    problems: Sequence[Trace],
    roles: Mapping[str, Any],
    values: Mapping[str, Any],
    train: Callable[[Stage], Model],
    *,
    name: str = "",
) -> Solver:
    """Run a method to its end and return its solver, or the one that samples the last student.

    Args:
        method: the generator function.
        problems: blank traces.
        roles: models by parameter name.
        values: the method's other parameters.
        train: finds the student of a stage, or trains and registers it.
        name: what errors call it; without one the method's own name.
    """
    name = name or function_name(method)
    generator = method(problems, **roles, **values)
    if not isinstance(generator, Generator):
        raise ConfigError(
            f"{name} is no method", expected="a generator function that yields Stage(...)"
        )
    student: Model | None = None
    session = current_session()
    drops = DropCounter()
    replies = ReplyCounter()
    with using(dataclasses.replace(session, drop_counts=drops, replies=replies)):
        record_traces(problems)
        while True:
            try:
                stage = generator.send(student)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as end:
                section = replies_section(replies)
                if section is not None:
                    report(section)
                return choose_solver(name, end.value, student)
            check_stage(name, stage)
            check_errors(name, drops)
            check_rows(name, stage, drops)
            drops.since_stage.clear()
            student = train(stage)


def choose_solver(name: str, solver: Solver | None, student: Model | None) -> Solver:
    """The solver that a method returned, or the one that samples its last student."""
    if solver is not None:
        describe(solver)  # refuses a closure
        return solver
    if student is None:
        raise StageError(
            f"{name} ended without a stage and without a solver",
            expected="at least one yield Stage(...), or return partial(plain, student)",
        )
    return partial(plain, student)


def check_stage(name: str, stage: object) -> None:
    """Refuse what is no stage, and constants of a stage that nothing could name later."""
    if not isinstance(stage, Stage):
        raise ConfigError(
            f"{name} yielded {type(stage).__name__}", expected="Stage(model, traces, objective)"
        )
    for constant, value in stage.constants.items():
        if callable(value) and not isinstance(value, Model):
            qualified_name(value, f"the constant {constant} of a stage")


def describe(solver: Solver) -> dict[str, Any]:
    """A solver as name, model ids and values, so that an evaluation can say what it measured; refuses closures."""
    if not isinstance(solver, partial):
        return {"name": qualified_name(solver, "the solver"), "arguments": {}}
    inner = describe(solver.func)
    arguments: dict[str, Any] = dict(inner["arguments"])
    for position, value in enumerate(solver.args):
        arguments[str(position)] = argument_to_json(value)
    for keyword, value in solver.keywords.items():
        arguments[keyword] = argument_to_json(value)
    return {"name": inner["name"], "arguments": arguments}


def qualified_name(function: Callable[..., Any], what: str) -> str:
    """A function's full name. Only a top-level function can be told from another later, by name, values and source."""
    if isinstance(function, partial):
        return qualified_name(function.func, what)
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    if getattr(sys.modules.get(module or ""), name, None) is not function:
        raise ConfigError(
            f"{what} is {name}, a closure, lambda or method: nothing could say later what it was",
            expected="a top-level function, its values bound with functools.partial, as partial(solve, student, n=4)",
        )
    return f"{module}.{name}"


def argument_to_json(value: Any) -> Any:
    """An argument of a solver: a model by its id, lists item by item."""
    if isinstance(value, Model):
        return {"model": value.id}
    if isinstance(value, list | tuple):
        return [argument_to_json(item) for item in value]
    return value
