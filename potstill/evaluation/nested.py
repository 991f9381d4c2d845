"""Answers that were made in two steps, M plans with T programs each: the surface solve@(M,T) and what a shape costs.

Programs of one plan are not exchangeable with those of another, so pass@k of all of them together is no estimate for
any shape; one draw of M0 plans with T0 programs gives every shape up to M0 x T0 (`metrics.solve_at_plans`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from potstill.errors import ConfigError, InputError
from potstill.evaluation.cost_curves import CostPoint
from potstill.evaluation.intervals import Estimate, share_interval
from potstill.evaluation.metrics import ballot_of, count_by_plan, solve_for_plans, usage_per_answer
from potstill.evaluation.rows import Evaluation
from potstill.traces.usage import Usage


class Shape(NamedTuple):
    """M plans, and T programs of each."""

    plans: int
    programs: int

    def __str__(self) -> str:
        return f"{self.plans}x{self.programs}"


class ShapeCost(NamedTuple):
    """What one plan takes of a planner, and one program of a coder, the reading of problem and plan included.

    The cost of a shape is `M (in_R + out_R) + M T (in_C + plan + out_C)`; `plan` and `program` are tokens or money.
    """

    plan: float
    program: float

    def of(self, shape: Shape) -> float:
        """The cost of M plans and M T programs."""
        return shape.plans * self.plan + shape.plans * shape.programs * self.program


class Diversity(NamedTuple):
    """Whether plans bring other answers than more programs of one plan do.

    Args:
        same_plan: share of pairs of answers from one plan that are equal; None where no plan has two.
        other_plans: share of pairs from two plans of one problem that are equal; None where no problem has two.
        distinct: mean number of different answers to a problem.
        problems: how many there are.
    """

    same_plan: float | None
    other_plans: float | None
    distinct: float
    problems: int


def is_nested(evaluation: Evaluation) -> bool:
    """Whether the answers to some problem descend from more than one plan."""
    return any(len(count_by_plan(row)) > 1 for row in evaluation.rows)


def largest_shape(evaluation: Evaluation) -> Shape:
    """The most plans, and programs of each plan, that every problem has."""
    # The smallest of all problems: a shape must be there for each of them.
    plans = programs = 0
    for row in evaluation.rows:
        sizes = [size for size, _ in count_by_plan(row)]
        plans = min(plans or len(sizes), len(sizes))
        programs = min(programs or min(sizes), *sizes)
    return Shape(plans, programs)


def solve_surface(evaluation: Evaluation, shapes: Sequence[Shape] = ()) -> dict[Shape, Estimate]:
    """solve@(M,T) of every shape, with 95 % intervals clustered by problem.

    Args:
        evaluation: whose answers have plans as their parents.
        shapes: which ones; all up to `largest_shape` where there are none.

    Raises:
        ConfigError: a shape has more plans or programs than every problem has.
    """
    largest = largest_shape(evaluation)
    wanted = list(shapes)
    if not wanted:
        for programs in range(1, largest.programs + 1):
            wanted += [Shape(plans, programs) for plans in range(1, largest.plans + 1)]
    for shape in wanted:
        if not (1 <= shape.plans <= largest.plans and 1 <= shape.programs <= largest.programs):
            raise ConfigError(
                f"solve@({shape.plans},{shape.programs}) can't be estimated from {largest} answers a problem",
                expected=f"at most {largest.plans} plans with {largest.programs} programs each",
            )
    # What intervals are made of: a value a problem, and how many answers stand behind all of them.
    samples = sum(row.n for row in evaluation.rows)
    counts = [count_by_plan(row) for row in evaluation.rows]
    # For each number of programs one pass over a problem's plans gives all numbers of plans.
    solved: dict[int, list[list[float]]] = {}
    for programs in sorted({shape.programs for shape in wanted}):
        solved[programs] = [solve_for_plans(plan_counts, programs) for plan_counts in counts]
    surface: dict[Shape, Estimate] = {}
    for shape in sorted(wanted):
        values = [by_plans[shape.plans - 1] for by_plans in solved[shape.programs]]
        surface[shape] = share_interval(values, samples)
    return surface


def measure_diversity(evaluation: Evaluation) -> Diversity:
    """How often answers are equal within a plan and between plans; an answer that votes for nothing is in no pair.

    Where the two shares are equal, plans differ in words only: ten plans are then one plan with ten programs.
    """
    equal = {True: 0, False: 0}
    pairs = {True: 0, False: 0}
    distinct = 0
    for row in evaluation.rows:
        ballots = [(answer.group, ballot_of(answer)) for answer in row.answers]
        voting = [(group, ballot) for group, ballot in ballots if ballot is not None]
        distinct += len({ballot for _, ballot in voting})
        # All pairs of answers to one problem, once each.
        for (group, ballot), (other_group, other_ballot) in itertools.combinations(voting, 2):
            is_same_plan = group == other_group
            pairs[is_same_plan] += 1
            equal[is_same_plan] += ballot == other_ballot
    # A single program of each plan leaves no pair within one.
    shares: dict[bool, float | None] = {True: None, False: None}
    for is_same_plan, count in pairs.items():
        if count:
            shares[is_same_plan] = equal[is_same_plan] / count
    problems = len(evaluation.rows)
    return Diversity(shares[True], shares[False], distinct / problems, problems)


def measure_shape_cost(
    evaluation: Evaluation, planner: str, coder: str, *, unit: str = "tokens"
) -> ShapeCost:
    """What a plan and a program took on average, from the usage of the two roles.

    Args:
        evaluation: whose solver asked the two roles.
        planner: the role that writes plans, as `usage_per_answer` names it.
        coder: the role that writes programs; one model in both roles must be asked under two names.
        unit: "tokens" (read and written) or "usd".

    Raises:
        InputError: a role was never asked.
    """
    # Everything that the two roles were asked, over all plans and all programs.
    plans = programs = 0
    totals = {planner: Usage(), coder: Usage()}
    for row in evaluation.rows:
        counts = count_by_plan(row)
        plans += len(counts)
        programs += row.n
        for role, total in totals.items():
            used = row.usage.get(role, Usage())
            totals[role] = Usage(*(a + b for a, b in zip(total, used, strict=True)))
    for role, total in totals.items():
        if not total.calls:
            available = list(usage_per_answer(evaluation))
            raise InputError(f"the role {role!r} was never asked", available=available, wanted=role)
    return ShapeCost(
        usage_amount(totals[planner], unit) / plans, usage_amount(totals[coder], unit) / programs
    )


def find_shape_cost(evaluation: Evaluation, *, unit: str = "tokens") -> ShapeCost | None:
    """What a plan and a program took, where the calls tell who wrote which; None where they don't.

    The planner is the role with as many calls as there are plans, the coder the one with as many as there are
    programs. A solver that asks more than two roles, or either more than once, is measured by `measure_shape_cost`.
    """
    # One call a plan and one a program is what a solver of two steps asks.
    plans = sum(len(count_by_plan(row)) for row in evaluation.rows)
    programs = sum(row.n for row in evaluation.rows)
    calls: dict[str, float] = {}
    for row in evaluation.rows:
        for role, used in row.usage.items():
            calls[role] = calls.get(role, 0) + used.calls
    planners = [role for role, count in calls.items() if count == plans]
    coders = [role for role, count in calls.items() if count == programs]
    if len(calls) != 2 or len(planners) != 1 or len(coders) != 1 or planners == coders:
        return None
    return measure_shape_cost(evaluation, planners[0], coders[0], unit=unit)


def usage_amount(usage: Usage, unit: str) -> float:
    """Tokens read and written, or money in USD."""
    if unit == "tokens":
        return usage.prompt_tokens + usage.completion_tokens
    if unit == "usd":
        return usage.cost
    raise ConfigError(f"usage in {unit!r}", available=("tokens", "usd"), wanted=unit)


def surface_points(surface: dict[Shape, Estimate], cost: ShapeCost) -> list[CostPoint]:
    """The shapes as points of cost and solve@(M,T), for `pareto_front` and `iso_cost`."""
    points: list[CostPoint] = []
    for shape, estimate in surface.items():
        points.append(CostPoint(str(shape), cost.of(shape), estimate.value))
    return points
