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
from potstill.records import Progress, Trace, no_progress
from potstill.runs.dry_run import Asked, Assumptions, Driven, dry
from potstill.runs.dry_run import pilot as tried
from potstill.runs.experiment import load_recipe_problems, open_run
from potstill.runs.recipe import Recipe
from potstill.runs.sources import checkpoint_of, priced
from potstill.training.memory_estimate import FORMULA, Size, size

STORED = (
    1.4,
    900,
)  # bytes a stored character (text, payload, ledger), and bytes a completion beside its text
ROW = 2.2  # bytes a row's character: JSONL, and the ledger's copy
EVALUATION = "evaluation"


class Need(NamedTuple):
    """What a role needs in a whole run; money is None where no price is known, 0 where nothing is charged."""

    role: str
    model: str
    calls: int
    prompt: int
    completion: int
    most: int
    money: float | None
    low: float | None
    high: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will need, and what that rests on.

    Args:
        needs: by role.
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
    training: Mapping[str, Size] = field(default_factory=dict)
    measured: Mapping[str, Estimate] = field(default_factory=dict)
    assumptions: Mapping[str, Any] = field(default_factory=dict)
    paid: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain | {
            "needs": [need._asdict() for need in self.needs],
            "training": {
                arm: {**s._asdict(), "memory": s.memory} for arm, s in self.training.items()
            },
            "measured": {name: found._asdict() for name, found in self.measured.items()},
        }


def foresee(
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
    own = prices.load_custom_prices(recipe.prices)
    if not pilot:
        problems, tests = load_recipe_problems(recipe)
        driven = dry(recipe, problems, assume)
        return estimate(recipe, driven, (len(problems), tests), assume, own)
    with open_run(recipe, out, progress=progress, threads=threads) as run:
        folder = run.folder

        def wrapped(role: str, arm: str) -> Any:
            return folder.wrap_model(folder.models[role], role, arm)

        driven = tried(recipe, run.problems, pilot, wrapped, folder.session)
        counts = (len(run.problems), run.tests)
        return estimate(recipe, driven, counts, assume, own, piloted=True)


def estimate(
    recipe: Recipe,
    driven: Driven,
    counts: tuple[int, Sequence[Trace]],
    assume: Mapping[str, Assumptions],
    own: Mapping[str, Price],
    *,
    piloted: bool = False,
) -> Plan:
    """Scale what was driven up to the whole run.

    Args:
        recipe: of the run.
        driven: by stand-ins, or in a pilot.
        counts: how many problems there are to train on, and the problems to measure on.
        assume: by role.
        own: the user's prices.
        piloted: whether real models answered.
    """
    problems, tests = counts
    needs = [
        _need(recipe, role, asked, driven.share, own)
        for role, asked in driven.asked.items()
        if asked.calls
    ]
    needs += _evaluated(recipe, tests, assume, driven, own)
    rows = {arm: round(made / driven.share) for arm, (made, _) in driven.rows.items()}
    chars = assume[""].chars
    text = sum(need.prompt + need.completion for need in needs) * chars
    trained = sum(rows[arm] * tokens for arm, (_, tokens) in driven.rows.items()) * chars
    training = _trained(recipe, driven, rows)
    return Plan(
        problems=problems,
        tried=round(problems * driven.share),
        needs=needs,
        rows=rows,
        disk={
            "store": round(STORED[0] * text + STORED[1] * sum(need.calls for need in needs)),
            "rows": round(ROW * trained),
            "students": sum(4 * s.parameters for s in training.values()),
        },
        training=training,
        measured=_measured(driven) if piloted else {},
        assumptions=_assumptions(assume, piloted=piloted, steps=bool(training)),
        paid=sum(cost or 0.0 for asked in driven.asked.values() for cost in asked.costs)
        if piloted
        else 0.0,
    )


def _need(recipe: Recipe, role: str, asked: Asked, part: float, own: Mapping[str, Price]) -> Need:
    spec, calls = recipe.roles[role], round(asked.calls / part)
    prompt, completion, limit = (
        sum(asked.prompts) / part,
        sum(asked.completions) / part,
        sum(asked.most) / part,
    )
    price, free = _price(spec, own)
    if price is None:
        money: tuple[float | None, ...] = (0.0,) * 4 if free else (None,) * 4
        return Need(role, spec, calls, round(prompt), round(completion), round(limit), *money)
    rate = price.batch if recipe.batch else 1.0
    costs = [
        max_cost(price, round(p), round(c), rate) if cost is None else cost
        for p, c, cost in zip(asked.prompts, asked.completions, asked.costs, strict=True)
    ]
    value = sum(costs) / len(costs)
    sure = (
        len(costs) < 2 or None in asked.costs
    )  # what was assumed does not vary as what is measured does
    found = Estimate(value, value, value) if sure else mean_interval(costs)
    ends = (calls * found.value, max(0.0, calls * found.low), calls * found.high)
    whole = max_cost(price, round(prompt), round(limit), rate)
    return Need(role, spec, calls, round(prompt), round(completion), round(limit), *ends, whole)


def _price(spec: str, own: Mapping[str, Price]) -> tuple[Price | None, bool]:
    """The price of a spec's model, and whether it is free without one."""
    name, local = priced(spec)
    return find_price(name, own if local else {**built_in_prices(), **own}), local


def _evaluated(
    recipe: Recipe,
    tests: Sequence[Trace],
    assume: Mapping[str, Assumptions],
    driven: Driven,
    own: Mapping[str, Price],
) -> list[Need]:
    """The answers of the untrained student, and of each arm's."""
    student = recipe.roles.get("student")
    if not tests or not student:
        return []
    told = assume.get(EVALUATION, assume.get("student", assume[""]))
    found = driven.asked.get("student")
    long = sum(found.completions) / found.calls if found and found.calls else told.completion
    limit, n = recipe.evaluate.sampling.max_tokens, recipe.evaluate.n
    needs = []
    for role, spec, times in (
        (EVALUATION, student, 1),
        (EVALUATION, "the trained students", len(recipe.arms)),
    ):
        asked = Asked()
        for trace in tests:
            asked.prompts += [len(str(trace.prompt)) / told.chars] * (n * times)
        asked.completions, asked.most = [min(long, limit)] * asked.calls, [limit] * asked.calls
        asked.costs = [None] * asked.calls
        needs.append(_need(dataclasses.replace(recipe, roles={role: spec}), role, asked, 1.0, own))
    return needs


def _trained(recipe: Recipe, driven: Driven, rows: Mapping[str, int]) -> dict[str, Size]:
    folder = checkpoint_of(recipe.roles.get("student", ""))
    if folder is None:
        return {}
    return {
        name: size(folder, arm.training, rows[name], driven.rows[name][1])
        for name, arm in recipe.arms.items()
        if rows[name]
    }


def _measured(driven: Driven) -> dict[str, Estimate]:
    """Shares of right texts by operator and role, over problems; mean tokens of a call by role."""
    found: dict[str, Estimate] = {}
    for name, problems in driven.rights.items():
        values = [sum(marks) / len(marks) for marks in problems.values()]
        if len(values) > 1:
            found[f"{name}: right"] = share_interval(values, sum(map(len, problems.values())))
    for role, asked in driven.asked.items():
        if asked.calls > 1:
            found[f"{role}: completion tokens a call"] = mean_interval(asked.completions)
            found[f"{role}: prompt tokens a call"] = mean_interval(asked.prompts)
    return found


def _assumptions(
    assume: Mapping[str, Assumptions], *, piloted: bool, steps: bool
) -> dict[str, Any]:
    names = {}
    for role, told in assume.items():
        for name, value in dataclasses.asdict(told).items():
            if not piloted or name == "chars":
                names[f"{role}.{name}" if role else name] = value
    remarks = {
        "first stage": "a method is driven up to its first training; what it asks after that is not counted"
    }
    if not piloted:
        remarks["steps"] = "a chain's steps are as right as its answer"
        remarks["money"] = "nothing is cached; every completion has the assumed length"
    else:
        remarks["pilot"] = (
            "problems chosen by hash; intervals are over the calls, or over the problems for shares"
        )
    if steps:
        remarks["memory"] = FORMULA
    return {**names, **remarks}
