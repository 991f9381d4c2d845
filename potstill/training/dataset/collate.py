"""What shares a micro-batch, as tensors: a row, or the two rows of a pair.

Shapes: B rows, T tokens. Padding is on the right, so that under causal attention it can't reach a real token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from potstill.training.dataset.tokenize import Row

Item: TypeAlias = tuple[Row, ...]  # one row, or (better, worse)
Batch: TypeAlias = dict[str, Tensor]


class Prepared(NamedTuple):
    """A row as tensors, by column; whether it is a desirable one, its prompt's length, the index of its trace."""

    columns: Mapping[str, Tensor]
    liked: bool = True
    prompt: int = 0
    trace: int = 0


def prepared(row: Row, *, liked: bool = True) -> Prepared:
    """A row's tensors."""
    made = {"ids": torch.tensor(row.ids), "weights": torch.tensor(row.weights, dtype=torch.float32)}
    return Prepared(
        made | {name: _column(values) for name, values in row.columns.items()},
        liked,
        row.prompt,
        row.trace,
    )


def _column(values: Any) -> Tensor:
    column = torch.as_tensor(values)
    return (
        column.float() if column.dtype == torch.float64 else column
    )  # stored entries stay float16 until they count


def length(item: Item) -> int:
    """Tokens of an item: of the longest of its rows, times how many there are."""
    return max(len(row.ids) for row in item) * len(item)


def collate(items: Sequence[Sequence[Prepared]]) -> Batch:
    """A micro-batch: columns padded with 0 to [B, T], numbers of a row [B] (`item`: its), `pairs` [P, 2] of rows.

    Of no items it is a row of two tokens that nothing is learnt from, and says so (`idle`).
    """
    if not items:
        return {**collate([[prepared(Row(0, (0, 0), (0.0, 0.0), 1))]]), "idle": torch.tensor(True)}
    rows = [row for item in items for row in item]
    made: Batch = {
        name: pad_sequence([row.columns[name] for row in rows], batch_first=True)
        for name in rows[0].columns
    }
    starts = [sum(len(item) for item in items[:at]) for at in range(len(items))]
    pairs = [[start, start + 1] for start, item in zip(starts, items) if len(item) == 2]
    made["lengths"] = torch.tensor([len(row.columns["ids"]) for row in rows])
    made["item"] = torch.tensor([at for at, item in enumerate(items) for _ in item])
    made["liked"] = torch.tensor([row.liked for row in rows])
    made["prompt"] = torch.tensor([row.prompt for row in rows])
    made["trace"] = torch.tensor([row.trace for row in rows])
    if pairs:
        made["pairs"] = torch.tensor(pairs)
    return made


def idle(batch: Batch) -> bool:
    """Whether a micro-batch has no rows: it had too few for this process."""
    return "idle" in batch


def rows(batch: Batch) -> list[Row]:
    """The rows of a micro-batch, without their padding."""
    parts = zip(
        *(batch[name].tolist() for name in ("ids", "weights", "lengths", "prompt", "trace"))
    )
    return [
        Row(trace, tuple(ids[:n]), tuple(weights[:n]), prompt)
        for ids, weights, n, prompt, trace in parts
    ]


def to(batch: Batch, device: Any) -> Batch:
    """The batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
