"""What a training did, in numbers that a person or a program reads: totals, losses, shares of cut rollouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import FitResult
from potstill.training.step_log import STEPS_FILE

NOTED_CUT_SHARE = 0.5  # share of rollouts cut at their limit from which a note says so
TOTALS = ("rows", "steps", "tokens", "loss_tokens", "threads")


class Tenths(NamedTuple):
    """Means over the first and the last tenth of the steps: single steps hold different rows."""

    first: float
    last: float


class TrainingSummary(NamedTuple):
    """A finished training.

    Args:
        totals: plain numbers by name, losses and shares among them.
        statistics: each of the objective's statistics at the beginning and at the end.
        notes: sentences about what is no mistake and yet worth knowing.
    """

    totals: Mapping[str, Any]
    statistics: Mapping[str, Tenths]
    notes: tuple[str, ...]


def summarise(result: FitResult, output_dir: Path, config: ObjectiveConfig) -> TrainingSummary:
    """The summary of a training from its result and the steps that it wrote."""
    steps = read_steps(output_dir)
    totals: dict[str, Any] = {"objective": config.objective}
    for name in TOTALS:
        totals[name] = getattr(result, name)
    totals["skipped"] = dict(result.skipped)
    totals["seconds"] = round(result.seconds, 1)
    if result.losses:
        losses = mean_of_tenths(result.losses)
        totals["loss_first_tenth"] = round(losses.first, 4)
        totals["loss_last_tenth"] = round(losses.last, 4)

    notes = list(config.notes())
    cut_shares = [step["truncated"] for step in steps if "truncated" in step]
    if cut_shares:
        share = round(sum(cut_shares) / len(cut_shares), 4)
        totals["cut_rollouts"] = share
        if share > NOTED_CUT_SHARE:
            notes.append(_cut_note(share, config))

    statistics = {}
    for name in result.stats if steps else ():
        statistics[name] = mean_of_tenths([step[name] for step in steps if name in step])
    return TrainingSummary(totals, statistics, tuple(notes))


def read_steps(output_dir: Path) -> list[dict[str, float]]:
    """What was measured at each step; empty where nothing was written."""
    file = output_dir / STEPS_FILE
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def mean_of_tenths(values: Sequence[float]) -> Tenths:
    """Means over the first and the last tenth of the values, of one value at least."""
    size = max(1, len(values) // 10)
    return Tenths(sum(values[:size]) / size, sum(values[-size:]) / size)


def _cut_note(share: float, config: ObjectiveConfig) -> str:
    consequence = "the student learns texts without an end"
    if config.mask_truncated_completions:
        consequence = "cut texts are not learnt"
    return (
        f"{share:.0%} of what the student wrote was cut at max_new_tokens={config.max_new_tokens}: "
        f"{consequence}; --set max_new_tokens=…"
    )
