"""What somebody else says of a loss, beside what we say: numbers and gradients, and how near they must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")


class Near(NamedTuple):
    """How near: numbers relative or absolute, gradients relative to the largest entry, or to `floor` above it."""

    rel: float
    abs: float
    gradient: float = 0.0
    floor: float = 0.0


EXACT = Near(rel=1e-9, abs=1e-9, gradient=1e-9, floor=1.0)  # float64
SINGLE = Near(rel=2e-6, abs=2e-6, gradient=2e-6, floor=1.0)  # float32
TRAINER = Near(rel=2e-5, abs=2e-5, gradient=1e-4)  # a model of several layers in float32
LIGER = Near(rel=3e-6, abs=1e-7, gradient=1e-5)  # sums of float32 beside float64


class Comparison(NamedTuple):
    """Both sides of one opinion."""

    theirs: Any
    """Numbers: a scalar, or nested lists."""
    ours: Any
    near: Near = EXACT
    their_gradients: Sequence[torch.Tensor] = ()
    our_gradients: Sequence[torch.Tensor] = ()
    label: str = ""
    """Which of an opinion's comparisons it is; a failure names it."""


Opinion: TypeAlias = Callable[[Any], "Comparison | list[Comparison]"]
"""From what all opinions share (`Bench`) to what is compared."""


def compare(theirs: Any, ours: Any, leaves: Sequence[Any], near: Near = EXACT) -> Comparison:
    """Two losses of the same leaves: their values, and their gradients in every entry."""
    gradients = [torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (theirs, ours)]
    return Comparison(number(theirs), number(ours), near, *gradients)


def number(scalar: Any) -> float:
    """A scalar tensor as a number."""
    return float(scalar.detach())


def check(comparison: Comparison) -> None:
    """Assert that both sides say the same, and that there is something to say."""
    near = comparison.near
    assert_numbers(comparison.ours, comparison.theirs, near)
    pairs = zip(comparison.their_gradients, comparison.our_gradients, strict=True)
    for theirs, ours in pairs:
        largest = float(theirs.abs().max())
        assert largest > 1e-3 * near.floor, "a gradient of zeros proves nothing"
        distance = float((theirs - ours).abs().max())
        assert distance <= near.gradient * max(near.floor, largest)


def assert_numbers(ours: Any, theirs: Any, near: Near) -> None:
    """Assert that nested numbers are near."""
    if isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for our_part, their_part in zip(ours, theirs, strict=True):
            assert_numbers(our_part, their_part, near)
        return
    assert ours == pytest.approx(theirs, rel=near.rel, abs=near.abs)
