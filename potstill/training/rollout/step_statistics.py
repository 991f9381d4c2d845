"""What only a whole step knows, before any micro-batch is learnt: KTO's kl, MiniLLM's whitened returns.

Both are means over the step's rows. Taken over one micro-batch they would change with how the step is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from potstill.objectives.inputs import Inputs
from potstill.objectives.policy import normalised_returns, whitened
from potstill.training import distributed
from potstill.training.dataset import collate
from potstill.training.dataset.collate import Batch
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.training_dataset import Item, TrainingDataset

OTHER = "other_"  # what the columns of a mismatched row begin with
Valued = Callable[[Batch], Tensor]  # log-probabilities of the counted targets, [B, T]


def mismatched_rows(dataset: TrainingDataset) -> list[TokenizedRow]:
    """Of each row, its prompt with the completion of the next item that has another prompt, the same side of a pair.

    Never longer than the longer of the two. Where all prompts are one, nothing of it is counted and kl is 0.
    """
    mismatched = []
    for number, item in enumerate(dataset):
        other = _next_item_of_another_prompt(dataset, number)
        for side, row in enumerate(item):
            completion = other[min(side, len(other) - 1)] if other else None
            mismatched.append(_crossed(row, completion))
    return mismatched


def _next_item_of_another_prompt(dataset: TrainingDataset, number: int) -> Item | None:
    prompt_ids = dataset[number][0].prompt_ids
    for step in range(1, len(dataset)):
        other = dataset[(number + step) % len(dataset)]
        if other[0].prompt_ids != prompt_ids:
            return other
    return None


def _crossed(row: TokenizedRow, other: TokenizedRow | None) -> TokenizedRow:
    """The row's prompt with the other's completion, which is what counts; without another, nothing counts."""
    if other is None:
        return TokenizedRow(
            row.trace_index, row.input_ids, np.zeros_like(row.loss_weights), row.prompt_length
        )
    limit = max(len(row), len(other))
    prompt_weights = np.zeros(row.prompt_length, np.float32)
    ids = [row.input_ids[: row.prompt_length], other.input_ids[other.prompt_length :]]
    weights = [prompt_weights, other.loss_weights[other.prompt_length :]]
    return TokenizedRow(
        row.trace_index,
        np.concatenate(ids)[:limit],
        np.concatenate(weights)[:limit],
        row.prompt_length,
    )


def add_mismatched(
    dataset: TrainingDataset, mismatched: Sequence[TokenizedRow], reference: Sequence[Tensor]
) -> TrainingDataset:
    """The dataset with each row's mismatched row, and what the reference says of it, as columns."""
    dataset = dataset.with_column(OTHER + "input_ids", [row.input_ids for row in mismatched])
    dataset = dataset.with_column(OTHER + "loss_weights", [row.loss_weights for row in mismatched])
    values = [column[: len(row)] for column, row in zip(reference, mismatched, strict=True)]
    return dataset.with_column(OTHER + "reference", values)


def with_kl(window: Sequence[Batch], valued: Valued) -> list[Batch]:
    """The micro-batches with `kl`: the mean over the step's mismatched rows of log student - log reference, at least 0.

    Args:
        valued: the student as it is now.
    """
    total, count = 0.0, 0
    for batch in window:
        if collate.is_idle(batch):
            continue
        other = {
            name.removeprefix(OTHER): column
            for name, column in batch.items()
            if name.startswith(OTHER)
        }
        ratios = (valued(other).to(other["reference"]) - other["reference"]).sum(1).double()
        told = (other["loss_weights"][:, 1:] > 0).any(1)
        total, count = total + float(ratios[told].sum()), count + int(told.sum())
    total, count = (sum(part) for part in zip(*distributed.gathered((total, count))))
    kl = max(0.0, total / count) if count else 0.0
    return [{**batch, "kl": torch.tensor(kl, device=batch["input_ids"].device)} for batch in window]


def with_returns(
    window: Sequence[Batch], student: Valued, teacher: Valued, gamma: float
) -> list[Batch]:
    """The micro-batches with MiniLLM's returns as `advantages`, whitened over the step.

    Args:
        student: asked where a micro-batch does not say how likely its tokens were when they were written.
        teacher: asked where it does not say what the teacher holds of them.
    """
    made = [{**batch} for batch in window]
    found = []
    busy = [batch for batch in made if not collate.is_idle(batch)]
    for batch in busy:
        for name, model in (("teacher", teacher), ("sampled", student)):
            batch[name] = batch[name] if name in batch else model(batch).to(batch["loss_weights"])
        kept = batch["loss_weights"][:, 1:] > 0
        rewards = (batch["teacher"] - batch["sampled"])[:, 1:][kept]
        groups = torch.arange(len(kept), device=kept.device).repeat_interleave(kept.sum(1))
        x = Inputs(rewards[:, None], lambda h: h, torch.zeros_like(groups), groups_N=groups)
        found.append(normalised_returns(rewards, x, gamma))
    parts = _whitened(found)
    for batch, part in zip(busy, parts, strict=True):
        column = torch.zeros_like(batch["loss_weights"])
        column[:, 1:][batch["loss_weights"][:, 1:] > 0] = part.to(column)
        batch["advantages"] = column
    return made


def _whitened(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """This process's values, whitened with those of all processes."""
    mine = torch.cat([torch.zeros(0), *(part.cpu() for part in parts)])
    every = distributed.gathered(mine)
    told: Sequence[Tensor] = whitened(torch.cat(every)).split([len(values) for values in every])
    return list(told[distributed.rank()].split([len(part) for part in parts]))
