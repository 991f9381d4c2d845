"""From what was driven to what a whole run needs: calls, tokens and money by role, disk, training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from potstill.budget import prices
from potstill.budget.prices import Price, built_in_prices, find_price, max_cost
from potstill.evaluation.intervals import Estimate, mean_interval, share_interval
from potstill.models.phase import account_name
from potstill.records import Progress, Trace, no_progress
from potstill.runs.dry_run import (
    Assumptions,
    DriveResult,
    RoleCalls,
    drive_pilot,
    drive_with_stand_ins,
)
from potstill.runs.experiment import load_recipe_problems, open_run
from potstill.runs.open_folder import STUDENT
from potstill.runs.recipe import Recipe
from potstill.runs.sources import checkpoint_of, priced_name
from potstill.training.memory_estimate import FORMULA, TrainingSize, estimate_size

# Measured on stores of real runs.
STORED_BYTES_A_CHAR = 1.4  # of text, payload and ledger
STORED_BYTES_A_COMPLETION = 900  # beside its text
ROW_BYTES_A_CHAR = 2.2  # JSONL, and the ledger's copy
WEIGHT_BYTES = 4  # a parameter of a stored student


class Need(NamedTuple):
    """What a role needs in a whole run; money is None where no price is known, 0 where nothing is charged.

    `prompt` and `completion` are tokens, `max_completion` is what the limits allow. `low` and `high` are the ends of
    the money's 95 % interval, `limit` is the money if every completion used all of its limit.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will need, and what that rests on.

    Args:
        problems: how many the run trains on.
        tried: on how many of them the methods were driven.
        needs: by role.
        rows: by arm, how many rows its first stage trains.
        disk: bytes of the store, the rows and the students.
        training: by arm, where the student's weights are here.
        measured: what a pilot measured, each with a 95 % interval.
        assumptions: what was assumed, by name.
        paid: what the pilot cost.
    """

    problems: int
    tried: int
    needs: Sequence[Need]
    rows: Mapping[str, int]
    disk: Mapping[str, int]
    training: Mapping[str, TrainingSize] = field(default_factory=dict)
    measured: Mapping[str, Estimate] = field(default_factory=dict)
    assumptions: Mapping[str, Any] = field(default_factory=dict)
    paid: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["needs"] = [need._asdict() for need in self.needs]
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
    threads: int = 0,
    progress: Progress = no_progress,
) -> Plan:
    """The plan of a run.

    Args:
        recipe: of the run.
        out: its folder, which a pilot writes into.
        assume: what is assumed of each role; "" of all that are not named.
        pilot: problems that the real models answer first; 0 asks nobody.
        threads: as in the run: a local model's samples depend on it.
        progress: called with (label, done, total) by a pilot.
    """
    if not pilot:
        problems, tests = load_recipe_problems(recipe)
        driven = drive_with_stand_ins(recipe, problems, assume)
        return scale_up(Basis(recipe, driven, len(problems), tests, assume))
    with open_run(recipe, out, progress=progress, threads=threads) as run:
        folder = run.folder

        def wrapped(role: str, arm: str) -> Any:
            return folder.wrap_model(folder.models[role], role, arm)

        driven = drive_pilot(recipe, run.problems, pilot, wrapped, folder.session)
        return scale_up(Basis(recipe, driven, len(run.problems), run.tests, assume, is_pilot=True))


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan is made from.

    Args:
        recipe: of the run.
        driven: by stand-ins, or in a pilot.
        problems: how many there are to train on.
        tests: the problems to measure on.
        assume: by role.
        is_pilot: whether real models answered.
    """

    recipe: Recipe
    driven: DriveResult
    problems: int
    tests: Sequence[Trace]
    assume: Mapping[str, Assumptions]
    is_pilot: bool = False


def scale_up(basis: Basis) -> Plan:
    """Scale what was driven up to the whole run."""
    driven, recipe = basis.driven, basis.recipe
    custom_prices = prices.load_custom_prices(recipe.prices)
    needs: list[Need] = []
    for role, calls in driven.calls.items():
        if calls.calls:
            spec = recipe.roles[role]
            needs.append(
                role_need(
                    role, spec, calls, driven.share, batch=recipe.batch, custom_prices=custom_prices
                )
            )
    needs += evaluation_needs(basis, custom_prices)

    # What the arms train, and what all of it takes on the disk.
    rows = {arm: round(row.rows / driven.share) for arm, row in driven.rows.items()}
    training = training_sizes(basis, rows)
    chars_a_token = basis.assume[""].chars
    stored_chars = sum(need.prompt + need.completion for need in needs) * chars_a_token
    stored_completions = sum(need.calls for need in needs)
    row_tokens = sum(rows[arm] * row.mean_tokens for arm, row in driven.rows.items())
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
        rows=rows,
        disk=disk,
        training=training,
        measured=measured_estimates(driven) if basis.is_pilot else {},
        assumptions=list_assumptions(basis, has_training=bool(training)),
        paid=paid_by_pilot(driven) if basis.is_pilot else 0.0,
    )


def role_need(
    role: str,
    spec: str,
    calls: RoleCalls,
    share: float,
    *,
    batch: bool,
    custom_prices: Mapping[str, Price],
) -> Need:
    """What a role needs in the whole run, from its calls on a share of the problems."""
    whole_calls = round(calls.calls / share)
    prompt = round(sum(calls.prompts) / share)
    completion = round(sum(calls.completions) / share)
    max_completion = round(sum(calls.max_completions) / share)
    counts = (role, spec, whole_calls, prompt, completion, max_completion)
    price, is_free = price_of_spec(spec, custom_prices)
    if price is None:
        money = 0.0 if is_free else None
        return Need(*counts, money=money, low=money, high=money, limit=money)

    rate = price.batch if batch else 1.0
    cost = mean_cost(calls, price, rate)
    return Need(
        *counts,
        money=whole_calls * cost.value,
        low=max(0.0, whole_calls * cost.low),
        high=whole_calls * cost.high,
        limit=max_cost(price, prompt, max_completion, rate),
    )


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


def evaluation_needs(basis: Basis, custom_prices: Mapping[str, Price]) -> list[Need]:
    """The answers of the untrained student, and of each arm's."""
    recipe, assume = basis.recipe, basis.assume
    student = recipe.roles.get("student")
    if not basis.tests or not student:
        return []
    # The student's own calls say how long its answers are, where it made any; otherwise what is assumed.
    account = account_name(STUDENT, "evaluation")
    assumptions = assume.get(account, assume.get(STUDENT, assume[""]))
    completion = assumptions.completion
    student_calls = basis.driven.calls.get("student")
    if student_calls is not None and student_calls.calls:
        completion = sum(student_calls.completions) / student_calls.calls
    max_tokens = recipe.evaluate.sampling.max_new_tokens
    needs: list[Need] = []
    for spec, students in ((student, 1), ("the trained students", len(recipe.arms))):
        calls = RoleCalls()
        for trace in basis.tests:
            prompt = len(str(trace.prompt)) / assumptions.chars
            for _ in range(recipe.evaluate.n * students):
                calls.add(prompt, min(completion, max_tokens), max_tokens, None)
        needs.append(
            role_need(account, spec, calls, 1.0, batch=recipe.batch, custom_prices=custom_prices)
        )
    return needs


def training_sizes(basis: Basis, rows: Mapping[str, int]) -> dict[str, TrainingSize]:
    """How large each arm's training is, where the student's weights are on this machine."""
    folder = checkpoint_of(basis.recipe.roles.get("student", ""))
    if folder is None:
        return {}
    sizes: dict[str, TrainingSize] = {}
    for name, arm in basis.recipe.arms.items():
        if rows[name]:
            mean_tokens = basis.driven.rows[name].mean_tokens
            sizes[name] = estimate_size(folder, arm.training, rows[name], mean_tokens)
    return sizes


def measured_estimates(driven: DriveResult) -> dict[str, Estimate]:
    """Shares of right texts by operator and role, over problems; mean tokens of a call by role."""
    estimates: dict[str, Estimate] = {}
    for writer, by_problem in driven.rights.items():
        shares = [sum(is_right) / len(is_right) for is_right in by_problem.values()]
        if len(shares) > 1:
            texts = sum(len(is_right) for is_right in by_problem.values())
            estimates[f"{writer}: right"] = share_interval(shares, texts)
    for role, calls in driven.calls.items():
        if calls.calls > 1:
            estimates[f"{role}: completion tokens a call"] = mean_interval(calls.completions)
            estimates[f"{role}: prompt tokens a call"] = mean_interval(calls.prompts)
    return estimates


def paid_by_pilot(driven: DriveResult) -> float:
    """What the calls of a pilot cost, as far as the models said."""
    total = 0.0
    for calls in driven.calls.values():
        total += sum(cost or 0.0 for cost in calls.costs)
    return total


def list_assumptions(basis: Basis, *, has_training: bool) -> dict[str, Any]:
    """What a plan rests on: the assumed figures that no pilot measured, then remarks."""
    listed: dict[str, Any] = {}
    for role, assumptions in basis.assume.items():
        for name, value in dataclasses.asdict(assumptions).items():
            if not basis.is_pilot or name == "chars":
                listed[f"{role}.{name}" if role else name] = value
    listed["first stage"] = (
        "a method is driven up to its first training; what it asks after that is not counted"
    )
    if basis.is_pilot:
        listed["pilot"] = (
            "problems chosen by hash; intervals are over the calls, or over the problems for shares"
        )
    else:
        listed["steps"] = "a chain's steps are as right as its answer"
        listed["money"] = "nothing is cached; every completion has the assumed length"
    for arm, row in basis.driven.rows.items():
        if row.stopped:
            listed[f"{arm} stopped"] = row.stopped
    if has_training:
        listed["memory"] = FORMULA
    return listed
