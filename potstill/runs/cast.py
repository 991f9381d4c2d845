"""Who plays a method where it is checked, and on what problems; one run of it in a store, stopped at a call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.rows import Evaluation
from potstill.methods.catalogue import MethodEntry
from potstill.methods.role_annotations import fill_roles, list_key, missing_abilities, role_of
from potstill.models.model import Completion, Model, Request, Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Stage, Trace
from potstill.runs.driver import drive
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.traces import Session, using
from potstill.world.scripted import scripted_stories, scripted_student, scripted_teacher

LIST_MODELS = 2  # that play a role of a list
MEASURED_ANSWERS = 2  # a problem, where a solver is checked


@dataclass(frozen=True, slots=True)
class Cast:
    """What a method is checked with, and which rules hold for it beside those of all methods.

    Args:
        models: by role (of a list NAME.1, NAME.2), in the place of scripted ones. A copy of each is asked, so that its
            calls are counted and a share of them can fail.
        problems: from a size to blank traces; the world's stories where a method wants no others.
        values: of the method's parameters, in the place of its defaults.
        poses: whether rows may be learnt under prompts that no problem has (`pose`).
        without: names of checks that can't hold, each with the reason.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    problems: Callable[[int], Sequence[Trace]] = scripted_stories
    values: Mapping[str, Any] = field(default_factory=dict)
    poses: bool = False
    without: Mapping[str, str] = field(default_factory=dict)


STORIES = Cast()
"""Scripted models on the world's stories."""


@dataclass(frozen=True, slots=True)
class ScriptedRun:
    """What a method did in a store with scripted models.

    Args:
        stages: what it yielded, in order.
        calls: completions that were asked for, those that the store had left out.
        solver: what it returned, or the one that samples its last student.
        orphans: pairs (trace, parent) whose parent is in no ledger.
        stored_rows: the ids of the rows that the ledger holds, by stage.
        other_rivals: rows that the ledger holds with another rejected side than a stage trained them with.
        errored: ids of failed generations.
        dropped: ids of what operators took out.
        evaluation: of the solver on the same problems, where it was measured.
        uncounted: completions that the solver asked a model for itself, past the operators.
    """

    stages: list[Stage]
    calls: int
    solver: Any
    orphans: list[tuple[str, str]]
    stored_rows: dict[str, list[str]]
    other_rivals: list[str] = field(default_factory=list)
    errored: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    evaluation: Evaluation | None = None
    uncounted: int = 0

    def stage_keys(self) -> list[tuple[str, list[str]]]:
        """Each stage's id with the ids of its rows: equal for two runs that would train the same students."""
        return [(stage.id, row_ids(stage)) for stage in self.stages]


def row_ids(stage: Stage) -> list[str]:
    """The ids of a stage's rows."""
    return [row.id for row in stage.rows]


class Interrupted(Exception):
    """A run was stopped after its share of calls, as by a kill."""


@dataclass(frozen=True, slots=True)
class Case:
    """One method with one choice of values, its cast, and an empty folder to run it in.

    Checks of one case share its first run and its repetition.
    """

    method: MethodEntry
    values: Mapping[str, Any]
    folder: Path
    cast: Cast = STORIES
    size: int = 8
    _runs: dict[str, ScriptedRun] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def problems(self, size: int | None = None) -> list[Trace]:
        """Blank traces, as many as the case is run on where no number is given."""
        return list(self.cast.problems(self.size if size is None else size))

    def first_run(self) -> ScriptedRun:
        """The plain run, made when a check first asks for it."""
        if "first" not in self._runs:
            self._runs["first"] = self.run()
        return self._runs["first"]

    def repetition(self) -> ScriptedRun:
        """The same run again, made once too; behind it its solver is measured."""
        self.first_run()
        if "again" not in self._runs:
            self._runs["again"] = self.run(measure=True)
        return self._runs["again"]

    def run(
        self,
        name: str = "run",
        *,
        problems: Sequence[Trace] | None = None,
        fail: float = 0.0,
        stop_after: int | None = None,
        seed: int = 1,
        roles: Mapping[str, Model] | None = None,
        measure: bool = False,
    ) -> ScriptedRun:
        """Drive the method through a store of this name.

        Args:
            name: of the run's folder; a second run of one name goes on where the first one stopped.
            problems: blank traces; those of the cast where nothing is given.
            fail: share of generations that fail.
            stop_after: completions after which `Interrupted` is raised.
            seed: of the run.
            roles: models by key; the roles that it must have, by the cast or by scripted models, without them.
            measure: also let the solver answer the problems.
        """
        models = roles
        if models is None:
            models = {**scripted_roles(self.method), **self.cast.models}
        return _drive_in_store(
            self,
            self.folder / name,
            self.problems() if problems is None else list(problems),
            models,
            counter=CallCounter(stop_after, fail),
            seed=seed,
            measure=measure,
        )


def scripted_roles(method: MethodEntry, *, optional: bool = False) -> dict[str, Model]:
    """A scripted model for each role that a method must have: what is trained is weak, what writes is strong.

    Args:
        method: the catalogue's entry.
        optional: fill the roles that may be left out too, and lists with two models.
    """
    roles: dict[str, Model] = {}
    for role in method.roles:
        if role.optional and not optional:
            continue
        make_model: Callable[..., ScriptedModel] = scripted_teacher
        if role.name == "student" or missing_abilities(scripted_teacher(), role.annotation):
            make_model = scripted_student
        if not role.is_list:
            roles[role.name] = make_model()
            continue
        for number in range(1, LIST_MODELS + 1):
            key = list_key(role.name, number)
            roles[key] = make_model(name=key)
    return roles


def _drive_in_store(
    case: Case,
    folder: Path,
    problems: list[Trace],
    models: Mapping[str, Model],
    *,
    counter: CallCounter,
    seed: int,
    measure: bool,
) -> ScriptedRun:
    name = case.method.name
    stages: list[Stage] = []
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

        evaluation, uncounted = None, 0
        values = {**case.cast.values, **case.values}
        with using(Session(ledger, store.verdicts, workers=4)):
            ledger.add_traces(problems)
            solver = drive(case.method.method, problems, roles, values, train)
            calls = counter.calls
            if measure:
                sampling = Sampling(temperature=0.9)
                evaluation = evaluate(
                    solver, problems, name=name, n=MEASURED_ANSWERS, sampling=sampling, seed=seed
                )
                uncounted = max(0, counter.calls - calls - count_calls(evaluation))
        return ScriptedRun(
            stages=stages,
            calls=calls,
            solver=solver,
            orphans=store.history.missing_parents(),
            stored_rows=store.history.row_ids(name),
            other_rivals=find_other_rivals(store, name, stages),
            errored={trace.id for trace in store.history.traces(name) if trace.error},
            dropped={drop.id for drop in store.history.drops(name)},
            evaluation=evaluation,
            uncounted=uncounted,
        )


def find_other_rivals(store: Store, arm: str, stages: Sequence[Stage]) -> list[str]:
    """The rows that the ledger holds with another rejected side than a stage trained them with.

    It holds one annotated trace for each id: a text that is a row by itself, or in several pairs, needs `pair_all`.
    """
    other: list[str] = []
    for stage in stages:
        stored_rows = store.history.traces_by_id(row_ids(stage), arm)
        for row, stored in zip(stage.rows, stored_rows):
            if rival_id(row) != rival_id(stored):
                other.append(row.id)
    return other


def rival_id(row: Trace) -> str:
    """The id of a row's rejected side; "" without one."""
    return row.rejected.id if row.rejected is not None else ""


def count_calls(evaluation: Evaluation) -> int:
    """The calls that an evaluation counted for its answers."""
    return sum(int(used.calls) for row in evaluation.rows for used in row.usage.values())


class CallCounter:
    """Counts the completions that models are asked for, lets a share fail, and stops the run after so many."""

    def __init__(self, stop_after: int | None = None, fail: float = 0.0) -> None:
        self.calls = 0
        self._stop_after, self._fail = stop_after, fail

    def counted(self, model: Any) -> Any:
        """A copy of a model whose calls are counted here."""
        copied = copy.copy(model)
        write = model.write

        def counted_write(requests: Sequence[Request]) -> list[Completion]:
            if self._stop_after is not None and self.calls + len(requests) > self._stop_after:
                raise Interrupted
            self.calls += len(requests)
            completions = list(write(requests))
            for place, request in enumerate(requests):
                # Which calls fail is a matter of the request, so that a repetition fails in the same ones.
                if request.random_seed(f"failing {model.id}") / 2**63 < self._fail:
                    completions[place] = Completion("", "", error="server: scripted failure")
            return completions

        vars(copied)["write"] = counted_write  # also of a model that is a frozen dataclass
        return copied
