"""Logarithms that stay exact where the plain formula is infinite or rounds to zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST = -1e5  # log-probabilities are held above it: what can't be said is not infinitely surprising, but very much so


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0: log(-expm1(x)) above -ln 2, log1p(-exp(x)) below."""
    near = x > -math.log(2)
    # Each branch sees only values that it is good for, so that neither has a NaN for a gradient.
    inner = torch.where(near, x, torch.full_like(x, -1.0))
    outer = torch.where(near, torch.full_like(x, -1.0), x)
    return torch.where(near, torch.log(-torch.expm1(inner)), torch.log1p(-torch.exp(outer)))


def finite(logs: Tensor) -> Tensor:
    """Log-probabilities without minus infinities, in place: a banned token's 0 times infinity would be no number.

    Where the other side can say it the divergence is infinite, and here so many nats, whose gradient can be clipped.
    """
    return logs.clamp_min_(LEAST)


def vecdot(a: Tensor, b: Tensor) -> Tensor:
    """`sum a b` over the last dimension in the tensors' own precision: autocast would round it to bfloat16."""
    with torch.autocast(a.device.type, enabled=False):
        return torch.linalg.vecdot(a, b)
