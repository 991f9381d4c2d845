"""Which rows share a micro-batch, for the whole training: a function of the lengths, so a resume needs no state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from potstill.training.settings import TrainingSettings


def plan_batches(lengths: Sequence[int], settings: TrainingSettings) -> list[list[int]]:
    """Plan the micro-batches (item numbers) of the whole training, in order.

    `gradient_accumulation_steps` consecutive ones make an optimizer step.

    Args:
        lengths: tokens of each item.
    """
    batches: list[list[int]] = []
    if settings.max_steps == 0:
        for epoch in range(settings.num_train_epochs):
            batches.extend(_plan_epoch(lengths, settings, epoch))
        return batches
    wanted = settings.max_steps * settings.gradient_accumulation_steps
    epoch = 0
    while len(batches) < wanted:
        batches.extend(_plan_epoch(lengths, settings, epoch))
        epoch += 1
    return batches[:wanted]


def count_steps(batches: Sequence[Sequence[int]], settings: TrainingSettings) -> int:
    """Optimizer steps that the micro-batches make; the last may have fewer of them."""
    return -(-len(batches) // settings.gradient_accumulation_steps)


def _plan_epoch(lengths: Sequence[int], settings: TrainingSettings, epoch: int) -> list[list[int]]:
    # The seed is hashed, so that neighbouring seeds share nothing.
    name = f"{settings.seed}/batches/{epoch}"
    order = random.Random(hashlib.sha256(name.encode()).digest())
    items = list(range(len(lengths)))
    order.shuffle(items)
    if settings.group_by_length:
        items.sort(
            key=lambda item: lengths[item]
        )  # stable: equally long items stay in random order
    batches = list(_cut_batches(items, lengths, settings))
    if settings.group_by_length:
        order.shuffle(batches)
    return batches


def _cut_batches(
    items: Sequence[int], lengths: Sequence[int], settings: TrainingSettings
) -> Iterator[list[int]]:
    """Cut the items into batches of `batch_size` items, or of at most `batch_tokens` tokens."""
    batch: list[int] = []
    longest = total = 0
    for item in items:
        longest, total = max(longest, lengths[item]), total + lengths[item]
        # Tokens that the batch would have with this item: packed rows need no padding.
        tokens = total if settings.packing else longest * (len(batch) + 1)
        if settings.batch_size:
            is_full = len(batch) == settings.batch_size
        else:
            is_full = tokens > settings.batch_tokens
        if batch and is_full:
            yield batch
            batch, longest, total = [], lengths[item], lengths[item]
        batch.append(item)
    if batch:
        yield batch
