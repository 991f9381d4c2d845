"""Which rows share a micro-batch, for the whole training: a function of the lengths, so a resume needs no state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from potstill.training.settings import TrainingSettings


def plan(lengths: Sequence[int], settings: TrainingSettings) -> list[list[int]]:
    """Micro-batches (row indices) of the whole training, in order; `accumulate` consecutive ones make a step.

    Args:
        lengths: tokens of each row.
    """
    batches: list[list[int]] = []
    epoch = 0
    limit = settings.max_steps * settings.gradient_accumulation_steps
    while (len(batches) < limit) if limit else (epoch < settings.num_train_epochs):
        batches.extend(_epoch(lengths, settings, epoch))
        epoch += 1
    return batches[:limit] if limit else batches


def steps(batches: Sequence[Sequence[int]], settings: TrainingSettings) -> int:
    """Optimizer steps that the micro-batches make; the last may have fewer of them."""
    return -(-len(batches) // settings.gradient_accumulation_steps)


def _epoch(lengths: Sequence[int], settings: TrainingSettings, epoch: int) -> list[list[int]]:
    name = f"{settings.seed}/batches/{epoch}".encode()
    order = random.Random(
        hashlib.sha256(name).digest()
    )  # hashed, so neighbouring seeds share nothing
    rows = list(range(len(lengths)))
    order.shuffle(rows)
    if settings.group_by_length:
        rows.sort(key=lambda row: lengths[row])  # stable: equally long rows stay in random order
    batches = list(_cut(rows, lengths, settings))
    if settings.group_by_length:
        order.shuffle(batches)
    return batches


def _cut(
    rows: Sequence[int], lengths: Sequence[int], settings: TrainingSettings
) -> Iterator[list[int]]:
    batch: list[int] = []
    longest = total = 0
    for row in rows:
        longest, total = max(longest, lengths[row]), total + lengths[row]
        by_rows, by_tokens = settings.batch_size, settings.batch_tokens
        tokens = (
            total if settings.packing else longest * (len(batch) + 1)
        )  # packed rows need no padding
        full = len(batch) == by_rows if by_rows else tokens > by_tokens
        if batch and full:
            yield batch
            batch, longest, total = [], lengths[row], lengths[row]
        batch.append(row)
    if batch:
        yield batch
