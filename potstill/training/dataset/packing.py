"""Rows one after another in the same sequence, for a forward pass without padding; nothing but the layout changes.

A model that gets position ids that begin anew and no attention mask makes its attention block-diagonal (transformers'
rule for packed sequences; `check_packing` sees to it that a model keeps to it). Rows are packed first-fit-decreasing
into bins as long as the longest row, so attention costs no more than it does side by side; flash attention takes one
bin.

Shapes: B rows of T tokens with padding; C bins of L tokens; D hidden size; N counted tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from potstill.errors import StageError

PROBE_LENGTHS = (7, 4, 3)  # rows that a model is tried on: the last two share a bin
PROBE_VOCABULARY = 4
MAX_GAP_FLOAT32 = 1e-4  # relative difference of hidden states that rounding explains
MAX_GAP_HALF = 5e-2


class PackedLayout(NamedTuple):
    """Where the tokens of [B, T] lie in bins [C, L].

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
    free_tokens: list[int] = []
    longest_first = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    for row in longest_first:
        for number, free in enumerate(free_tokens):
            if free >= lengths[row]:
                bins[number].append(row)
                free_tokens[number] -= lengths[row]
                break
        else:
            bins.append([row])
            free_tokens.append(max(capacity, lengths[row]) - lengths[row])
    return bins


def plan_layout(lengths: Sequence[int], width: int, *, one_bin: bool = False) -> PackedLayout:
    """Lay out rows of these lengths that lie in [B, width]; all in one bin if `one_bin`."""
    bins = pack_bins(lengths, sum(lengths) if one_bin else max(lengths))
    bin_length = max(sum(lengths[row] for row in rows) for rows in bins)
    source_CL = torch.zeros(len(bins), bin_length, dtype=torch.long)
    position_CL = torch.zeros(len(bins), bin_length, dtype=torch.long)
    place_BT = torch.zeros(len(lengths), width, dtype=torch.long)
    for number, rows in enumerate(bins):
        start = 0
        for row in rows:
            length = lengths[row]
            stop = start + length
            source_CL[number, start:stop] = torch.arange(row * width, row * width + length)
            position_CL[number, start:stop] = torch.arange(length)
            first_place = number * bin_length + start
            place_BT[row, :length] = torch.arange(first_place, first_place + length)
            start = stop
        position_CL[number, start:] = torch.arange(bin_length - start)  # padding: one more row
    return PackedLayout(source_CL, position_CL, place_BT)


def packed_states(model: Any, ids_BT: Tensor, lengths: Sequence[int], counted_BT: Tensor) -> Tensor:
    """Last hidden states [N, D] of a causal model's base at the counted tokens, computed without padding."""
    uses_flash = "flash" in str(getattr(model.config, "_attn_implementation", ""))
    layout = plan_layout(lengths, ids_BT.shape[1], one_bin=uses_flash)
    source_CL, position_CL, place_BT = (tensor.to(ids_BT.device) for tensor in layout)
    ids_CL = ids_BT.flatten()[source_CL]
    output = model(input_ids=ids_CL, position_ids=position_CL, use_cache=False)
    states_CLD = output.last_hidden_state
    states_ND: Tensor = states_CLD.flatten(0, 1)[place_BT[counted_BT]]
    return states_ND


def check_packing(base: Any) -> None:
    """Refuse a model in which packed rows see each other: layers with a state, an attention of its own."""
    width = max(PROBE_LENGTHS)
    tokens = torch.arange(len(PROBE_LENGTHS) * width) % PROBE_VOCABULARY
    ids_BT = tokens.view(len(PROBE_LENGTHS), width).to(base.device)
    lengths_B1 = torch.tensor(PROBE_LENGTHS)[:, None]
    counted_BT = (torch.arange(width)[None] < lengths_B1).to(base.device)
    was_training = base.training
    base.eval()
    with torch.no_grad():
        padded_ND = base(input_ids=ids_BT, use_cache=False).last_hidden_state[counted_BT]
        packed_ND = packed_states(base, ids_BT, PROBE_LENGTHS, counted_BT)
    base.train(was_training)
    gap = float((padded_ND - packed_ND).abs().max() / padded_ND.abs().max())
    if gap > (MAX_GAP_FLOAT32 if padded_ND.dtype == torch.float32 else MAX_GAP_HALF):
        raise StageError(
            f"{type(base).__name__} does not keep packed rows apart: their states differ by {gap:.1e}",
            expected="attention that begins anew where position ids do",
            fix="leave training.packing off",
        )
