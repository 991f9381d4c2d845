"""Supervised learning on text: the negative log-likelihood of the completion's tokens.

Shapes: N counted positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]
LOGITS_AT_ONCE = 1 << 27  # fp32 entries: half a GiB of logits; more rows are done in chunks and recomputed backwards


def likelihood(hidden_ND: Tensor, head: Head, targets_N: Tensor, *, chunk: int = 0) -> Tensor:
    """Negative log-likelihood of each counted token, in nats, unreduced: `-log softmax(head(h))[y]`.

    The softmax is computed in fp32 whatever the dtype of the head. Rows are done in chunks, recomputed backwards;
    the value and both gradients are the same for every chunk size.

    Args:
        hidden_ND: the student's last hidden states *at the positions that predict* a counted token, [N, D].
        head: the student's output projection, [n, D] to [n, V]; a module, so that bias and adapters on it count.
        targets_N: token ids to be predicted, [N].
        chunk: rows whose logits exist at the same time; 0 chooses from the vocabulary.

    Returns:
        [N], fp32.
    """
    if not len(targets_N):
        return hidden_ND.sum(dim=1).float()
    chunk = chunk or max(256, LOGITS_AT_ONCE // _width(head, hidden_ND))
    if chunk >= len(targets_N):
        return _nll(hidden_ND, head, targets_N)
    pieces = zip(hidden_ND.split(chunk), targets_N.split(chunk))
    return torch.cat([checkpoint(_nll, hidden, head, targets, use_reentrant=False) for hidden, targets in pieces])


def reduce(loss_N: Tensor, weights_N: Tensor, normaliser: Tensor | float) -> Tensor:
    """Weighted sum over a micro-batch's positions, divided by the sum of weights of the *whole* effective batch.

    So the gradient is the same however the batch is cut into micro-batches.
    """
    return (loss_N * weights_N).sum() / normaliser


def _nll(hidden_ND: Tensor, head: Head, targets_N: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden_ND).float(), targets_N, reduction="none")


def _width(head: Head, hidden_ND: Tensor) -> int:
    """Vocabulary size V; one row is enough to learn it."""
    with torch.no_grad():
        return int(head(hidden_ND[:1]).shape[-1])
