"""Several teachers of the student's tokens at hand: each row has its own, or all of them averaged.

p = sum_m w_m p_m, in the space of probabilities: a token that one of M teachers is sure of has at least 1 / M. Means of
log-probabilities would give it next to nothing where another one rules it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from potstill.objectives.inputs import Hidden, Several, Teacher, TokenLogp
from potstill.training import logprobs
from potstill.training.dataset.batching import Batch
from potstill.training.teacher.row_teachers import RowTeachers


@final
class SeveralTeachers(logprobs.ReadsBatches):
    """Models without gradients, all of them loaded.

    Args:
        models: by name.
        rows: whose rows are whose.
    """

    def __init__(self, models: Mapping[str, Any], rows: RowTeachers) -> None:
        self._models = [models[name] for name in rows.names]
        shares_RM = torch.zeros(len(rows.of_trace), len(rows.names))
        for trace, places in enumerate(rows.of_trace):
            for place in places:
                shares_RM[trace, place] = 1 / len(places)
        self._shares_RM = shares_RM

    @property
    def models(self) -> Sequence[Any]:
        """All of them."""
        return self._models

    def readings(self, batch: Batch) -> int:
        """How many tokens of a micro-batch they read, all together."""
        shares_BM = self._shares_RM[batch["trace_index"].cpu()]
        return int(((shares_BM > 0).sum(1) * batch["lengths"].cpu()).sum())

    def read(
        self, view: Batch, needs: Sequence[str], counted_BW: Tensor, *, packing: bool
    ) -> Teacher | None:
        """What the rows' teachers say at the counted positions."""
        shares_BM = self._shares_RM.to(counted_BW.device)[view["trace_index"]]
        row_N = counted_BW.nonzero()[:, 0]  # which row each counted position is of
        shares_NM = shares_BM[row_N]
        if "distribution" in needs:
            parts = []
            for place, model in enumerate(self._models):
                hidden_NDt = self._hidden(model, shares_BM[:, place] > 0, view, packing=packing)
                parts.append(Hidden(hidden_NDt, logprobs.head(model)))
            return Several(tuple(parts), shares_NM)
        if "logp" in needs:
            logs_NM = torch.full_like(shares_NM, -torch.inf)
            for place, model in enumerate(self._models):
                is_taught_B = shares_BM[:, place] > 0
                if is_taught_B.any():
                    part = _rows_of_view(view, is_taught_B)
                    column_BW = logprobs.batch_log_probs(model, part)
                    counted = part["loss_weights"][:, 1:] > 0
                    logs_NM[is_taught_B[row_N], place] = column_BW[:, 1:][counted].to(logs_NM)
            return TokenLogp((logs_NM + shares_NM.log()).logsumexp(-1))
        return None

    def _hidden(self, model: Any, is_taught_B: Tensor, view: Batch, *, packing: bool) -> Tensor:
        """A teacher's states [N, Dt] at the counted positions of its rows; zeros, which are not used, at all others."""
        counted_BW = view["loss_weights"][:, 1:] > 0
        row_N = counted_BW.nonzero()[:, 0]
        width = model.config.get_text_config().hidden_size
        dtype = next(model.parameters()).dtype
        hidden_NDt = torch.zeros(len(row_N), width, dtype=dtype, device=counted_BW.device)
        if is_taught_B.any():
            part = _rows_of_view(view, is_taught_B)
            counted = part["loss_weights"][:, 1:] > 0
            with torch.no_grad():
                states = logprobs.counted_states(model, part, counted, packing=packing)
            hidden_NDt[is_taught_B[row_N]] = states.to(dtype)
        return hidden_NDt


def _rows_of_view(view: Batch, is_chosen_B: Tensor) -> Batch:
    """Some rows of a micro-batch: their tokens, weights and lengths."""
    names = ("input_ids", "loss_weights", "lengths", "prompt_lengths", "trace_index")
    return {name: view[name][is_chosen_B] for name in names}
