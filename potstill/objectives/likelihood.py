"""Supervised learning on text: what the likelihood of a trace's tokens says, in four wordings.

Shapes: see `inputs.py`. All are losses per counted position, in nats; weights and mean are the reducer's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.objectives import ranges
from potstill.objectives.chunked import Kernel, losses, pieced
from potstill.objectives.inputs import Inputs, Loss, summed

TINY = 1e-6  # 1 - p is never below it: the unlikelihood of a certain token is 13.8 and not infinite


def sft(x: Inputs, *, chunk: int = 0) -> Loss:
    """Negative log-likelihood: `-log softmax(head(h))[y]`. Span, token and row weights are the reducer's."""
    values = losses(x, nll(x.targets_N), chunk=chunk)
    return Loss(values, {"nll": summed(values)})


def token_logp(x: Inputs, *, chunk: int = 0) -> Tensor:
    """Log-probability of each target, [N], differentiable: what preference and policy losses are made of."""
    return -losses(x, nll(x.targets_N), chunk=chunk)


def dft(x: Inputs, *, chunk: int = 0) -> Loss:
    """Dynamic fine-tuning: `- sg(p(y)) log p(y)`, p(y) held constant (Wu et al., arXiv:2508.05629, as TRL has it).

    Tokens that the student finds improbable get next to no gradient: only for a student that knows the format.
    """

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        value, slope = nll(x.targets_N)(logits, rows, gradient)
        share = torch.exp(-value)
        return share * value, None if slope is None else slope.mul_(share[:, None])

    values = losses(x, kernel, chunk=chunk)
    return Loss(values, {"dft": summed(values)})


def unlikelihood(x: Inputs, *, chunk: int = 0) -> Loss:
    """`-log(1 - p(y))`: pushes a wrong trace's tokens down, bounded below by 0 (Welleck et al., arXiv:1908.04319)."""

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        value, slope = nll(x.targets_N)(logits, rows, gradient)
        complement = (-torch.expm1(-value)).clamp_min(TINY)  # 1 - p, exact where p is near 1
        loss = -complement.log()
        if slope is None:
            return loss, None
        factor = -(1 - complement) / complement  # [C], of the gradient of -log p
        return loss, slope.mul_(factor[:, None])

    values = losses(x, kernel, chunk=chunk)
    return Loss(values, {"unlikelihood": summed(values)})


def length_balanced(x: Inputs, *, power: float = 1.0, chunk: int = 0) -> Loss:
    """Likelihood with each sequence's tokens divided by `length ** power`: 0 counts tokens alike, 1 sequences alike.

    Between them long traces weigh more, but less than in proportion. (inferred: a plain interpolation of the two means
    that every trainer offers one of.)
    """
    ranges.not_negative("length_balanced", power=power)
    value = losses(x, nll(x.targets_N), chunk=chunk)
    values = value / x.lengths()[x.groups].to(value.dtype) ** power
    return Loss(values, {"nll": summed(value)})


def nll(targets_N: Tensor) -> Kernel:
    """`-log softmax(z)[y]`, gradient `q - onehot(y)`."""

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        wanted = targets_N[rows, None]
        total = logits.logsumexp(-1, keepdim=True)
        value = (total - logits.gather(1, wanted)).squeeze(1)
        if not gradient:
            return value, None
        slope = logits.sub_(total).exp_()
        slope.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=slope.dtype))
        return value, slope

    return pieced(kernel)
