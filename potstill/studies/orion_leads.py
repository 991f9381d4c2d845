"""What the figures of a world of `orion-arms` say of ORION's lead over each other arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from potstill.evaluation.intervals import Estimate
from potstill.studies import arms
from potstill.studies.orion_worlds import ARMS, OWN, UNTRAINED, Regime, World

CLAIM = 0.02  # "over 2 % above all baselines" (arXiv:2505.22131), read as points of accuracy


class WorldPage(NamedTuple):
    """A world with its figures, as `orion_figures.collect` returns them."""

    world: World
    figures: Mapping[str, Any]

    def cells(self, regime: Regime) -> Mapping[str, Mapping[str, Any]]:
        """By arm and seed, what came out in a regime."""
        cells: Mapping[str, Mapping[str, Any]] = self.figures["cells"].get(regime, {})
        return cells

    def title(self, regime: Regime) -> str:
        """What the page calls the world's part of a regime."""
        return f"{self.world.title}, {regime}"

    def count_measured(self) -> int:
        """How many cells of the grid are measured."""
        count = 0
        for regime in self.world.regimes:
            count += sum(len(by_seed) for by_seed in self.cells(regime).values())
        return count


def paired_runs(
    cells: Mapping[str, Mapping[str, Any]], arm: str, base: str, shares: str = "shares"
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] | None:
    """The runs of two arms with the seeds that both have; None where there is none.

    Args:
        cells: by arm and seed.
        arm: one of the two.
        base: the other.
        shares: which measure stands for "shares" in them.
    """
    seeds = [seed for seed in cells.get(arm, {}) if seed in cells.get(base, {})]
    pairs: list[list[Mapping[str, Any]]] = []
    for name in (arm, base):
        runs: list[Mapping[str, Any]] = []
        for seed in seeds:
            run = cells[name][seed]
            if any(share is None for share in run[shares]):
                return None  # steps that can't be judged
            runs.append({**run, "shares": run[shares]})
        pairs.append(runs)
    return (pairs[0], pairs[1]) if seeds else None


def lead(
    cells: Mapping[str, Mapping[str, Any]], arm: str, base: str, shares: str = "shares"
) -> Estimate | None:
    """An arm's lead over another in [-1, 1], over the seeds that both have; None where it can't be said."""
    runs = paired_runs(cells, arm, base, shares)
    return arms.difference(*runs) if runs is not None else None


def judge_claim(estimate: Estimate) -> str:
    """Whether a lead is more than 2 points: yes or no where the whole interval says so, else open."""
    if estimate.low > CLAIM:
        return "yes"
    return "no" if estimate.high <= CLAIM else "open"


def other_arms(page: WorldPage, regime: Regime) -> list[str]:
    """What ORION is compared with in a regime: the untrained student and the arms that were measured."""
    cells = page.cells(regime)
    return [name for name in [UNTRAINED, *page.world.arms] if name != OWN and name in cells]


def kind_of(arm: str) -> str:
    """What an arm is to ORION."""
    if arm == UNTRAINED:
        return "start"
    return "control" if ARMS[arm].is_control else "baseline"
