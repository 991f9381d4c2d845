"""Micro-batches: which rows share one, their tensors, and the same rows one after another without padding.

Shapes: B rows of a micro-batch, T tokens of its longest row, P pairs. Padding is 0 and on the right, so that under
causal attention it can't reach a real token. Packed: C bins of L tokens; D hidden size; N counted tokens.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.errors import StageError
from potstill.training.dataset.training_dataset import Item, TokenizedRow
from potstill.training.settings import TrainingSettings

PROBE_LENGTHS = (7, 4, 3)  # rows that a model is tried on: the last two share a bin
PROBE_VOCABULARY = 4
MAX_GAP_FLOAT32 = 1e-4  # relative difference of hidden states that rounding explains
MAX_GAP_HALF = 5e-2

Batch: TypeAlias = dict[str, Tensor]
"""A micro-batch by name: `input_ids` and `loss_weights` [B, T]; `lengths`, `prompt_lengths`, `trace_index` [B]; `item`,
which item a row belongs to, and `is_first`, whether it is that item's first row (the better one of a pair), both [B];
`pairs` [P, 2] of row numbers where items are pairs; and every column of the rows, [B, T] or [B, T, K]."""


def plan_batches(lengths: Sequence[int], settings: TrainingSettings) -> list[list[int]]:
    """Plan the micro-batches (item numbers) of the whole training, in order.

    It is a function of the lengths and the seed, so a resumed training needs no state.
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


def collate(items: Sequence[Item]) -> Batch:
    """A micro-batch of items; of none, a row of two tokens that nothing is learnt from, marked `idle`."""
    if not items:
        nothing = TokenizedRow.of(0, [0, 0], [0.0, 0.0], 1)
        return {**collate([(nothing,)]), "idle": torch.tensor(True)}
    # The items' rows one after another, and for each row which item it belongs to.
    rows: list[TokenizedRow] = []
    item_numbers: list[int] = []
    is_first: list[bool] = []
    pairs: list[list[int]] = []
    for number, item in enumerate(items):
        if len(item) == 2:
            pairs.append([len(rows), len(rows) + 1])
        for place, row in enumerate(item):
            rows.append(row)
            item_numbers.append(number)
            is_first.append(place == 0)

    # Tokens and columns [B, T], then a number a row [B].
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


class PackedLayout(NamedTuple):
    """Where the tokens of [B, T] lie in bins [C, L]: rows one after another, for a forward pass without padding.

    A model that gets position ids that begin anew and no attention mask makes its attention block-diagonal
    (transformers' rule for packed sequences; `check_packing` sees to it that a model keeps to it). Rows are packed
    first-fit-decreasing into bins as long as the longest row, so attention costs no more than it does side by side;
    flash attention takes one bin.

    Args:
        source_CL: which token of the flattened [B * T] stands there; 0 in the padding.
        position_CL: its position in its row; padding is a row of its own.
        place_BT: where each token lies in the flattened [C * L]; 0 for what is padding in [B, T].
    """

    source_CL: Tensor
    position_CL: Tensor
    place_BT: Tensor


def pack_bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Group rows that share a bin of at most `capacity` tokens: longest first, each where it fits first."""
    bins: list[list[int]] = []
    free_tokens: list[int] = []  # of each bin
    longest_first = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    for row in longest_first:
        for number, free in enumerate(free_tokens):
            if free >= lengths[row]:
                bins[number].append(row)
                free_tokens[number] -= lengths[row]
                break
        else:  # it fits nowhere; a row longer than the capacity gets a bin of its length
            bins.append([row])
            free_tokens.append(max(capacity, lengths[row]) - lengths[row])
    return bins


def plan_layout(lengths: Sequence[int], width: int, *, one_bin: bool = False) -> PackedLayout:
    """Lay out rows of these lengths that lie in [B, width]; all in one bin if `one_bin`."""
    capacity = sum(lengths) if one_bin else max(lengths)
    bins = pack_bins(lengths, capacity)
    bin_length = 0
    for rows in bins:
        bin_length = max(bin_length, sum(lengths[row] for row in rows))
    source_CL = torch.zeros(len(bins), bin_length, dtype=torch.long)
    position_CL = torch.zeros(len(bins), bin_length, dtype=torch.long)
    place_BT = torch.zeros(len(lengths), width, dtype=torch.long)
    for number, rows in enumerate(bins):
        start = 0
        for row in rows:
            length = lengths[row]
            stop = start + length
            positions = torch.arange(length)
            # Where the row begins in the flattened [B * T], and in the flattened [C * L].
            first_source = row * width
            first_place = number * bin_length + start
            source_CL[number, start:stop] = first_source + positions
            position_CL[number, start:stop] = positions
            place_BT[row, :length] = first_place + positions
            start = stop
        position_CL[number, start:] = torch.arange(bin_length - start)  # padding: one more row
    return PackedLayout(source_CL, position_CL, place_BT)


def packed_states(model: Any, ids_BT: Tensor, lengths: Sequence[int], counted_BT: Tensor) -> Tensor:
    """Last hidden states [N, D] of a causal model's base at the counted tokens, computed without padding."""
    uses_flash = "flash" in str(getattr(model.config, "_attn_implementation", ""))
    layout = plan_layout(lengths, ids_BT.shape[1], one_bin=uses_flash)
    source_CL, position_CL, place_BT = (tensor.to(ids_BT.device) for tensor in layout)
    ids_CL = ids_BT.flatten()[source_CL]  # [B, T] -> [C, L]
    output = model(input_ids=ids_CL, position_ids=position_CL, use_cache=False)
    states_CLD = output.last_hidden_state

    # Back to the rows: where each counted token lies in the bins.
    place_N = place_BT[counted_BT]
    states_ND: Tensor = states_CLD.flatten(0, 1)[place_N]  # [C, L, D] -> [N, D]
    return states_ND


def check_packing(base: Any) -> None:
    """Refuse a model in which packed rows see each other: layers with a state, an attention of its own."""
    # A few short rows of any tokens, [B, T].
    width = max(PROBE_LENGTHS)
    tokens = torch.arange(len(PROBE_LENGTHS) * width) % PROBE_VOCABULARY
    ids_BT = tokens.view(len(PROBE_LENGTHS), width).to(base.device)
    lengths_B1 = torch.tensor(PROBE_LENGTHS)[:, None]
    counted_BT = (torch.arange(width)[None] < lengths_B1).to(base.device)

    # The same states with padding and packed, without dropout.
    was_training = base.training
    base.eval()
    with torch.no_grad():
        padded_BTD = base(input_ids=ids_BT, use_cache=False).last_hidden_state
        padded_ND = padded_BTD[counted_BT]  # [B, T, D] -> [N, D]
        packed_ND = packed_states(base, ids_BT, PROBE_LENGTHS, counted_BT)
    base.train(was_training)
    largest_gap = (padded_ND - packed_ND).abs().max()
    gap = float(largest_gap / padded_ND.abs().max())
    max_gap = MAX_GAP_FLOAT32 if padded_ND.dtype == torch.float32 else MAX_GAP_HALF
    if gap > max_gap:
        raise StageError(
            f"{type(base).__name__} does not keep packed rows apart: their states differ by {gap:.1e}",
            expected="attention that begins anew where position ids do",
            fix="leave training.packing off",
        )
