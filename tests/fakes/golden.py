"""The fixtures of the golden values: logits already shifted, row t predicts target t."""

from __future__ import annotations

import copy
import dataclasses
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.objectives.inputs import Hidden, Inputs, Logits, TopK

S = torch.tensor(
    [[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [0.5, -0.5, 1.5, 0.0]], dtype=torch.float64
)
T = torch.tensor(
    [[1.0, 2.0, 0.5, -1.0], [1.0, 0.0, -1.0, 0.5], [0.5, 0.0, 3.0, -0.5]], dtype=torch.float64
)
Y = torch.tensor([1, 0, 2])


def same(logits):
    """A head for inputs whose hidden states are the logits."""
    return logits


def inputs(logits=S, teacher=None, **more):
    """Positions whose hidden states are the logits themselves."""
    targets = more.pop(
        "targets_N",
        Y[: len(logits)] if len(logits) <= 3 else torch.zeros(len(logits), dtype=torch.long),
    )
    if isinstance(teacher, torch.Tensor):
        teacher = Logits(teacher)
    return Inputs(logits, more.pop("head", same), targets, teacher=teacher, **more)


def linear(width=5, vocabulary=11, positions=13, seed=0, dtype=torch.float64, bias=True):
    """Random states under a real linear head, with a teacher of another width."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(width, vocabulary, bias=bias, dtype=dtype)
    theirs = torch.nn.Linear(width + 2, vocabulary, bias=False, dtype=dtype)
    hidden = torch.randn(positions, width, dtype=dtype, requires_grad=True)
    teacher = Hidden(3 * torch.randn(positions, width + 2, dtype=dtype), theirs)
    return Inputs(hidden, head, torch.randint(vocabulary, (positions,)), teacher=teacher)


def told(logp, **more):
    """Positions whose log-probabilities are these: two classes, the other one takes the rest."""
    logp = torch.as_tensor(logp, dtype=torch.float64)
    hidden = torch.stack([logp, torch.log(-torch.expm1(logp))], 1)
    return Inputs(hidden, more.pop("head", same), torch.zeros(len(logp), dtype=torch.long), **more)


def cast(x, dtype):
    """Inputs, or any part of them, with every floating number and every module in this precision; none is shared."""
    if isinstance(x, Inputs):
        return Inputs(
            **{field.name: cast(getattr(x, field.name), dtype) for field in dataclasses.fields(x)}
        )
    if isinstance(x, torch.nn.Module):
        made = copy.deepcopy(x)
        return made.to(dtype)
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        return x.detach().to(dtype, copy=True).requires_grad_(x.requires_grad)
    if isinstance(x, tuple):
        parts = [cast(part, dtype) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return x


class Way(NamedTuple):
    """A way to compute the same: precision, head (a function, or a linear layer that is the identity), chunk."""

    dtype: torch.dtype
    linear: bool
    chunk: int

    def __call__(self, x):
        """Inputs whose hidden states are logits, computed in this way."""
        x = cast(x, self.dtype)
        if not self.linear:
            return x
        head = torch.nn.Linear(
            x.hidden_ND.shape[1], x.hidden_ND.shape[1], bias=False, dtype=self.dtype
        )
        torch.nn.init.eye_(head.weight)
        return dataclasses.replace(x, head=head)

    def near(self, expected):
        """What is as near as this precision allows: 1e-9 in float64, 2e-6 in fp32."""
        size = 1e-9 if self.dtype == torch.float64 else 2e-6
        return pytest.approx(expected, rel=size, abs=size)


WAYS = {
    "plain, float64": Way(torch.float64, False, 0),
    "plain, fp32": Way(torch.float32, False, 0),
    "chunked, float64": Way(torch.float64, True, 1),
    "chunked, fp32": Way(torch.float32, True, 2),
}
every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))

__all__ = ["Hidden", "Inputs", "Logits", "S", "T", "TopK", "Y"]
__all__ += ["WAYS", "cast", "every_way", "inputs", "linear", "same", "told", "torch"]
