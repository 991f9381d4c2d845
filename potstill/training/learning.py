"""A task made ready: the objective bound to its constants, the teacher loaded, the reference's values in the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from potstill import objectives
from potstill.objectives.inputs import Inputs, Loss
from potstill.objectives.likelihood import likelihood
from potstill.training import items
from potstill.training.items import Batch, Item, Prepared
from potstill.training.positions import logp
from potstill.training.task import Task

SCORED_TOGETHER = 16  # rows whose reference values are computed at once

Roll = Callable[[Any, list[Batch], int], list[Batch]]


@dataclass(frozen=True, slots=True)
class Learning:
    """What a loop needs to know of its objective.

    Args:
        objective: of inputs alone.
        per: what the normaliser counts.
        mean: for a loss of a token, what it is averaged over.
        longest: the length that the "fixed" mean divides by.
        needs: see `objectives.Entry`.
        teacher: a model without gradients.
        reference: a model without gradients; None is the student as it starts.
        roll: replaces a step's micro-batches by what the student writes.
        packing: rows lie one after another in the models' forward passes.
    """

    objective: Callable[[Inputs], Loss]
    per: objectives.Per = "token"
    mean: Literal["token", "sequence", "fixed"] = "token"
    longest: int = 1
    needs: tuple[str, ...] = ()
    teacher: Any = None
    reference: Any = None
    roll: Roll | None = None
    packing: bool = False

    def prepared(self, model: Any, rows: Sequence[Item]) -> list[list[Prepared]]:
        """The rows as tensors, with the reference's log-probabilities where they are needed."""
        made = [[items.prepared(row, liked=at == 0) for at, row in enumerate(item)] for item in rows]
        if "reference" not in self.needs:
            return made
        reference = self.reference or model
        was = reference.training
        reference.eval()
        flat = sorted((row for item in made for row in item), key=lambda row: len(row.columns["ids"]))
        for start in range(0, len(flat), SCORED_TOGETHER):
            part = flat[start : start + SCORED_TOGETHER]
            values = logp(reference, items.to(items.collate([[row] for row in part]), reference.device)).cpu()
            for row, column in zip(part, values):
                row.columns["reference"] = column[: len(row.columns["ids"])].clone()  # type: ignore[index]
        reference.train(was)
        return made

    def window(self, model: Any, window: list[Batch], step: int) -> list[Batch]:
        """A step's micro-batches, as they are or as the student writes them."""
        return self.roll(model, window, step) if self.roll else window

    def counts(self, batch: Batch) -> Tensor:
        """What a micro-batch adds to the normaliser."""
        weights = batch["weights"]
        if self.per == "pair":
            return torch.tensor(float(len(batch["pairs"])), device=weights.device)
        if self.per == "sequence" or self.mean != "token":
            sequences = (weights[:, 1:] > 0).any(1).sum().float()
            return sequences * self.longest if self.mean == "fixed" else sequences
        return weights.sum()

    def weighted(self, x: Inputs) -> Inputs:
        """The inputs with the weights of the mean."""
        if self.per != "token" or self.mean != "sequence" or x.weights_N is None:
            return x
        return dataclasses.replace(x, weights_N=x.weights_N / x.lengths()[x.groups])


SUPERVISED = Learning(likelihood)


def learning(task: Task, model: Any, *, roll: Roll | None = None, packing: bool = False) -> Learning:
    """A task made ready for a student."""
    found = objectives.entry(task.objective)
    return Learning(
        partial(objectives.find(task.objective), **task.constants),
        found.per,
        task.mean,
        task.max_new,
        found.needs,
        frozen(task.teacher, model) if task.teacher else None,
        frozen(task.reference, model) if task.reference else None,
        roll,
        packing,
    )


def frozen(path: Path, like: Any) -> Any:
    """A checkpoint for forward passes only, on the student's device and in its own dtype (fp32 on a CPU)."""
    from potstill.models import weights

    model = weights.load(path, weights.dtype("auto", like.device.type))
    return model.to(like.device).eval().requires_grad_(False)
