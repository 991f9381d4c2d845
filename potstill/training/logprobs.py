"""From a micro-batch to counted positions: the student's states, the teacher's, and what else the objective needs.

The shift by one position is made here and nowhere else: the state at token t - 1 predicts token t. Shapes as in
`objectives.inputs`; B rows of a micro-batch, T tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from potstill.objectives.inputs import Hidden, Inputs, Teacher, TokenLogp, TopK
from potstill.objectives.likelihood import token_logp
from potstill.training.dataset.batching import Batch, packed_states
from potstill.training.dataset.teacher_view import teacher_view
from potstill.training.teacher.self_teacher import SelfTeacher


class ReadsBatches(ABC):
    """Teachers at hand that are no single model."""

    @abstractmethod
    def read(
        self, view: Batch, needs: Sequence[str], counted_BW: Tensor, *, packing: bool
    ) -> Teacher | None:
        """What they say at the counted positions of a micro-batch, as they read it."""


def build_inputs(
    model: Any,
    batch: Batch,
    *,
    teacher: Any = None,
    needs: Sequence[str] = (),
    normaliser: Tensor | float = 1.0,
    packing: bool = False,
    hidden_ND: Tensor | None = None,
) -> Inputs:
    """The counted positions of a micro-batch under the student, with what `needs` (`objectives.Objective`) names.

    Args:
        model: the student, adapters included.
        teacher: a model of the same tokenizer, in no graph; None where none is needed, or the batch has `cached_ids`.
        normaliser: what the reducer will divide by.
        packing: rows lie one after another while they go through a model; all that comes out is the same.
        hidden_ND: the student's states at the counted positions, where they are known.
    """
    counted_BT = batch["loss_weights"][:, 1:] > 0  # [B, T - 1]: the first token is no target
    lengths_B = counted_BT.sum(1)
    rows_B = torch.arange(len(lengths_B), device=lengths_B.device)

    def column(name: str) -> Tensor | None:
        return batch[name][:, 1:][counted_BT] if name in batch else None  # [B, T] -> [N]

    if hidden_ND is None:
        hidden_ND = counted_states(model, batch, counted_BT, packing=packing)
    replaced_N = column("replaced")
    return Inputs(
        hidden_ND,
        head(model),
        batch["input_ids"][:, 1:][counted_BT],
        weights_N=batch["loss_weights"][:, 1:][counted_BT] / normaliser,
        teacher=_teacher(batch, teacher, needs, counted_BT, packing=packing),
        groups_N=torch.repeat_interleave(rows_B, lengths_B),
        pairs_P2=batch.get("pairs"),
        reference_N=column("reference") if "reference" in needs else None,
        sampled_N=column("sampled"),
        advantages_N=column("advantages"),
        labels_S=_labels(batch) if "labels" in needs else None,
        kl=batch.get("kl"),
        replaced_N=None if replaced_N is None else replaced_N > 0,
    )


def counted_states(
    model: Any, batch: Batch, counted_BT: Tensor, *, packing: bool = False
) -> Tensor:
    """Last hidden states at the tokens before the counted ones, [N, D]."""
    if packing:
        base_model, lengths = causal(model).base_model, (batch["lengths"] - 1).tolist()
        return packed_states(base_model, batch["input_ids"][:, :-1], lengths, counted_BT)
    return states(model, batch["input_ids"])[counted_BT]  # [B, T - 1, D] -> [N, D]


def states(model: Any, ids_BT: Tensor) -> Tensor:
    """Last hidden states at every token but the last, [B, T - 1, D]; right padding needs no mask."""
    output = causal(model).base_model(input_ids=ids_BT[:, :-1], use_cache=False)
    states_BTD: Tensor = output.last_hidden_state
    return states_BTD


def head(model: Any) -> Any:
    """The output projection; of a sharded model, one that shares its gathered weights and none of its hooks."""
    projection = causal(model).get_output_embeddings()
    if not hasattr(projection, "unshard"):
        return projection
    plain = torch.nn.Linear(1, 1, bias=False, device="meta")
    plain.weight, plain.bias = projection.weight, projection.bias
    return plain


def token_embeddings(model: Any, ids_BT: Tensor, counted_BT: Tensor) -> Tensor:
    """A model's embeddings of the input token and of the target at the counted positions, [N, 2, D]."""
    table = causal(model).get_input_embeddings()
    ids_N2 = torch.stack([ids_BT[:, :-1][counted_BT], ids_BT[:, 1:][counted_BT]], 1)
    embeddings_N2D: Tensor = table(ids_N2)
    return embeddings_N2D


def batch_log_probs(model: Any, batch: Batch) -> Tensor:
    """The model's log-probability of every counted target, as a column [B, T], 0 elsewhere; no graph."""
    with torch.no_grad():
        log_probs_N = token_logp(build_inputs(model, batch))
    column_BT = torch.zeros_like(batch["loss_weights"])
    column_BT[:, 1:][batch["loss_weights"][:, 1:] > 0] = log_probs_N.to(column_BT.dtype)
    return column_BT


def _labels(batch: Batch) -> Tensor:
    """Which sequences are right, [S]: what the verifier said of a rollout, or the better sides of pairs."""
    return batch["right"][:, 0] > 0 if "right" in batch else batch["is_first"]


def _teacher(
    batch: Batch, teacher: Any, needs: Sequence[str], counted_BT: Tensor, *, packing: bool
) -> Teacher | None:
    """What is known of the teacher at the counted positions: cached, scored before, or asked now."""
    # Columns of the batch: cached logits, or what a server said of the tokens.
    if "distribution" in needs and "cached_ids" in batch:
        ids_NK = batch["cached_ids"][:, 1:][counted_BT].long()
        log_probs_NK = batch["cached_logp"][:, 1:][counted_BT].float()
        return TopK(ids_NK, log_probs_NK)
    if "logp" in needs and "teacher" in batch:
        return TokenLogp(batch["teacher"][:, 1:][counted_BT])

    # A model at hand, which may read another prompt: the counted tokens are the same, in the same order.
    if teacher is None:
        return None
    view = teacher_view(batch)
    counted_BW = view["loss_weights"][:, 1:] > 0
    if isinstance(teacher, ReadsBatches):
        return teacher.read(view, needs, counted_BW, packing=packing)
    if isinstance(teacher, SelfTeacher):
        with teacher.reading() as model:
            return _ask_teacher(view, model, teacher.head, needs, counted_BW, packing=packing)
    return _ask_teacher(view, teacher, head(teacher), needs, counted_BW, packing=packing)


def _ask_teacher(
    view: Batch,
    model: Any,
    output_head: Any,
    needs: Sequence[str],
    counted_BW: Tensor,
    *,
    packing: bool,
) -> Teacher | None:
    if "distribution" in needs:
        with torch.no_grad():
            hidden_NDt = counted_states(model, view, counted_BW, packing=packing)
            return Hidden(hidden_NDt, output_head)
    if "logp" in needs:
        log_probs_BW = batch_log_probs(model, view)
        return TokenLogp(log_probs_BW[:, 1:][counted_BW])  # [B, W] -> [N]
    return None


def causal(model: Any) -> Any:
    """The language model itself, without what holds its adapters."""
    return getattr(model, "get_base_model", lambda: model)()
