"""What a run will ask and cost, before anything is paid: the method is driven with stand-ins that only count.

With a pilot the real models answer a few problems of the run, in the run's own store, and what they measured takes the
place of the assumptions; the run that follows pays for nothing twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, final

from potstill.errors import ConfigError, PotstillError, StageError
from potstill.evaluation.benchmark import Solver, evaluate
from potstill.methods.catalogue import find_method, method_entry
from potstill.methods.role_annotations import fill_roles, role_of
from potstill.models.model import ChecksRequests, Completion, Request
from potstill.models.phase import COLLECTION, in_phase
from potstill.models.recorded import Recorded
from potstill.models.scoring import PassageLike, to_passages
from potstill.models.scripted import render
from potstill.records import Stage, Trace, digest
from potstill.runs.driver import drive
from potstill.runs.examples import example_rows, further_row_problems
from potstill.runs.open_folder import JUDGE, STUDENT
from potstill.runs.preflight import unrecorded_problems
from potstill.runs.recipe import Arm, Recipe
from potstill.runs.stages import ArmStages
from potstill.runs.stand_in import (
    MAX_CALLS,
    RIGHT_ANSWER,
    Assumptions,
    CallGroup,
    CallTable,
    EndlessSearch,
    RoleCalls,
    StandIn,
    measured_assumptions,
)
from potstill.runs.training_estimate import StageSize, estimate_training_calls
from potstill.traces import ReferenceGate, Session, plain, using

DRY_PROBLEMS = 24  # problems that stand-ins are driven on at most


def parse_assumptions(texts: Mapping[str, str]) -> dict[str, Assumptions]:
    """Assumptions by role from `NAME` or `ROLE.NAME` and values; "" is every role that has none of its own."""
    names = [field.name for field in dataclasses.fields(Assumptions)]
    values_by_role: dict[str, dict[str, float]] = {"": {}}
    for key, text in texts.items():
        role, _, name = key.rpartition(".")
        if name not in names:
            raise ConfigError(f"nothing is assumed about {key!r}", available=names, wanted=name)
        try:
            value = float(text)
        except ValueError:
            raise ConfigError(
                f"--assume {key}={text}: not a number", fix=f"--assume {key}=0.5"
            ) from None
        values_by_role.setdefault(role, {})[name] = value
    general = values_by_role[""]
    assumptions: dict[str, Assumptions] = {}
    for role, values in values_by_role.items():
        assumptions[role] = Assumptions(**{**general, **values})
    return assumptions


class RowEstimate(NamedTuple):
    """How many rows a stage has in the whole run, of how many tokens; its name or number."""

    rows: int
    mean_tokens: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class ArmDrive:
    """What driving one arm showed.

    Args:
        stages: in order.
        stopped: why it was not driven to its end; "" where it was.
        unused: a sentence for each stage that has settings and that the method never yielded.
    """

    stages: Sequence[RowEstimate]
    stopped: str = ""
    unused: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DriveResult:
    """What driving the arms on a share of the problems showed.

    Args:
        groups: the calls, each with the share of the problems that they were made for.
        arms: by name.
        share: of the training problems that the arms were driven on.
        rights: by `operator by role` and problem, whether each judged text was right; of a pilot.
        notes: what the methods say of the run.
    """

    groups: Sequence[tuple[CallGroup, RoleCalls, float]]
    arms: Mapping[str, ArmDrive]
    share: float
    rights: Mapping[str, Mapping[str, list[bool]]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def calls_of(self, role: str) -> RoleCalls | None:
        """The first calls of a role, whatever they were for; None where it is not asked."""
        for group, calls, _ in self.groups:
            if group.role == role:
                return calls
        return None

    def unreached(self) -> list[str]:
        """For each arm that was not driven to its end, what is therefore not counted."""
        sentences: list[str] = []
        for name, arm in self.arms.items():
            if arm.stopped:
                reached = "before its first stage"
                if arm.stages:
                    reached = f"after stage {len(arm.stages)}"
                sentences.append(
                    f"{name} stops {reached}, and what it would ask after that is not counted: {arm.stopped}"
                )
        return sentences


def choose_problems(
    problems: Sequence[Trace], count: int, *, first: Sequence[Trace] = ()
) -> list[Trace]:
    """So many problems, chosen by hash and kept in their order: no part of the file is preferred.

    Args:
        problems: to choose from.
        count: how many.
        first: of the problems, those that are chosen before all others.
    """
    # A larger choice holds the smaller one: what a small pilot paid for, a larger one does not pay again.
    ranked = sorted(problems, key=lambda t: hashlib.sha256(t.problem.id.encode()).hexdigest())
    chosen_ids = {trace.id for trace in [*first, *ranked][:count]}
    return [trace for trace in problems if trace.id in chosen_ids]


def unrecorded(problems: Sequence[Trace], recordings: Mapping[str, Recorded]) -> list[Trace]:
    """The first problem of each recording that has no answer to it."""
    missing: list[Trace] = []
    for recording in recordings.values():
        missing += unrecorded_problems(recording, problems)[:1]
    return missing


def drive_with_stand_ins(
    recipe: Recipe,
    problems: Sequence[Trace],
    tests: Sequence[Trace],
    assume: Mapping[str, Assumptions],
    recordings: Mapping[str, Recorded] = MappingProxyType({}),
    *,
    checkers: Mapping[str, ChecksRequests] = MappingProxyType({}),
    extra_roles: Sequence[str] = (),
    rows_only: bool = False,
    count: int = DRY_PROBLEMS,
) -> DriveResult:
    """Drive every arm to its end with stand-ins on a few of the problems, and measure it on a few of the tests.

    Args:
        recipe: of the run.
        problems: to train on.
        tests: to measure on.
        assume: by role, "" for all others.
        recordings: the recorded models by key: a prompt that nobody recorded stops the plan as it stops the run.
        checkers: the models by key that can refuse a request unasked: what they refuse stops the plan too.
        extra_roles: roles that the recipe gives no model, and the methods need.
        rows_only: whether the run ends with the rows of each arm's first stage.
        count: problems of each kind that the arms are driven on at most.
    """
    # A few problems are enough: counts are scaled up, and equal calls are counted once.
    sample = choose_problems(problems, count, first=unrecorded(problems, recordings))
    sample = [with_number_answer(trace) for trace in sample]
    test_sample = [with_number_answer(trace) for trace in choose_problems(tests, count)]
    rehearsal = Rehearsal(
        recipe=recipe,
        problems=sample,
        tests=test_sample,
        table=CallTable(),
        share=len(sample) / len(problems),
        rows_only=rows_only,
        assume=assume,
    )
    arms: dict[str, ArmDrive] = {}
    notes: dict[str, None] = {}
    for name, arm in recipe.arms.items():
        keys = dict.fromkeys([*filled_keys(recipe), *extra_roles])
        models = stand_ins(rehearsal, name, assume, recordings, checkers, keys=keys)
        take_note = partial(keep_note, notes, name)
        with using(Session(judge=models.get(JUDGE), on_note=take_note)):
            if not arms and STUDENT in models and test_sample:
                measure_stand_in(recipe, partial(plain, models[STUDENT]), test_sample)
            arms[name] = rehearse(rehearsal, arm, models)
    groups: list[tuple[CallGroup, RoleCalls, float]] = []
    for group, calls in rehearsal.table.groups.items():
        share = rehearsal.share
        if group.is_whole:
            share = 1.0
        elif group.phase == "evaluation":
            share = len(test_sample) / len(tests)
        groups.append((group, calls, share))
    # What trainings ask is estimated for the whole run, and not for a share of it.
    groups += [(group, calls, 1.0) for group, calls in rehearsal.trainings]
    return DriveResult(groups, arms, rehearsal.share, notes=list(notes))


def keep_note(notes: dict[str, None], arm: str, sentence: str) -> None:
    """Keep what an arm's method says of the run, once."""
    notes[f"{arm}: {sentence}"] = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A drive of all arms with stand-ins.

    Args:
        recipe: of the run.
        problems: the few to train on.
        tests: the few to measure on.
        table: where calls are counted.
        share: of the training problems that the few are.
        rows_only: whether the run ends with the rows of each arm's first stage.
        assume: by role, "" for all others.
        trainings: what the trainings of the whole run ask.
    """

    recipe: Recipe
    problems: Sequence[Trace]
    tests: Sequence[Trace]
    table: CallTable
    share: float
    rows_only: bool
    assume: Mapping[str, Assumptions]
    trainings: list[tuple[CallGroup, RoleCalls]] = field(default_factory=list)


def stand_ins(
    rehearsal: Rehearsal,
    arm: str,
    assume: Mapping[str, Assumptions],
    recordings: Mapping[str, Recorded],
    checkers: Mapping[str, ChecksRequests] = MappingProxyType({}),
    *,
    keys: Iterable[str],
) -> dict[str, StandIn]:
    """A stand-in for each model, by key."""
    models: dict[str, StandIn] = {}
    for key in keys:
        models[key] = StandIn(
            role_of(key),
            assume,
            rehearsal.table,
            weights=Path(arm),
            recording=recordings.get(key),
            checker=checkers.get(key),
            key=key,
        )
    return models


def filled_keys(recipe: Recipe) -> list[str]:
    """The keys under which the recipe has a model."""
    return [key for key, spec in recipe.roles.items() if spec]


def rehearse(rehearsal: Rehearsal, arm: Arm, models: Mapping[str, StandIn]) -> ArmDrive:
    """Drive one arm with stand-ins through all of its stages, and measure its solver."""
    stages: list[RowEstimate] = []
    last_rows: list[Trace] = []
    yielded = ArmStages(arm.method, arm.training, arm.training_by_stage)
    rehearsal.table.begin_arm()

    def train(stage: Stage) -> Any:
        label = yielded.label(stage)
        stages.append(estimate_rows(stage, rehearsal.share)._replace(label=label))
        last_rows[:] = stage.rows
        if rehearsal.rows_only:
            raise _FirstStage
        training_calls = estimate_training_calls(
            stage,
            len(stages),
            arm=dataclasses.replace(arm, training=yielded.settings(label)),
            recipe=rehearsal.recipe,
            size=StageSize(
                rows=stages[-1].rows,
                tokens=stages[-1].mean_tokens,
                prompt=mean_prompt_tokens(stage),
            ),
            assume=rehearsal.assume,
        )
        rehearsal.trainings.extend(training_calls)
        rehearsal.table.stage = len(stages)
        starting_model: Any = stage.model
        yielded.students[label] = starting_model.trained(stage.id)
        return yielded.students[label]

    roles = fill_roles(method_entry(arm.method).roles, models)
    values = without_filters(arm)
    try:
        solver = drive(find_method(arm.method), rehearsal.problems, roles, values, train)
        if rehearsal.tests:
            measure_stand_in(rehearsal.recipe, solver, rehearsal.tests)
        if rehearsal.tests and rehearsal.recipe.evaluate.stages:
            for student in yielded.students.values():
                measure_stand_in(rehearsal.recipe, partial(plain, student), rehearsal.tests)
        answer_row_problems(rehearsal, solver, last_rows)
    except _FirstStage:
        return ArmDrive(stages)
    except StageError as error:
        return ArmDrive(stages, stopped=error.found)  # what was asked still counts
    except EndlessSearch:
        stopped = f"{MAX_CALLS:,} calls for {len(rehearsal.problems)} problems, and no end in sight"
        return ArmDrive(stages, stopped=stopped)
    except PotstillError:
        raise  # as the run would
    except Exception as error:  # made-up answers, and not the method, may be what it can't read
        stopped = f"made-up answers end in {type(error).__name__}: {error}"
        return ArmDrive(stages, stopped=stopped)
    return ArmDrive(stages, unused=yielded.unused_settings())


def measure_stand_in(recipe: Recipe, solver: Solver, tests: Sequence[Trace]) -> None:
    """Let a solver answer the evaluation problems as the run will."""
    sampling = recipe.evaluate.sampling
    evaluate(solver, list(tests), name="plan", n=recipe.evaluate.n, sampling=sampling, seed=0)


def answer_row_problems(rehearsal: Rehearsal, solver: Solver, rows: Sequence[Trace]) -> None:
    """Let a solver answer once the problems of as many rows as the run will ask it: those of the report, and more."""
    evaluate_settings = rehearsal.recipe.evaluate
    example_ids = {row.problem.id for row in example_rows(rows)}
    examples = [trace for trace in rehearsal.problems if trace.problem.id in example_ids]
    problems = list(examples) if rehearsal.tests else []
    further_ids = set(further_row_problems(rows, len(rows)))
    further = [trace for trace in rehearsal.problems if trace.problem.id in further_ids]
    # The few problems have few rows, which stand for those of all; as many as the report shows it shows of all.
    available = round((len(examples) + len(further)) / rehearsal.share) - len(examples)
    problems += itertools.islice(itertools.cycle(further), min(evaluate_settings.rows, available))
    if not problems and not rehearsal.tests:
        return
    limit = evaluate_settings.sampling.max_new_tokens
    rehearsal.table.is_whole = True
    with in_phase("evaluation"):
        solver(problems, n=1, temperature=0.0, max_new_tokens=limit)


def estimate_rows(stage: Stage, share: float) -> RowEstimate:
    """How many rows a stage has in the whole run, and how long they are, from those of a share of the problems."""
    lengths: list[float] = []
    for row in stage.rows:
        lengths.append(len(str(row.prompt)) / 4 + row.tokens.completion)
    return RowEstimate(round(len(lengths) / share), sum(lengths) / len(lengths))


def mean_prompt_tokens(stage: Stage) -> float:
    """Tokens of a mean prompt of a stage's rows."""
    return sum(len(str(row.prompt)) / 4 for row in stage.rows) / len(stage.rows)


class _FirstStage(Exception):
    """The first stage is there: what it would train is known."""


def drive_to_first_stage(
    arm: Arm, problems: Sequence[Trace], roles: Mapping[str, Any], share: float
) -> ArmDrive:
    """Drive a method with real models up to its first stage: they can't be trained before the run."""

    stages: list[RowEstimate] = []

    def stop_at(stage: Stage) -> Any:
        stages.append(estimate_rows(stage, share)._replace(label=stage.name or "1"))
        raise _FirstStage

    filled = fill_roles(method_entry(arm.method).roles, roles)
    try:
        drive(find_method(arm.method), list(problems), filled, arm.values, stop_at)
    except StageError as error:
        return ArmDrive([], stopped=error.found)
    except _FirstStage:
        return ArmDrive(stages)
    return ArmDrive([])


def keys_of_method(arm: Arm, keys: Iterable[str]) -> list[str]:
    """Those of the models' keys that belong to the roles of an arm's method."""
    names = [role.name for role in method_entry(arm.method).roles]
    return [key for key in keys if role_of(key) in names]


def with_number_answer(trace: Trace) -> Trace:
    """The same problem with an answer that a stand-in can be right about."""
    if trace.problem.kind == JUDGE:
        return trace
    solution = trace.problem.solution
    if solution:  # a method that learns from it may judge it first
        solution = f"{solution}\nThe answer is \\boxed{{{RIGHT_ANSWER}}}."
    problem = dataclasses.replace(
        trace.problem, kind="number", answer=RIGHT_ANSWER, solution=solution
    )
    return dataclasses.replace(trace, problem=problem)


def without_filters(arm: Arm) -> dict[str, Any]:
    """An arm's values without what a stand-in's text can't be asked: right steps, and a share of a reference's."""
    values = {name: value for name, value in arm.values.items() if name != "steps"}
    for value in method_entry(arm.method).values:
        arm_value = values.get(value.name, value.default)
        if value.annotation is ReferenceGate:
            # A stand-in's texts are as long as they are assumed to be, whatever the reference says.
            values[value.name] = dataclasses.replace(
                arm_value, min_step_share=0, min_length_share=0
            )
        elif any(field.name == "steps" for field in value.fields):
            values[value.name] = dataclasses.replace(arm_value, steps=False)
    return values


@final
class MeteredModel:
    """A real model whose calls are counted; it can do all that the model can."""

    def __init__(self, inner: Any, calls: RoleCalls) -> None:
        """Count what `inner` is asked."""
        self._inner, self._calls = inner, calls
        self._counted: set[str] = set()
        self._lock = threading.Lock()
        if hasattr(inner, "likelihood"):
            self.likelihood = self._metered_likelihood

    def _metered_likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """The model's log-probabilities; what was read for each text is noted once."""
        all_passages = to_passages(passages)
        scores: list[list[float]] = self._inner.likelihood(all_passages)
        with self._lock:
            for (prompt, text, prefix), logprobs in zip(all_passages, scores, strict=True):
                key = digest("plan-score", [self.id, prompt, text, prefix])
                if key not in self._counted:
                    self._counted.add(key)
                    read_before = (len(render(prompt)) + len(prefix)) / 4
                    self._calls.add(read_before + len(logprobs), 0, 0, None)
        return scores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def id(self) -> str:
        """The model's id."""
        model_id: str = self._inner.id
        return model_id

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The model's completions; what each needed is noted once."""
        completions: list[Completion] = self._inner.write(requests)
        with self._lock:
            for request, completion in zip(requests, completions, strict=True):
                key = request.key(self.id)
                if key not in self._counted:
                    self._counted.add(key)
                    tokens = completion.tokens
                    limit = request.sampling.max_new_tokens
                    self._calls.add(tokens.prompt, tokens.completion, limit, completion.cost)
        return completions


@final
class VerdictLedger:
    """A ledger that keeps the latest state of each trace, to count how many texts were right."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.traces: dict[str, Trace] = {}
        self._lock = threading.Lock()

    def add_traces(self, traces: Sequence[Trace]) -> None:
        """Keep the latest state of each trace."""
        with self._lock:
            self.traces.update((trace.id, trace) for trace in traces)

    def add_drops(self, drops: Sequence[Any]) -> None:
        """Not counted: what was dropped was judged before."""

    def add_step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """Not counted."""

    def shares(self, role: str, roles: Mapping[str, str]) -> dict[str, float]:
        """The shares of a role's judged texts that were right and that could not be read; nothing without any."""
        statuses: Counter[str] = Counter()
        for trace in self.traces.values():
            if trace.author is not None and roles.get(trace.author.model) == role:
                statuses[trace.verdict.status] += 1
        del statuses["unjudged"]
        total = sum(statuses.values())
        if not total:
            return {}
        return {"right": statuses["right"] / total, "unparsed": statuses["unparsed"] / total}

    def rights(self, roles: Mapping[str, str]) -> dict[str, dict[str, list[bool]]]:
        """By `operator by role` and problem: whether each judged text was right; `roles` are by model id."""
        rights: dict[str, dict[str, list[bool]]] = {}
        for trace in self.traces.values():
            if trace.author and trace.verdict.status != "unjudged":
                writer = f"{trace.operator} by {roles.get(trace.author.model, 'a model')}"
                by_problem = rights.setdefault(writer, {})
                by_problem.setdefault(trace.problem.id, []).append(trace.verdict.status == "right")
        return rights


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the real models did for a few problems, up to each arm's first stage.

    Args:
        driven: the calls, and the rows of first stages.
        measured: by role, what takes the place of what was assumed.
    """

    driven: DriveResult
    measured: Mapping[str, Assumptions]


def drive_pilot(
    recipe: Recipe,
    problems: Sequence[Trace],
    count: int,
    *,
    keys: Sequence[str],
    assume: Mapping[str, Assumptions],
    wrapped: Callable[[str, str], Any],
    session: Callable[[Any, str], Session],
) -> Pilot:
    """Let the real models answer for a few problems.

    Args:
        recipe: of the run.
        problems: all of them.
        count: how many to take.
        keys: of the models.
        assume: by role, where nothing is measured.
        wrapped: the stored model of a (key, arm).
        session: what the operators of an arm report to, given a ledger.
    """
    sample = choose_problems(problems, count)
    share = len(sample) / len(problems)
    calls: dict[str, RoleCalls] = {}
    arms: dict[str, ArmDrive] = {}
    role_by_model: dict[str, str] = {}
    ledger = VerdictLedger()
    for name, arm in recipe.arms.items():
        models: dict[str, MeteredModel] = {}
        for key in keys_of_method(arm, keys):
            role = role_of(key)
            model = MeteredModel(wrapped(key, name), calls.setdefault(role, RoleCalls()))
            models[key] = model
            role_by_model[model.id] = role
        with using(session(ledger, name)):
            arms[name] = drive_to_first_stage(arm, sample, models, share)
    groups: list[tuple[CallGroup, RoleCalls, float]] = []
    measured = dict(assume)
    for role, role_calls in calls.items():
        groups.append((CallGroup(role, COLLECTION), role_calls, share))
        values: dict[str, float] = ledger.shares(role, role_by_model)
        if role_calls.calls:
            values["completion"] = max(1.0, sum(role_calls.completions) / role_calls.calls)
        measured[role] = measured_assumptions(assume, role, values)
    driven = DriveResult(groups, arms, share, rights=ledger.rights(role_by_model))
    return Pilot(driven, measured)


def continue_pilot(pilot: DriveResult, rest: DriveResult) -> DriveResult:
    """A pilot, which ends at the first stages, with what stand-ins were asked after them."""
    groups = list(pilot.groups)
    for group, calls, share in rest.groups:
        if group.stage or group.phase != COLLECTION:
            groups.append((group, calls, share))
    arms: dict[str, ArmDrive] = {}
    for name, arm in pilot.arms.items():
        later = rest.arms[name]
        stopped = arm.stopped or later.stopped
        arms[name] = ArmDrive([*arm.stages, *later.stages[1:]], stopped)
    return DriveResult(groups, arms, pilot.share, pilot.rights, rest.notes)
