"""The fixtures of the golden values: logits already shifted, row t predicts target t."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.objectives.inputs import Hidden, Inputs, Logits, TopK  # noqa: E402

S = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [0.5, -0.5, 1.5, 0.0]], dtype=torch.float64)
T = torch.tensor([[1.0, 2.0, 0.5, -1.0], [1.0, 0.0, -1.0, 0.5], [0.5, 0.0, 3.0, -0.5]], dtype=torch.float64)
Y = torch.tensor([1, 0, 2])


def same(logits):
    """A head for inputs whose hidden states are the logits."""
    return logits


def inputs(logits=S, teacher=None, **more):
    """Positions whose hidden states are the logits themselves."""
    targets = more.pop(
        "targets_N", Y[: len(logits)] if len(logits) <= 3 else torch.zeros(len(logits), dtype=torch.long)
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


__all__ = ["Hidden", "Inputs", "Logits", "S", "T", "TopK", "Y", "inputs", "linear", "same", "torch"]
