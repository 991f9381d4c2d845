"""Who plans x who codes: the table of all pairings, and how much is lost in planning and how much in carrying out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from potstill.errors import ConfigError
from potstill.evaluation.compare import compare
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import average, pass_at
from potstill.evaluation.rows import Evaluation

ORACLE = "oracle"


class Swap(NamedTuple):
    """One planner with one coder.

    Args:
        planner: who wrote the plans.
        coder: who carried them out.
        average: share of right programs (avg@n), with its interval.
        solved: share of problems of which one program is right (pass@n).
    """

    planner: str
    coder: str
    average: Estimate
    solved: Estimate


class Losses(NamedTuple):
    """Where a pairing loses what is lost, in shares of right programs.

    Args:
        planning: plans written with the solution in sight, minus the planner's own: what better plans would bring.
        implementation: 1 minus what the coder makes of those plans: what it gets wrong with a good plan.
    """

    planner: str
    coder: str
    planning: Estimate
    implementation: Estimate


def swap_matrix(evaluations: Mapping[tuple[str, str], Evaluation]) -> list[Swap]:
    """A row for each pairing of a planner and a coder, as they were measured on the same problems.

    Args:
        evaluations: (planner, coder) -> the evaluation of the solver with these two.

    Raises:
        ConfigError: the pairings were not asked the same.
    """
    _check_tasks(evaluations)
    swaps: list[Swap] = []
    for (planner, coder), evaluation in evaluations.items():
        solved = pass_at(evaluation, evaluation.n)
        swaps.append(Swap(planner, coder, average(evaluation), solved))
    return swaps


def split_losses(
    evaluations: Mapping[tuple[str, str], Evaluation], *, oracle: str = ORACLE
) -> list[Losses]:
    """For each pairing what is lost in planning and what in carrying out, against plans that saw the solution.

    Planning loss is a paired difference by problem. A negative one says that the planner's plans serve this coder
    better than the oracle's do.

    Args:
        evaluations: as for `swap_matrix`, with the oracle's plans as one of the planners.
        oracle: the name of the planner that saw the solution.
    """
    # Only coders that carried out the oracle's plans have a bound.
    coders = {coder for planner, coder in evaluations if planner == oracle}
    planners = list(dict.fromkeys(planner for planner, _ in evaluations))
    if not coders:
        raise ConfigError(f"no planner {oracle!r}", available=planners, wanted=oracle)
    _check_tasks(evaluations)
    losses: list[Losses] = []
    for (planner, coder), evaluation in evaluations.items():
        if planner == oracle or coder not in coders:
            continue
        bound = evaluations[oracle, coder]
        # What is wrong with a plan that saw the solution is the coder's own.
        value, low, high = average(bound)
        losses.append(
            Losses(
                planner,
                coder,
                planning=compare(bound, evaluation).difference,
                implementation=Estimate(1 - value, 1 - high, 1 - low),
            )
        )
    return losses


def _check_tasks(evaluations: Mapping[tuple[str, str], Evaluation]) -> None:
    """Refuse pairings that were not asked the same."""
    if not evaluations:
        raise ConfigError("no pairing of a planner and a coder", expected="at least one")
    first = next(iter(evaluations.values()))
    # Pairings are compared by problem, so they must have been asked the same.
    for evaluation in evaluations.values():
        differs = evaluation.fingerprint.differs(first.fingerprint)
        if differs:
            raise ConfigError(
                f"{evaluation.name} and {first.name} were not asked the same (unequal: {', '.join(differs)})",
                expected="the same problems, sampling and verifiers for every pairing",
            )
