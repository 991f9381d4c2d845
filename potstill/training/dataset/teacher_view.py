"""A micro-batch as its teacher reads it: the teacher's own prompt in front of the very tokens of each completion.

Only prompts differ: the counted tokens of a row are the same, in the same order, so what the teacher says of the n-th
counted position belongs to the student's n-th. Shapes: B rows, T tokens of the student's longest row, P of the longest
teacher's prompt, W of the longest row that the teacher reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.training.dataset.batching import Batch
from potstill.training.dataset.training_dataset import TokenizedRow

# Columns of a row: the teacher's prompt as tokens [P], and how many they are [1], since rows are padded.
TEACHER_PROMPT, TEACHER_PROMPT_LENGTH = "teacher_prompt", "teacher_prompt_length"


def with_teacher_prompt(row: TokenizedRow, prompt_ids: Sequence[int]) -> TokenizedRow:
    """The row with the prompt that its teacher reads in the place of the student's."""
    columns = {
        TEACHER_PROMPT: np.asarray(prompt_ids, np.int32),
        TEACHER_PROMPT_LENGTH: [len(prompt_ids)],
    }
    return row.with_columns(**columns)


def teacher_prompt_of(row: TokenizedRow) -> list[int]:
    """The tokens of a row's teacher prompt; empty where it has none."""
    ids: list[int] = []
    if TEACHER_PROMPT in row.columns:
        ids = row.columns[TEACHER_PROMPT].tolist()
    return ids


def teacher_columns(row: TokenizedRow) -> dict[str, Any]:
    """Those of a row's columns that hold its teacher's prompt."""
    return {
        name: row.columns[name]
        for name in (TEACHER_PROMPT, TEACHER_PROMPT_LENGTH)
        if name in row.columns
    }


def prompt_rows(batch: Batch) -> list[TokenizedRow]:
    """The prompts of a micro-batch's rows, each with its teacher's where there is one."""
    rows = []
    for place, length in enumerate(batch["prompt_lengths"].tolist()):
        ids = batch["input_ids"][place, :length].tolist()
        row = TokenizedRow.of(int(batch["trace_index"][place]), ids, [0.0] * length, length)
        if TEACHER_PROMPT in batch:
            teacher_length = int(batch[TEACHER_PROMPT_LENGTH][place, 0])
            row = with_teacher_prompt(row, batch[TEACHER_PROMPT][place, :teacher_length].tolist())
        rows.append(row)
    return rows


def teacher_row(row: TokenizedRow) -> TokenizedRow:
    """The row, without columns, as its teacher reads it."""
    if TEACHER_PROMPT not in row.columns:
        return row.without_columns()
    prompt_ids = teacher_prompt_of(row)
    weights = [0.0] * len(prompt_ids) + row.loss_weights[row.prompt_length :].tolist()
    return TokenizedRow.of(
        row.trace_index, [*prompt_ids, *row.completion_ids], weights, len(prompt_ids)
    )


def teacher_view(batch: Batch) -> Batch:
    """Tokens, loss weights and lengths as the teacher reads them; the batch itself where its teacher reads the same."""
    if TEACHER_PROMPT not in batch:
        return batch
    prompt_ids_BP = batch[TEACHER_PROMPT]
    prompt_lengths_B = batch[TEACHER_PROMPT_LENGTH][:, 0]
    completion_lengths_B = batch["lengths"] - batch["prompt_lengths"]
    lengths_B = prompt_lengths_B + completion_lengths_B

    # Which part each place belongs to, and where its token stands there, [B, W].
    places_1W = torch.arange(int(lengths_B.max()), device=lengths_B.device)[None]
    is_prompt_BW = places_1W < prompt_lengths_B[:, None]
    is_completion_BW = ~is_prompt_BW & (places_1W < lengths_B[:, None])
    in_prompt_BW = places_1W.expand_as(is_prompt_BW).clamp(max=prompt_ids_BP.shape[1] - 1)
    shift_B1 = (batch["prompt_lengths"] - prompt_lengths_B)[:, None]
    in_row_BW = (places_1W + shift_B1).clamp(0, batch["input_ids"].shape[1] - 1)

    # [B, P] and [B, T] -> [B, W]; padding is 0.
    prompt_BW = prompt_ids_BP.gather(1, in_prompt_BW) * is_prompt_BW
    completion_BW = batch["input_ids"].gather(1, in_row_BW) * is_completion_BW
    weights_BW = batch["loss_weights"].gather(1, in_row_BW) * is_completion_BW
    return {
        "input_ids": prompt_BW + completion_BW,
        "loss_weights": weights_BW,
        "lengths": lengths_B,
        "prompt_lengths": prompt_lengths_B,
        "trace_index": batch["trace_index"],
    }


def to_student_places(column_BW: Tensor, view: Batch, batch: Batch) -> Tensor:
    """A column of what the teacher reads, [B, W], at the places of the student's row, [B, T]; 0 where none counts."""
    column_BT = torch.zeros_like(batch["loss_weights"])
    counted_BT = batch["loss_weights"] > 0
    column_BT[counted_BT] = column_BW[view["loss_weights"] > 0].to(column_BT)
    return column_BT
