"""From what was driven to what a whole run needs: calls, tokens and money by role, disk, training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from potstill.budget import prices
from potstill.budget.prices import Price, built_in_prices, find_price, max_cost
from potstill.errors import ModelError
from potstill.evaluation.intervals import Estimate, mean_interval, share_interval
from potstill.methods.role_annotations import keys_of, role_of
from potstill.models.model import Model
from potstill.models.phase import COLLECTION, PHASES
from potstill.records import Progress, Trace, no_progress
from potstill.runs import preflight
from potstill.runs.collect import UnaskedStudent, left_out_students, load_or_leave
from potstill.runs.dry_run import (
    DriveResult,
    Pilot,
    RowEstimate,
    continue_pilot,
    drive_pilot,
    drive_with_stand_ins,
)
from potstill.runs.experiment import Run, open_run, prepare_run
from potstill.runs.local_time import (
    HOW_TO_MEASURE_CALLS,
    HOW_TO_MEASURE_TRAINING,
    Range,
    is_here,
    probe_rate,
    probe_training,
    rates_in_store,
    seconds_for,
    training_rates_in_store,
    training_tokens,
)
from potstill.runs.open_folder import STUDENT
from potstill.runs.recipe import Recipe
from potstill.runs.sources import (
    checkpoint_of,
    load_model,
    load_unreachable_model,
    missing_checkpoint,
    missing_key_variable,
    priced_name,
)
from potstill.runs.stages import stage_title
from potstill.runs.stand_in import Assumptions, CallGroup, RoleCalls
from potstill.traces import Session, using
from potstill.training.memory_estimate import FORMULA, TrainingSize, estimate_size
from potstill.training.settings import TrainingSettings

TRAINED = "the trained students"  # the model of calls that only a trained student answers
LOCAL_WEIGHTS = "weights here"  # that of calls which only read, whatever the role's model costs

# Measured on stores of real runs.
STORED_BYTES_A_CHAR = 1.4  # of text, payload and ledger
STORED_BYTES_A_COMPLETION = 900  # beside its text
ROW_BYTES_A_CHAR = 2.2  # JSONL, and the ledger's copy
WEIGHT_BYTES = 4  # a parameter of a stored student


class Need(NamedTuple):
    """What a role needs in a whole run; money is None where no price is known, 0 where nothing is charged.

    `prompt` and `completion` are tokens, `max_completion` is what the limits allow. `low` and `high` are the ends of
    the money's 95 % interval, `limit` is the money if every completion used all of its limit. `seconds` are those of
    what is written on this machine; None where that is nothing, or its rate is not known.
    """

    role: str
    model: str
    calls: int
    prompt: int
    completion: int
    max_completion: int
    money: float | None
    low: float | None
    high: float | None
    limit: float | None
    seconds: Range | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will need, and what that rests on.

    Args:
        problems: how many the run trains on.
        tried: on how many of them the methods were driven.
        needs: by role.
        rows: by arm, how many rows it trains; by `ARM/1`, `ARM/2` where it has several stages.
        unreached: for each arm that was not driven to its end, what is therefore not counted.
        disk: bytes of the store, the rows and the students.
        training: by arm, where the student's weights are here.
        training_seconds: by arm, as far as rates are known.
        training_tokens: that go through the student, by arm.
        measured: what a pilot measured, each with a 95 % interval.
        assumptions: what was assumed, by name.
        notes: what people should know before the run.
        paid: what the pilot cost.
    """

    problems: int
    tried: int
    needs: Sequence[Need]
    rows: Mapping[str, int]
    unreached: Sequence[str]
    disk: Mapping[str, int]
    training: Mapping[str, TrainingSize] = field(default_factory=dict)
    training_seconds: Mapping[str, Range] = field(default_factory=dict)
    training_tokens: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Estimate] = field(default_factory=dict)
    assumptions: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    paid: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["needs"] = []
        for need in self.needs:
            seconds = need.seconds._asdict() if need.seconds is not None else None
            values["needs"].append({**need._asdict(), "seconds": seconds})
        values["training_seconds"] = {}
        for arm, seconds_range in self.training_seconds.items():
            values["training_seconds"][arm] = seconds_range._asdict()
        values["measured"] = {name: value._asdict() for name, value in self.measured.items()}
        values["training"] = {}
        for arm, training_size in self.training.items():
            values["training"][arm] = {**training_size._asdict(), "memory": training_size.memory}
        return values


def make_plan(
    recipe: Recipe,
    out: Path,
    assume: Mapping[str, Assumptions],
    *,
    pilot: int = 0,
    probe: bool = False,
    rows_only: bool = False,
    threads: int = 0,
    retry_errors: bool = False,
    progress: Progress = no_progress,
) -> Plan:
    """The plan of a run.

    Args:
        recipe: of the run.
        out: its folder, which a pilot writes into.
        assume: what is assumed of each role; "" of all that are not named.
        pilot: problems that the real models answer first; 0 asks nobody.
        probe: whether models on this machine write and train for some seconds, so that the time is known.
        rows_only: whether the run ends with its rows.
        threads: as in the run: a local model's samples depend on it.
        retry_errors: whether a pilot asks again where a recorded generation failed.
        progress: called with (label, done, total) by a pilot.
    """
    load = partial(load_what_is_here, rows_only=rows_only)
    prepared = prepare_run(recipe, threads=threads, rows_only=rows_only, load=load)
    preflight.check_folder(recipe, out, threads)
    recordings = preflight.recorded_models(prepared.models)
    checkers = preflight.checking_models(prepared.models)
    notes = missing_parts(recipe)
    notes += preflight.describe_run(recipe, prepared.models, prepared.problems, prepared.tests)
    tests = [] if rows_only else prepared.tests
    with using(Session()):  # nothing is recorded: the run drops them again
        problems = preflight.remove_overlap(recipe, prepared.problems, prepared.tests)
    left_out = [key for key in prepared.models if key not in recipe.roles]

    def drive_stand_ins(assumptions: Mapping[str, Assumptions]) -> DriveResult:
        return drive_with_stand_ins(
            recipe,
            problems,
            tests,
            assumptions,
            recordings,
            checkers=checkers,
            extra_roles=left_out,
            rows_only=rows_only,
        )

    if not pilot:
        driven = drive_stand_ins(assume)
        is_pilot = False
    else:
        with open_run(
            recipe,
            out,
            progress=progress,
            threads=threads,
            retry_errors=retry_errors,
            rows_only=rows_only,
        ) as run:
            piloted = pilot_run(run, problems, prepared.tests, pilot, assume=assume)
        driven = continue_pilot(piloted.driven, drive_stand_ins(piloted.measured))
        is_pilot = True
    basis = Basis(recipe, driven, len(problems), tests, assume, [*notes, *driven.notes], is_pilot)
    plan = scale_up(basis)
    if rows_only:
        plan = dataclasses.replace(plan, training_tokens={})
    preflight.check_disk(out, sum(plan.disk.values()))
    clock = LocalClock(prepared.models, out, problems, threads, probe=probe)
    return add_times(plan, basis, clock)


def pilot_run(
    run: Run,
    problems: Sequence[Trace],
    tests: Sequence[Trace],
    count: int,
    *,
    assume: Mapping[str, Assumptions],
) -> Pilot:
    """Let the real models of an open run answer some of the problems, up to the first training."""
    folder = run.folder
    overlap_reason = preflight.overlap_rule(run.recipe, tests)

    def wrapped(key: str, arm: str) -> Any:
        return folder.wrap_model(folder.models[key], role_of(key), arm)

    return drive_pilot(
        run.recipe,
        problems,
        count,
        keys=list(folder.models),
        assume=assume,
        wrapped=wrapped,
        session=partial(folder.session, overlap_reason=overlap_reason),
    )


def load_what_is_here(recipe: Recipe, threads: int, *, rows_only: bool = False) -> dict[str, Model]:
    """The models of a recipe; what is not here is loaded as far as it can be: nobody is asked."""
    models: dict[str, Model] = {}
    for key, spec in recipe.roles.items():
        if not spec:
            continue
        if missing_checkpoint(spec) is not None:
            refusal = ModelError(f"there is no checkpoint of {spec} here")
            models[key] = UnaskedStudent(spec, missing_checkpoint(spec), refusal)
        elif missing_key_variable(spec):
            models[key] = load_unreachable_model(spec, batch=recipe.batch)
        else:
            load = load_or_leave if rows_only else load_model
            models[key] = load(spec, threads=threads, batch=recipe.batch)
    if rows_only:
        models |= left_out_students(recipe, models)
    return models


def missing_parts(recipe: Recipe) -> list[str]:
    """A sentence for each role whose key or checkpoint is not here: a plan needs none, the run does."""
    sentences: list[str] = []
    for key, spec in recipe.roles.items():
        variable = missing_key_variable(spec)
        if variable:
            sentences.append(
                f"the run would stop: the {key} needs a key, and the environment variable {variable} is not set"
            )
        if missing_checkpoint(spec) is not None:
            sentences.append(f"the run would stop: there is no checkpoint of the {key} {spec} here")
    return sentences


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan is made from.

    Args:
        recipe: of the run.
        driven: by stand-ins, or in a pilot.
        problems: how many there are to train on.
        tests: the problems to measure on.
        assume: by role.
        notes: what people should know before the run.
        is_pilot: whether real models answered.
    """

    recipe: Recipe
    driven: DriveResult
    problems: int
    tests: Sequence[Trace]
    assume: Mapping[str, Assumptions]
    notes: Sequence[str] = ()
    is_pilot: bool = False


def scale_up(basis: Basis) -> Plan:
    """Scale what was driven up to the whole run."""
    driven, recipe = basis.driven, basis.recipe
    custom_prices = prices.load_custom_prices(recipe.prices)
    needs = scale_needs(basis, custom_prices)

    # What the arms train, and what all of it takes on the disk.
    rows: dict[str, RowEstimate] = {}
    for arm, drive in driven.arms.items():
        rows |= rows_by_stage(arm, drive.stages)
    training = training_sizes(basis)
    trained_tokens: dict[str, float] = {}
    for planned in planned_trainings(basis):
        row_counts = (planned.rows.rows, planned.rows.mean_tokens)
        trained_tokens[planned.name] = training_tokens(planned.settings, *row_counts)
    chars_a_token = basis.assume[""].chars
    # Of what a teacher here reads in a training, a store keeps a number.
    stored = [need for need in needs if need.model != LOCAL_WEIGHTS]
    stored_chars = sum(need.prompt + need.completion for need in stored) * chars_a_token
    stored_completions = sum(need.calls for need in needs)
    row_tokens = sum(row.rows * row.mean_tokens for row in rows.values())
    parameters = sum(training_size.parameters for training_size in training.values())
    disk = {
        "store": round(
            STORED_BYTES_A_CHAR * stored_chars + STORED_BYTES_A_COMPLETION * stored_completions
        ),
        "rows": round(ROW_BYTES_A_CHAR * row_tokens * chars_a_token),
        "students": WEIGHT_BYTES * parameters,
    }
    return Plan(
        problems=basis.problems,
        tried=round(basis.problems * driven.share),
        needs=needs,
        rows={name: row.rows for name, row in rows.items()},
        unreached=driven.unreached(),
        disk=disk,
        training=training,
        training_tokens=trained_tokens,
        measured=measured_estimates(driven) if basis.is_pilot else {},
        assumptions=list_assumptions(basis, has_training=bool(training)),
        notes=basis.notes,
        paid=paid_by_pilot(driven) if basis.is_pilot else 0.0,
    )


def scale_needs(basis: Basis, custom_prices: Mapping[str, Price]) -> list[Need]:
    """What each account needs, of the model that the recipe names and of students that are trained apart."""
    groups = sorted(basis.driven.groups, key=lambda item: PHASES.index(item[0].phase))
    parts_by_need: dict[tuple[str, str], list[tuple[RoleCalls, float]]] = {}
    for group, calls, share in groups:
        if calls.calls:
            model = model_of_group(group, basis.recipe)
            parts_by_need.setdefault((group.account, model), []).append((calls, share))
    needs: list[Need] = []
    for (account, model), parts in parts_by_need.items():
        needs.append(
            scale_need(account, model, parts, batch=basis.recipe.batch, custom_prices=custom_prices)
        )
    return needs


def model_of_group(group: CallGroup, recipe: Recipe) -> str:
    """Whom a group of calls asks: what the recipe names, a trained student, or weights that are read here."""
    if group.is_local:
        return LOCAL_WEIGHTS
    return TRAINED if group.is_trained else spec_of_role(recipe, group.role)


def spec_of_role(recipe: Recipe, role: str) -> str:
    """The model in a role; of a list all its models."""
    return ", ".join(recipe.roles[key] for key in keys_of(role, recipe.roles))


def scale_need(
    account: str,
    model: str,
    parts: Sequence[tuple[RoleCalls, float]],
    *,
    batch: bool,
    custom_prices: Mapping[str, Price],
) -> Need:
    """What an account needs in the whole run, from its calls, each part on a share of the problems."""
    calls = prompt = completion = max_completion = 0
    for part, share in parts:
        calls += round(part.calls / share)
        prompt += round(sum(part.prompts) / share)
        completion += round(sum(part.completions) / share)
        max_completion += round(sum(part.max_completions) / share)
    counts = (account, model, calls, prompt, completion, max_completion)
    price, is_free = None, True
    if model not in (TRAINED, LOCAL_WEIGHTS):
        price, is_free = price_of_spec(model, custom_prices)
    if price is None:
        money = 0.0 if is_free else None
        return Need(*counts, money=money, low=money, high=money, limit=money)

    rate = price.batch if batch else 1.0
    value = low = high = 0.0
    for part, share in parts:
        cost = mean_cost(part, price, rate)
        value += part.calls / share * cost.value
        low += max(0.0, part.calls / share * cost.low)
        high += part.calls / share * cost.high
    limit = max_cost(price, prompt, max_completion, rate)
    return Need(*counts, money=value, low=low, high=high, limit=limit)


def mean_cost(calls: RoleCalls, price: Price, rate: float) -> Estimate:
    """The mean cost of a call; without an interval where it rests on assumptions, which do not vary."""
    costs: list[float] = []
    for prompt, completion, cost in zip(calls.prompts, calls.completions, calls.costs, strict=True):
        if cost is None:
            cost = max_cost(price, round(prompt), round(completion), rate)
        costs.append(cost)
    if len(costs) < 2 or None in calls.costs:
        mean = sum(costs) / len(costs)
        return Estimate(mean, mean, mean)
    return mean_interval(costs)


def price_of_spec(spec: str, custom_prices: Mapping[str, Price]) -> tuple[Price | None, bool]:
    """The price of a spec's model, and whether it is free without one: what runs here costs what the user says."""
    name, is_local = priced_name(spec)
    table = custom_prices if is_local else {**built_in_prices(), **custom_prices}
    return find_price(name, table), is_local


def rows_by_stage(arm: str, stages: Sequence[RowEstimate]) -> dict[str, RowEstimate]:
    """The rows of an arm's stages by name: of a single stage the arm's, else `ARM/1`, `ARM/2`."""
    if len(stages) == 1:
        return {arm: stages[0]}
    if not stages:
        return {arm: RowEstimate(0, 0.0)}
    return {stage_title(arm, stage.label): stage for stage in stages}


class PlannedTraining(NamedTuple):
    """A training to come: its name in the plan, its arm, settings and rows."""

    name: str
    arm: str
    settings: TrainingSettings
    rows: RowEstimate


def planned_trainings(basis: Basis) -> list[PlannedTraining]:
    """The trainings that have rows."""
    trainings: list[PlannedTraining] = []
    for arm_name, drive in basis.driven.arms.items():
        arm = basis.recipe.arms[arm_name]
        for name, row in rows_by_stage(arm_name, drive.stages).items():
            if row.rows:
                settings = arm.training_by_stage.get(row.label, arm.training)
                trainings.append(PlannedTraining(name, arm_name, settings, row))
    return trainings


def training_sizes(basis: Basis) -> dict[str, TrainingSize]:
    """How large each training is, where the student's weights are on this machine."""
    folder = checkpoint_of(basis.recipe.roles.get(STUDENT, ""))
    if folder is None:
        return {}
    sizes: dict[str, TrainingSize] = {}
    for training in planned_trainings(basis):
        row = training.rows
        sizes[training.name] = estimate_size(folder, training.settings, row.rows, row.mean_tokens)
    return sizes


def measured_estimates(driven: DriveResult) -> dict[str, Estimate]:
    """Shares of right texts by operator and role, over problems; mean tokens of a call by role."""
    estimates: dict[str, Estimate] = {}
    for writer, by_problem in driven.rights.items():
        shares = [sum(is_right) / len(is_right) for is_right in by_problem.values()]
        if len(shares) > 1:
            texts = sum(len(is_right) for is_right in by_problem.values())
            estimates[f"{writer}: right"] = share_interval(shares, texts)
    for group, calls, _ in driven.groups:
        role = group.role
        is_real = group.phase == COLLECTION and not group.stage
        if is_real and calls.calls > 1:
            estimates[f"{role}: completion tokens a call"] = mean_interval(calls.completions)
            estimates[f"{role}: prompt tokens a call"] = mean_interval(calls.prompts)
    return estimates


def paid_by_pilot(driven: DriveResult) -> float:
    """What the calls of a pilot cost, as far as the models said."""
    total = 0.0
    for _, calls, _ in driven.groups:
        total += sum(cost or 0.0 for cost in calls.costs)
    return total


@dataclass(frozen=True, slots=True)
class LocalClock:
    """Knows, or measures, how fast the models on this machine are.

    Args:
        models: by key, as they were loaded.
        out: the folder of the run, whose store may hold earlier calls and trainings.
        problems: to train on; a probe asks some of their prompts.
        threads: CPU threads of the run.
        probe: whether to let models write and train where the store has nothing of them.
    """

    models: Mapping[str, Model]
    out: Path
    problems: Sequence[Trace]
    threads: int
    probe: bool

    def rates_of_roles(self) -> dict[str, Range]:
        """The rates of the models in a role, between the slowest and the fastest; roles without any are left out."""
        models_here = {key: model for key, model in self.models.items() if is_here(model)}
        rates_by_model = rates_in_store(
            self.out, sorted({model.id for model in models_here.values()})
        )
        by_role: dict[str, list[Range]] = {}
        for key, model in models_here.items():
            rate = rates_by_model.get(model.id)
            if rate is None and self.probe:
                rate = probe_rate(model, self.problems)
            if rate is not None:
                rates_by_model[model.id] = rate
                by_role.setdefault(role_of(key), []).append(rate)
        ranges = {}
        for role, rates in by_role.items():
            ranges[role] = Range(min(rate.low for rate in rates), max(rate.high for rate in rates))
        return ranges

    def training_rate(
        self, arm: str, settings: TrainingSettings, start: Path, row_length: float
    ) -> Range | None:
        """The rate at which an arm's training goes through its tokens; None where it is not known."""
        rate = training_rates_in_store(self.out, arm, settings)
        if rate is None and self.probe:
            rate = probe_training(start, settings, row_length, self.threads)
        return rate


def add_times(plan: Plan, basis: Basis, clock: LocalClock) -> Plan:
    """The plan with the seconds of what is written and trained on this machine, and how to learn those not known."""
    rates = clock.rates_of_roles()
    needs: list[Need] = []
    unknown: list[str] = []  # whose calls take nobody knows how long
    roles_here = {role_of(key) for key, model in clock.models.items() if is_here(model)}
    for need in plan.needs:
        role = need.role.partition("/")[0]
        writes_here = role in roles_here and need.model != LOCAL_WEIGHTS and need.completion > 0
        if writes_here and role in rates:
            need = need._replace(seconds=seconds_for(need.completion, rates[role]))
        elif writes_here:
            unknown.append(need.role)
        needs.append(need)

    # A training's time is known apart from what its student writes.
    training_seconds: dict[str, Range] = {}
    untimed: list[str] = []
    start = checkpoint_of(basis.recipe.roles.get(STUDENT, ""))
    if start is not None:
        for training in planned_trainings(basis):
            row = training.rows
            rate = clock.training_rate(training.arm, training.settings, start, row.mean_tokens)
            if rate is None:
                untimed.append(training.name)
                continue
            tokens = training_tokens(training.settings, row.rows, row.mean_tokens)
            training_seconds[training.name] = seconds_for(tokens, rate)
    notes = list(plan.notes)
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        notes.append(f"how long the calls of {names} take is not known: {HOW_TO_MEASURE_CALLS}")
    if untimed:
        names = ", ".join(untimed)
        notes.append(
            f"how long the training of {names} takes is not known: {HOW_TO_MEASURE_TRAINING}"
        )
    return dataclasses.replace(plan, needs=needs, training_seconds=training_seconds, notes=notes)


def list_assumptions(basis: Basis, *, has_training: bool) -> dict[str, Any]:
    """What a plan rests on: the assumed figures that no pilot measured, then remarks."""
    listed: dict[str, Any] = {}
    for role, assumptions in basis.assume.items():
        for name, value in dataclasses.asdict(assumptions).items():
            if not basis.is_pilot or name == "chars":
                listed[f"{role}.{name}" if role else name] = value
    if basis.is_pilot:
        listed["after the first stage"] = "stand-ins answer as the pilot's models did"
        listed["pilot"] = (
            "problems chosen by hash; intervals are over the calls, or over the problems for shares"
        )
    else:
        listed["steps"] = "a chain's steps are as right as its answer"
        listed["money"] = "nothing is cached; every completion has the assumed length"
    for name, arm in basis.driven.arms.items():
        if arm.stopped:
            listed[f"{name} stopped"] = arm.stopped
    if has_training:
        listed["memory"] = FORMULA
    return listed
