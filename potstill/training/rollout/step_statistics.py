"""What only a whole step knows, before any micro-batch is trained on: means over the step's rows.

Taken over one micro-batch they would change with how the step is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from potstill.objectives.inputs import Inputs
from potstill.objectives.policy import whitened
from potstill.training import distributed
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.training_dataset import Item, TokenizedRow, TrainingDataset

OTHER = "other_"  # what the columns of a mismatched row begin with
LogProbs = Callable[[Batch], Tensor]  # log-probabilities of the counted targets, [B, T]
Returns = Callable[
    [Tensor, Inputs], Tensor
]  # rewards of the counted positions to their returns, [N]


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


def with_mismatched_kl(window: Sequence[Batch], student: LogProbs) -> list[Batch]:
    """The micro-batches with `kl`: the mean over the step's mismatched rows of log student - log reference, at least 0.

    Args:
        student: as it is now.
    """
    total, count = 0.0, 0
    for batch in window:
        if batching.is_idle(batch):
            continue
        other: Batch = {}
        for name, column in batch.items():
            if name.startswith(OTHER):
                other[name.removeprefix(OTHER)] = column
        log_ratios = student(other).to(other["reference"]) - other["reference"]  # [B, T]
        of_rows = log_ratios.sum(1).double()  # [B]
        counts = (other["loss_weights"][:, 1:] > 0).any(1)  # [B]: rows of which anything counts
        total, count = total + float(of_rows[counts].sum()), count + int(counts.sum())
    total, count = (sum(part) for part in zip(*distributed.gather_objects((total, count))))
    kl = max(0.0, total / count) if count else 0.0
    return [{**batch, "kl": torch.tensor(kl, device=batch["input_ids"].device)} for batch in window]


def with_whitened_returns(
    window: Sequence[Batch], student: LogProbs, teacher: LogProbs, returns: Returns
) -> list[Batch]:
    """The micro-batches with returns as `advantages`, whitened over the step.

    The reward of a token is the teacher's log-probability less the sampler's.

    Args:
        student: asked where a micro-batch does not say how likely its tokens were when they were written.
        teacher: asked where it does not say what the teacher holds of them.
        returns: the objective's (`Hooks.step_returns`).
    """
    batches: list[Batch] = [{**batch} for batch in window]
    busy = [batch for batch in batches if not batching.is_idle(batch)]
    values = []
    for batch in busy:
        for name, log_probs in (("teacher", teacher), ("sampled", student)):
            if name not in batch:
                batch[name] = log_probs(batch).to(batch["loss_weights"])
        # Rewards of the counted positions, and which sequence each belongs to.
        counted_BT = batch["loss_weights"][:, 1:] > 0
        rewards_BT = batch["teacher"] - batch["sampled"]
        rewards_N = rewards_BT[:, 1:][counted_BT]  # [B, T] -> [N]
        lengths_B = counted_BT.sum(1)
        rows_B = torch.arange(len(lengths_B), device=lengths_B.device)
        groups_N = rows_B.repeat_interleave(lengths_B)
        # Returns depend on which sequence a position belongs to; there is no student in these inputs.
        x = Inputs(rewards_N[:, None], lambda h: h, torch.zeros_like(groups_N), groups_N=groups_N)
        values.append(returns(rewards_N, x))

    # Whitened over the step, and back to where they are counted.
    for batch, advantages_N in zip(busy, _whiten_over_step(values), strict=True):
        column_BT = torch.zeros_like(batch["loss_weights"])
        counted_BT = batch["loss_weights"][:, 1:] > 0
        column_BT[:, 1:][counted_BT] = advantages_N.to(column_BT)
        batch["advantages"] = column_BT
    return batches


def _whiten_over_step(values: Sequence[Tensor]) -> Sequence[Tensor]:
    """The values of this process's micro-batches, whitened with those of all processes."""
    of_this_process = torch.cat([torch.zeros(0), *(part.cpu() for part in values)])
    of_processes = distributed.gather_objects(of_this_process)
    whole: Tensor = whitened(torch.cat(of_processes))
    of_this_process = whole.split([len(part) for part in of_processes])[distributed.process_rank()]
    parts: Sequence[Tensor] = of_this_process.split([len(part) for part in values])
    return parts
