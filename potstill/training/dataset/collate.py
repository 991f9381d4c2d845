"""What shares a micro-batch, as tensors.

Shapes: B rows of the micro-batch, T tokens of its longest row, P pairs. Padding is 0 and on the right, so that under
causal attention it can't reach a real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.training_dataset import Item

Batch: TypeAlias = dict[str, Tensor]
"""A micro-batch by name: `input_ids` and `loss_weights` [B, T]; `lengths`, `prompt_lengths`, `trace_index` [B]; `item`,
which item a row belongs to, and `is_first`, whether it is that item's first row (the better one of a pair), both [B];
`pairs` [P, 2] of row numbers where items are pairs; and every column of the rows, [B, T] or [B, T, K]."""


def collate(items: Sequence[Item]) -> Batch:
    """A micro-batch of items; of none, a row of two tokens that nothing is learnt from, marked `idle`."""
    if not items:
        nothing = TokenizedRow.of(0, [0, 0], [0.0, 0.0], 1)
        return {**collate([(nothing,)]), "idle": torch.tensor(True)}
    rows: list[TokenizedRow] = []
    item_numbers: list[int] = []
    is_first: list[bool] = []
    pairs: list[list[int]] = []
    for number, item in enumerate(items):
        if len(item) == 2:
            pairs.append([len(rows), len(rows) + 1])
        rows.extend(item)
        item_numbers.extend([number] * len(item))
        is_first.extend(place == 0 for place in range(len(item)))

    batch: Batch = {
        "input_ids": pad_rows([row.input_ids for row in rows]),
        "loss_weights": pad_rows([row.loss_weights for row in rows]),
    }
    for name in rows[0].columns:
        batch[name] = pad_rows([row.columns[name] for row in rows])
    batch["lengths"] = torch.tensor([len(row) for row in rows])
    batch["prompt_lengths"] = torch.tensor([row.prompt_length for row in rows])
    batch["trace_index"] = torch.tensor([row.trace_index for row in rows])
    batch["item"] = torch.tensor(item_numbers)
    batch["is_first"] = torch.tensor(is_first)
    if pairs:
        batch["pairs"] = torch.tensor(pairs)
    return batch


def collate_rows(rows: Sequence[TokenizedRow]) -> Batch:
    """A micro-batch of rows that belong to no pair."""
    return collate([(row,) for row in rows])


def pad_rows(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Arrays [T, ...] of different length as one tensor [B, T, ...], padded with 0 on the right."""
    longest = max(len(array) for array in arrays)
    dtype = arrays[0].dtype
    if arrays[0].ndim == 1 and np.issubdtype(dtype, np.integer):
        dtype = np.dtype(np.int64)  # what torch takes for an index; cached logits [T, K] stay small
    padded = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype)
    for place, array in enumerate(arrays):
        padded[place, : len(array)] = array
    return torch.from_numpy(padded)


def is_idle(batch: Batch) -> bool:
    """Whether a micro-batch has no rows: it had too few for this process."""
    return "idle" in batch


def rows_of(batch: Batch) -> list[TokenizedRow]:
    """The rows of a micro-batch, without padding and columns."""
    input_ids, loss_weights = batch["input_ids"].cpu().numpy(), batch["loss_weights"].cpu().numpy()
    rows = []
    for place, length in enumerate(batch["lengths"].tolist()):
        rows.append(
            TokenizedRow.of(
                int(batch["trace_index"][place]),
                input_ids[place, :length],
                loss_weights[place, :length],
                int(batch["prompt_lengths"][place]),
            )
        )
    return rows


def to_device(batch: Batch, device: Any) -> Batch:
    """The batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
