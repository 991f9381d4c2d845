"""Accuracy against what it cost: fronts, equal budgets, area under a curve, the cost of a target, matched baselines.

A point is an arm, a shape or a size of training set, with its cost in any one unit (tokens, USD, FLOPs) and its
accuracy. What is compared must be counted in the same unit and from the same beginning: `total_cost.py` counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from potstill.errors import ConfigError, InputError


class CostPoint(NamedTuple):
    """Something that was measured: its name, what it cost, and its accuracy (or another value that is to be high)."""

    name: str
    cost: float
    value: float


class IsoCost(NamedTuple):
    """The best that a budget buys.

    Args:
        budget: what may be spent.
        best: the point of the highest value among the affordable; None where nothing is.
        affordable: how many points cost at most the budget.
    """

    budget: float
    best: CostPoint | None
    affordable: int


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other one beats: none is at least as good for no more, and better in one of the two.

    Returns:
        In order of cost; points that are equal in both are all there.
    """
    front: list[CostPoint] = []
    best_value = -math.inf
    # From the cheapest up, of equal costs the best first: what does not raise the best value is beaten.
    for point in sorted(_check_points(points), key=lambda p: (p.cost, -p.value)):
        if point.value > best_value:
            front.append(point)
            best_value = point.value
        elif front and (point.cost, point.value) == (front[-1].cost, front[-1].value):
            front.append(point)
    return front


def iso_cost(points: Sequence[CostPoint], budgets: Sequence[float] = ()) -> list[IsoCost]:
    """For each budget the best affordable point; of equal values the cheaper one.

    Args:
        points: such as the shapes of `nested.surface_points`.
        budgets: in the unit of the points; the costs of the points on the Pareto front where there are none.
    """
    _check_points(points)
    if not budgets:
        budgets = [point.cost for point in pareto_front(points)]
    # Of equally good points the cheaper one, then the name: the same table whatever the order of the points.
    rows: list[IsoCost] = []
    for budget in budgets:
        # A budget that is a point's own cost, computed another way, buys that point.
        affordable = [
            point
            for point in points
            if point.cost <= budget or math.isclose(point.cost, budget, rel_tol=1e-9)
        ]
        best = min(affordable, key=lambda p: (-p.value, p.cost, p.name), default=None)
        rows.append(IsoCost(budget, best, len(affordable)))
    return rows


def area_under_curve(
    points: Sequence[CostPoint], low: float | None = None, high: float | None = None
) -> float:
    """The mean accuracy over a range of costs: the area under straight lines between the points, over its width.

    Two arms are compared on one range, which both must cover: beyond its ends a curve is not known.

    Args:
        points: of one arm, at different costs.
        low: where the range begins; the cheapest point's cost where it is None.
        high: where it ends; the dearest point's cost where it is None.

    Raises:
        InputError: the curve does not cover the range, or has two points of one cost.
    """
    curve = _order_curve(points)
    low = curve[0].cost if low is None else low
    high = curve[-1].cost if high is None else high
    if not curve[0].cost <= low < high <= curve[-1].cost:
        raise InputError(
            f"a curve from {curve[0].cost:g} to {curve[-1].cost:g} on the range from {low:g} to {high:g}",
            expected="a range that the curve covers",
            fix="measure at more costs, or compare on the range that all arms cover (`shared_range`)",
        )
    # The ends of the range, and what was measured between them.
    corners = [CostPoint("", low, interpolate(curve, low))]
    corners += [point for point in curve if low < point.cost < high]
    corners.append(CostPoint("", high, interpolate(curve, high)))
    # Trapezoids between neighbouring corners; over the width they are a mean.
    area = 0.0
    for left, right in itertools.pairwise(corners):
        area += (right.cost - left.cost) * (left.value + right.value) / 2
    return area / (high - low)


def shared_range(curves: Sequence[Sequence[CostPoint]]) -> tuple[float, float]:
    """The costs that all curves cover, for `area_under_curve`.

    Raises:
        InputError: there are none: one arm's cheapest point costs more than another one's dearest.
    """
    # What all cover begins where the last curve begins and ends where the first one ends.
    ends: list[tuple[float, float]] = []
    for curve in curves:
        costs = [point.cost for point in _check_points(curve)]
        ends.append((min(costs), max(costs)))
    low = max(first for first, _ in ends)
    high = min(last for _, last in ends)
    if low >= high:
        raise InputError(
            f"the curves share no range of costs: one begins at {low:g}, another ends at {high:g}",
            expected="arms that were measured at overlapping costs",
            fix="give the cheaper arm more rows, or the dearer one fewer",
        )
    return low, high


def cost_to_reach(points: Sequence[CostPoint], target: float) -> float | None:
    """The least cost at which straight lines between the points reach a value; None where they never do.

    A curve that is above the target at its cheapest point has reached it there: below that, nothing was measured.
    """
    curve = _order_curve(points)
    # The first crossing: a curve that falls back later has reached it all the same.
    if curve[0].value >= target:
        return curve[0].cost
    for left, right in itertools.pairwise(curve):
        if left.value < target <= right.value:
            share = (target - left.value) / (right.value - left.value)
            return left.cost + share * (right.cost - left.cost)
    return None


def interpolate(points: Sequence[CostPoint], cost: float) -> float:
    """The value at a cost on straight lines between the points; beyond their ends it is not known.

    Raises:
        InputError: the cost lies beyond the ends.
    """
    curve = _order_curve(points)
    if not curve[0].cost <= cost <= curve[-1].cost:
        raise InputError(
            f"a curve from {curve[0].cost:g} to {curve[-1].cost:g} says nothing of {cost:g}",
            expected="a cost between its ends",
        )
    for left, right in itertools.pairwise(curve):
        if cost <= right.cost:
            share = (cost - left.cost) / (right.cost - left.cost)
            return left.value + share * (right.value - left.value)
    return curve[-1].value


def matched_budget(annotations: int, extra_cost: float, annotation_cost: float) -> int:
    """How many annotations a baseline gets that spends on annotations what another arm spends on choosing.

    `B' = B + C / c`, rounded down: `C` is what choosing took, `c` what one annotation takes, in one unit.

    Args:
        annotations: B, which the arm that chooses gets.
        extra_cost: C, as it was measured: the tokens, money or FLOPs of the selection.
        annotation_cost: c, as it was measured: the mean over the annotations of the arm.

    Raises:
        ConfigError: a cost is negative, or an annotation costs nothing.
    """
    if annotations < 0 or not extra_cost >= 0 or not annotation_cost > 0:
        raise ConfigError(
            f"annotations={annotations}, extra_cost={extra_cost}, annotation_cost={annotation_cost}",
            expected="a number of annotations, a cost of 0 or more, and an annotation that costs something",
            fix="measure both costs in one unit: tokens, USD or FLOPs",
        )
    # Whole numbers that a division just misses, as 3 * 0.1 / 0.1, are whole numbers.
    return annotations + math.floor(extra_cost / annotation_cost + 1e-9)


def _order_curve(points: Sequence[CostPoint]) -> list[CostPoint]:
    curve = sorted(_check_points(points), key=lambda point: point.cost)
    for left, right in itertools.pairwise(curve):
        if left.cost == right.cost:
            raise InputError(
                f"two points of the cost {left.cost:g}: {left.name!r} and {right.name!r}",
                expected="one value a cost",
                fix="average the seeds of a size before",
            )
    return curve


def _check_points(points: Sequence[CostPoint]) -> Sequence[CostPoint]:
    if not points:
        raise InputError("no point of cost and accuracy", expected="at least one")
    # A cost that nobody knows is no infinite one: such a point has no place on a curve.
    for point in points:
        if not math.isfinite(point.cost) or not math.isfinite(point.value):
            raise InputError(
                f"the point {point.name!r} has cost {point.cost} and value {point.value}",
                expected="finite numbers",
            )
    return points
