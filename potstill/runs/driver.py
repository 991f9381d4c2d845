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
from potstill.runs.open_folder import STUDENT
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
    """Run a method to its end and return its solver, or the one that samples the student.

    Where stages train models of several roles, the last one that came of the role `student` is sampled.

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
    trained = TrainedRoles(roles)
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
                return choose_solver(name, end.value, trained)
            check_stage(name, stage)
            check_errors(name, drops)
            check_rows(name, stage, drops)
            drops.since_stage.clear()
            student = train(stage)
            trained.add(stage, student)


class TrainedRoles:
    """Which role each trained model came of, and the last one of each role."""

    def __init__(self, roles: Mapping[str, Any]) -> None:
        """Take the models that a method is called with; a list by the role's name."""
        # By the place in memory: two roles may be played by equal checkpoints.
        self._role_of_model: dict[int, str] = {}
        self._models: list[Any] = []
        for role, models in roles.items():
            for model in models if isinstance(models, list | tuple) else [models]:
                self._remember(model, role)
        self.students: dict[str, Model] = {}

    def add(self, stage: Stage, student: Model) -> None:
        """A stage has trained its model."""
        role = self._role_of_model.get(id(stage.model), "")
        self._remember(student, role)
        self.students.pop(role, None)
        self.students[role] = student

    def _remember(self, model: Any, role: str) -> None:
        self._models.append(model)  # so that no other model gets its place in memory
        self._role_of_model.setdefault(id(model), role)


def choose_solver(name: str, solver: Solver | None, trained: TrainedRoles) -> Solver:
    """The solver that a method returned, or the one that samples its last student."""
    if solver is not None:
        describe(solver)  # refuses a closure
        return solver
    students = trained.students
    if not students:
        raise StageError(
            f"{name} ended without a stage and without a solver",
            expected="at least one yield Stage(...), or return partial(plain, student)",
        )
    if len(students) > 1 and STUDENT not in students:
        raise StageError(
            f"{name} trained models of several roles ({', '.join(students)}) and returned no solver",
            expected="which of them is measured",
            fix="return partial(plain, model), or call the role of the one that is measured `student`",
        )
    [*_, last] = students.values()
    return partial(plain, students.get(STUDENT, last))


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
