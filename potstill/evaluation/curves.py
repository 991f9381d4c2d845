"""pass@k and maj@k over the number of answers, with what k answers take: accuracy against tokens and money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from potstill.evaluation.cost_curves import CostPoint, pareto_front
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import (
    check_ks,
    majority_at,
    mean_tokens,
    pass_at,
    usage_per_answer,
)
from potstill.evaluation.rows import Evaluation

Unit: TypeAlias = Literal["tokens", "usd"]


class CurvePoint(NamedTuple):
    """An arm with k answers a problem.

    Args:
        passed: pass@k, what a judge that knows the right answer would pick.
        majority: maj@k, what a vote picks.
        tokens: that k answers take of all roles, read and written; written alone where no usage was kept.
        usd: that k answers cost.
    """

    arm: str
    k: int
    passed: Estimate
    majority: Estimate
    tokens: float
    usd: float


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, … up to n, and n itself."""
    ks = [2**power for power in range(n.bit_length())]
    return ks if ks[-1] == n else [*ks, n]


def k_curve(evaluation: Evaluation, ks: Sequence[int] = ()) -> list[CurvePoint]:
    """The curve of an arm over k; powers of two and n where no ks are given."""
    check_ks(ks, evaluation.n)
    # Of all roles: an answer that took a plan or a vote costs these too.
    usage = usage_per_answer(evaluation)
    tokens = sum(used.prompt_tokens + used.completion_tokens for used in usage.values())
    usd = sum(used.cost for used in usage.values())
    if not usage:
        tokens = mean_tokens(evaluation).value
    points: list[CurvePoint] = []
    # k answers take k times what one takes, prompts included.
    for k in ks or powers_of_two(evaluation.n):
        passed, majority = pass_at(evaluation, k), majority_at(evaluation, k)
        points.append(CurvePoint(evaluation.name, k, passed, majority, k * tokens, k * usd))
    return points


def curve_fronts(
    points: Sequence[CurvePoint], unit: Unit = "tokens"
) -> Mapping[str, set[tuple[str, int]]]:
    """The points that no other one beats in cost and accuracy, for pass@k and for maj@k, as (arm, k).

    Args:
        points: of all arms that are compared.
        unit: what they cost: tokens or money.
    """
    fronts: dict[str, set[tuple[str, int]]] = {}
    # Two fronts: an arm may be the cheapest way to hold a right answer and no cheap way to elect one.
    for measure in ("passed", "majority"):
        by_name: dict[str, tuple[str, int]] = {}
        cost_points: list[CostPoint] = []
        for point in points:
            name = f"{point.k} {point.arm}"
            by_name[name] = (point.arm, point.k)
            value: Estimate = getattr(point, measure)
            cost: float = getattr(point, unit)
            cost_points.append(CostPoint(name, cost, value.value))
        fronts[measure] = {by_name[point.name] for point in pareto_front(cost_points)}
    return fronts
