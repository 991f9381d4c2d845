"""Rows one after another in the same sequence, for a forward pass without padding; nothing but the layout changes.

A model that gets position ids that begin anew and no attention mask makes its attention block-diagonal (transformers'
rule for packed sequences; `check` sees to it that a model keeps to it). Rows are packed first-fit-decreasing into bins
as long as the longest row, so attention costs no more than it does side by side; flash attention takes one bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from potstill.errors import StageError

PROBE = (7, 4, 3)  # lengths of the rows that a model is tried on: the last two share a sequence


class Layout(NamedTuple):
    """Where the tokens of [B, T] lie in bins [C, L].

    Args:
        source_CL: which token of the flattened [B * T] stands there; 0 in the padding.
        position_CL: its position in its row; padding is a row of its own.
        place_BT: where each token lies in the flattened [C * L]; 0 for what is padding in [B, T].
    """

    source_CL: Tensor
    position_CL: Tensor
    place_BT: Tensor


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows that share a sequence of at most `capacity` tokens: longest first, each where it fits first."""
    made: list[list[int]] = []
    free: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        at = next((at for at, room in enumerate(free) if room >= lengths[row]), len(made))
        if at == len(made):
            made.append([])
            free.append(max(capacity, lengths[row]))
        made[at].append(row)
        free[at] -= lengths[row]
    return made


def layout(lengths: Sequence[int], width: int, *, whole: bool = False) -> Layout:
    """The layout of rows of these lengths that lie in [B, width]; all in one sequence if `whole`."""
    packed = bins(lengths, sum(lengths) if whole else max(lengths))
    longest = max(sum(lengths[row] for row in rows) for rows in packed)
    source, position = (
        torch.zeros(len(packed), longest, dtype=torch.long),
        torch.zeros(0, dtype=torch.long),
    )
    places = torch.zeros(len(lengths), width, dtype=torch.long)
    lines = []
    for at, rows in enumerate(packed):
        start, counted = 0, []
        for row in rows:
            stop = start + lengths[row]
            source[at, start:stop] = torch.arange(row * width, row * width + lengths[row])
            places[row, : lengths[row]] = torch.arange(at * longest + start, at * longest + stop)
            counted.append(torch.arange(lengths[row]))
            start = stop
        lines.append(torch.cat([*counted, torch.arange(longest - start)]))
    position = torch.stack(lines)
    return Layout(source, position, places)


def states(model: Any, ids_BT: Tensor, lengths: Sequence[int], counted_BT: Tensor) -> Tensor:
    """Last hidden states [N, D] of a causal model's base at the counted tokens, computed without padding."""
    whole = "flash" in str(getattr(model.config, "_attn_implementation", ""))
    source_CL, position_CL, place_BT = (
        part.to(ids_BT.device) for part in layout(lengths, ids_BT.shape[1], whole=whole)
    )
    ids_CL = ids_BT.flatten()[source_CL]
    states_CLD = model(
        input_ids=ids_CL, position_ids=position_CL, use_cache=False
    ).last_hidden_state
    found: Tensor = states_CLD.flatten(0, 1)[place_BT[counted_BT]]
    return found


def check(base: Any) -> None:
    """Refuse a model in which packed rows see each other: layers with a state, an attention of its own."""
    width = max(PROBE)
    ids_BT = (torch.arange(len(PROBE) * width) % 4).view(len(PROBE), width).to(base.device)
    counted_BT = torch.arange(width)[None] < torch.tensor(PROBE)[:, None]
    was = base.training
    base.eval()
    with torch.no_grad():
        apart = base(input_ids=ids_BT, use_cache=False).last_hidden_state[
            counted_BT.to(base.device)
        ]
        packed = states(base, ids_BT, PROBE, counted_BT.to(base.device))
    base.train(was)
    gap = float((apart - packed).abs().max() / apart.abs().max())
    if gap > (1e-4 if apart.dtype == torch.float32 else 5e-2):
        raise StageError(
            f"{type(base).__name__} does not keep packed rows apart: their states differ by {gap:.1e}",
            expected="attention that begins anew where position ids do",
            fix="leave training.packing off",
        )
