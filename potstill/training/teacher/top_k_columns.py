"""A teacher's likeliest tokens as columns of rows and micro-batches, each at the student's token that it belongs to.

A teacher may read a prompt of its own (`dataset.teacher_view`): the counted tokens are the same, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.teacher_view import teacher_row, teacher_view
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.teacher.cached_logits import with_entries

TOP_K_COLUMNS = ("cached_ids", "cached_logp")  # [T, K] of a row, [B, T, K] of a micro-batch


@runtime_checkable
class TopKTeacher(Protocol):
    """Whoever tells the likeliest tokens at each counted place of rows."""

    def entries(self, rows: Sequence[TokenizedRow]) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Of each row, as the teacher reads it, ids [n, k] and log-probabilities [n, k]; None where it can't."""
        ...


def rows_with_entries(teacher: TopKTeacher, rows: Sequence[TokenizedRow]) -> list[TokenizedRow]:
    """Rows with the columns of `TOP_K_COLUMNS` alone; a row that the teacher can't read has none."""
    read_rows = [teacher_row(row) for row in rows]
    with_columns = []
    for row, entries in zip(rows, teacher.entries(read_rows), strict=True):
        row = row.without_columns()
        with_columns.append(row if entries is None else with_entries(row, entries))
    return with_columns


def batch_with_entries(teacher: TopKTeacher, batch: Batch) -> Batch:
    """The micro-batch with the teacher's likeliest tokens at each place; a row without any is not learnt."""
    # Rows of which nothing is learnt are not asked about, and so not paid for.
    rows, read_rows = batching.rows_of(batch), batching.rows_of(teacher_view(batch))
    indices = [index for index, row in enumerate(rows) if row.is_learnt.any()]
    answers = teacher.entries([read_rows[index] for index in indices])
    entries_of = dict(zip(indices, answers, strict=True))
    read_entries = [entries for entries in entries_of.values() if entries is not None]
    width = max((ids_NK.shape[1] for ids_NK, _ in read_entries), default=1)

    is_unscored_B = torch.zeros(len(rows), dtype=torch.bool)
    with_columns = []
    for index, row in enumerate(rows):
        entries = entries_of.get(index)
        if entries is None:
            is_unscored_B[index] = index in entries_of
            nothing_NK = torch.zeros(int(row.is_learnt.sum()), width)
            entries = nothing_NK.to(torch.int32), nothing_NK
        with_columns.append(with_entries(row, entries))
    device = batch["input_ids"].device
    columns = batching.to_device(batching.collate_rows(with_columns), device)
    is_unscored_B1 = is_unscored_B[:, None].to(device)
    return {
        **batch,
        **{name: columns[name] for name in TOP_K_COLUMNS},
        "loss_weights": batch["loss_weights"] * ~is_unscored_B1,
        "unscored": is_unscored_B1.expand_as(batch["loss_weights"]).float(),
    }
