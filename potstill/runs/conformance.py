"""What holds for every method, checked on scripted models in seconds: `potstill check my_method.py:star`.

A method that passes can be stopped at any moment and resumed, never pays for a completion twice, trains no failed
generation, and knows where each of its rows came from. The checks say nothing about whether it is a good method.
"""

from __future__ import annotations

import inspect
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from potstill import objectives
from potstill.errors import PotstillError
from potstill.methods.catalogue import MethodEntry
from potstill.methods.roles import fill_roles, list_key, missing_abilities, role_of
from potstill.models.model import Model
from potstill.models.scripted import ScriptedModel
from potstill.records import Stage, Trace
from potstill.runs.driver import describe, drive
from potstill.runs.recipe import shadowing_names
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.traces import Session, using
from potstill.world.scripted import scripted_stories, scripted_student, scripted_teacher

FAILING = 0.08  # share of generations that fail in the check of failures
LIST_MODELS = 2  # that play a role of a list
STOPS = (0.0, 0.33, 0.5, 0.99)  # where a run is stopped, as a share of its calls


class ConformanceError(AssertionError):
    """A method does not hold to what every method must."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check on one choice of values: passed, or why not."""

    check: str
    values: Mapping[str, Any]
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the method holds to it."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class ScriptedRun:
    """What a method did in a store with scripted models.

    Args:
        stages: what it yielded, in order.
        calls: completions that were asked for, those that the store had left out.
        solver: what it returned, or the one that samples its last student.
        orphans: pairs (trace, parent) whose parent is in no ledger.
        stored_rows: the ids of the rows that the ledger holds, by stage.
        errored: ids of failed generations.
        dropped: ids of what operators took out.
    """

    stages: list[Stage]
    calls: int
    solver: Any
    orphans: list[tuple[str, str]]
    stored_rows: dict[str, list[str]]
    errored: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def stage_keys(self) -> list[tuple[str, list[str]]]:
        """Each stage's id with the ids of its rows: equal for two runs that would train the same students."""
        return [(stage.id, _row_ids(stage)) for stage in self.stages]


class Interrupted(Exception):
    """A run was stopped after its share of calls, as by a kill."""


def check_method(
    method: MethodEntry, *, models: Mapping[str, Model] | None = None, size: int = 8
) -> list[Finding]:
    """Run every check on a method, with its defaults and with every other choice of its `Literal` values.

    Args:
        method: the catalogue's entry.
        models: by role, in the place of the scripted ones.
        size: stories that it is run on.

    Returns:
        A finding for each check and choice; all have passed where none says what is wrong.
    """
    findings = []
    for values in value_choices(method):
        for check in CHECKS:
            with tempfile.TemporaryDirectory() as folder:
                case = Case(method, values, Path(folder), models or {}, size)
                findings.append(run_check(check, case))
    return findings


def value_choices(method: MethodEntry) -> list[dict[str, Any]]:
    """The method's defaults, and one choice for every other value of a `Literal` parameter."""
    choices: list[dict[str, Any]] = [{}]
    for value in method.values:
        for option in get_args(value.annotation):
            if isinstance(option, str) and option != value.default:
                choices.append({value.name: option})
    return choices


@dataclass(frozen=True, slots=True)
class Case:
    """One method with one choice of values, and an empty folder to run it in."""

    method: MethodEntry
    values: Mapping[str, Any]
    folder: Path
    models: Mapping[str, Model] = field(default_factory=dict)
    size: int = 8

    def run(
        self,
        name: str = "run",
        *,
        problems: Sequence[Trace] | None = None,
        fail: float = 0.0,
        stop_after: int | None = None,
        seed: int = 1,
        roles: Mapping[str, Model] | None = None,
    ) -> ScriptedRun:
        """Drive the method through a store of this name.

        Args:
            name: of the run's folder; a second run of one name goes on where the first one stopped.
            problems: blank traces; stories where nothing is given.
            fail: share of generations that fail.
            stop_after: completions after which `Interrupted` is raised.
            seed: of the run.
            roles: models by key; those of the case, or scripted ones, where they are not given.
        """
        stories = scripted_stories(self.size) if problems is None else list(problems)
        models = roles or self.models or scripted_roles(self.method, fail=fail)
        return _drive_in_store(
            self, self.folder / name, stories, models, stop_after=stop_after, seed=seed
        )


def scripted_roles(
    method: MethodEntry, *, fail: float = 0.0, optional: bool = False
) -> dict[str, ScriptedModel]:
    """A scripted model for each role that a method must have: what is trained is weak, what writes is strong.

    Args:
        method: the catalogue's entry.
        fail: share of generations that fail.
        optional: fill the roles that may be left out too, and lists with two models.
    """
    roles: dict[str, ScriptedModel] = {}
    for role in method.roles:
        if role.optional and not optional:
            continue
        make_model = scripted_teacher
        if role.name == "student" or missing_abilities(scripted_teacher(), role.annotation):
            make_model = scripted_student
        if not role.is_list:
            roles[role.name] = make_model(fail=fail)
            continue
        for number in range(1, LIST_MODELS + 1):
            key = list_key(role.name, number)
            roles[key] = make_model(fail=fail, name=key)
    return roles


def _drive_in_store(
    case: Case,
    folder: Path,
    problems: list[Trace],
    models: Mapping[str, Model],
    *,
    stop_after: int | None,
    seed: int,
) -> ScriptedRun:
    name = case.method.name
    stages: list[Stage] = []
    counter = CallCounter(stop_after)
    with Store.open(folder) as store:
        ledger = store.ledger(name)
        wrapped: dict[str, Model] = {}
        for key, model in models.items():
            counted = counter.counted(model)
            wrapped[key] = with_cache(counted, store, role=role_of(key), arm=name, seed=seed)
        roles = fill_roles(case.method.roles, wrapped)

        def train(stage: Stage) -> Any:
            stages.append(stage)
            ledger.rows(stage.id, stage.rows)
            return stage.model

        with using(Session(ledger, store.verdicts, workers=4)):
            ledger.add_traces(problems)
            solver = drive(case.method.method, problems, roles, dict(case.values), train)
        return ScriptedRun(
            stages=stages,
            calls=counter.calls,
            solver=solver,
            orphans=store.history.missing_parents(),
            stored_rows=store.history.row_ids(name),
            errored={trace.id for trace in store.history.traces(name) if trace.error},
            dropped={drop.id for drop in store.history.drops(name)},
        )


class CallCounter:
    """Counts the completions that models are asked for, and stops the run after so many."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls = 0
        self._stop_after = stop_after

    def counted(self, model: Any) -> Any:
        """The same model, its calls counted here."""
        write = model.write

        def counted_write(requests: Sequence[Any]) -> Any:
            if self._stop_after is not None and self.calls + len(requests) > self._stop_after:
                raise Interrupted
            self.calls += len(requests)
            return write(requests)

        model.write = counted_write
        return model


def run_check(check: Callable[[Case], None], case: Case) -> Finding:
    """One check on a case; whatever the method raises is what is wrong with it."""
    title = (check.__doc__ or check.__name__).strip().splitlines()[0]
    try:
        check(case)
    except (ConformanceError, PotstillError) as error:
        return Finding(title, case.values, str(error))
    except (
        Exception
    ) as error:  # whatever the method raises is a finding, and the other checks go on
        return Finding(title, case.values, _describe_exception(error, case.method.method))
    return Finding(title, case.values)


def _describe_exception(error: Exception, method: Callable[..., Any]) -> str:
    """An exception with the last line of the method's own file that it passed through."""
    file = inspect.getsourcefile(method)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
    ]
    place = ""
    if frames:
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return f"it raised {type(error).__name__}: {error}{place}"


def _row_ids(stage: Stage) -> list[str]:
    return [row.id for row in stage.rows]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConformanceError(message)


def check_signature(case: Case) -> None:
    """It is a generator function whose first parameter is the problems and whose values have defaults."""
    method = case.method.method
    _require(
        inspect.isgeneratorfunction(method), "it is no generator function: it has no `yield Stage`"
    )
    first, *others = inspect.signature(method).parameters.values()
    _require(first.default is first.empty, f"its first parameter, {first.name}, has a default")
    for parameter in others:
        if parameter.kind is parameter.KEYWORD_ONLY:
            has_default = parameter.default is not parameter.empty
            _require(has_default, f"the value {parameter.name} has no default")
    _require(bool(case.method.title), "it has no docstring: the first line says what it is")
    for message in shadowing_names(case.method):
        _require(False, message)


def check_optional_roles(case: Case) -> None:
    """With every role filled, lists by two models, and with only those that it must have, it yields a stage."""
    every_role = {**scripted_roles(case.method, optional=True), **case.models}
    needed = [role.name for role in case.method.roles if not role.optional]
    needed_roles = {key: model for key, model in every_role.items() if role_of(key) in needed}
    run = case.run("every-role", roles=every_role)
    _require(bool(run.stages), "with every role filled it yielded no stage")
    run = case.run("needed-roles", roles=needed_roles)
    _require(bool(run.stages), "with only the roles that it must have it yielded no stage")


def check_stages(case: Case) -> None:
    """It yields stages whose rows can be trained, with objectives and keywords that exist."""
    run = case.run()
    _require(bool(run.stages), "it yielded no stage")
    for stage in run.stages:
        _require(bool(stage.rows), "it yielded a stage without rows")
        _require(stage.objective in objectives.TABLE, f"there is no objective {stage.objective!r}")
        for row in stage.rows:
            _require(bool(row.text), f"the row {row.id} has no text")
            _require(not row.error, f"the row {row.id} is a failed generation")


def check_repetition(case: Case) -> None:
    """Run again it asks no model and yields the same stages."""
    first, again = case.run(), case.run()
    _require(again.calls == 0, f"the repetition asked for {again.calls} completions")
    _require(first.stage_keys() == again.stage_keys(), "the repetition yielded other stages")


def check_lineage(case: Case) -> None:
    """Every parent of every trace is in the ledger, and so are the rows of every stage."""
    run = case.run()
    _require(not run.orphans, f"{len(run.orphans)} traces have parents that no ledger knows")
    rows = {stage.id: _row_ids(stage) for stage in run.stages}
    _require(run.stored_rows == rows, "the ledger's rows are not the stages'")


def check_solver(case: Case) -> None:
    """What it returns to be measured with can be named later."""
    describe(case.run().solver)


def check_failures(case: Case) -> None:
    """With 8 % of the generations failing it ends, and trains none of them."""
    # Twice as many problems, so that some calls fail for sure.
    run = case.run(problems=scripted_stories(2 * case.size), fail=FAILING)
    trained: set[str] = set()
    for stage in run.stages:
        trained.update(_row_ids(stage))
    _require(not trained & run.errored, "a failed generation is trained on")


def check_final_failures(case: Case) -> None:
    """A recorded failure is final: it is not asked for again."""
    first, again = case.run(fail=0.3), case.run(fail=0.3)
    _require(again.calls == 0, f"the repetition asked for {again.calls} completions")
    _require(first.stage_keys() == again.stage_keys(), "the repetition yielded other stages")


def check_seeds(case: Case) -> None:
    """Another seed draws other samples."""
    first, other = case.run(), case.run(seed=2)
    _require(other.calls > 0, "another seed asked no model")
    _require(first.stage_keys() != other.stage_keys(), "another seed yielded the same stages")


def check_resume(case: Case) -> None:
    """Stopped at four moments and resumed it ends in the same stages, and pays for nothing twice."""
    whole = case.run("whole")
    for number, share in enumerate(STOPS):
        stop_after = int(share * whole.calls)
        try:
            case.run(f"stopped-{number}", stop_after=stop_after)
        except Interrupted:
            pass
        else:
            raise ConformanceError(
                f"a run that was stopped after {stop_after} of {whole.calls} calls came to its end"
            )
        resumed = case.run(f"stopped-{number}")
        _require(
            resumed.stage_keys() == whole.stage_keys(),
            f"stopped after {stop_after} calls and resumed it yielded other stages",
        )
        _require(
            resumed.calls <= whole.calls,
            f"resumed after {stop_after} calls it asked for {resumed.calls} of {whole.calls} again",
        )


def check_order(case: Case) -> None:
    """The order of the problems does not decide which rows there are."""
    problems = scripted_stories(case.size)
    forward = case.run("forward", problems=problems)
    backward = case.run("backward", problems=problems[::-1])
    for one, other in zip(forward.stages, backward.stages, strict=True):
        same = {row.id for row in one.rows} == {row.id for row in other.rows}
        _require(same, "the same problems in another order gave other rows")


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_signature,
    check_optional_roles,
    check_stages,
    check_repetition,
    check_lineage,
    check_solver,
    check_failures,
    check_final_failures,
    check_seeds,
    check_resume,
    check_order,
)
