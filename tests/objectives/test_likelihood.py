"""Likelihood objectives: golden values and gradients, the reducer's laws, every way of computing them."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import S, Y, inputs, linear, same

from potstill.objectives.inputs import Inputs, per_sequence, reduce, spread
from potstill.objectives.likelihood import (
    dft,
    length_balanced,
    sft,
    token_logp,
    unlikelihood,
)

OBJECTIVES = [sft, dft, unlikelihood, length_balanced]


def mean(loss):
    return float(loss.values_N.mean())


def test_unlikelihood_by_hand():
    """-log(1 - p(y)), p(y) = exp(-nll); the golden mean, 0.302044, is of the case's own tokens."""
    p = [math.exp(-v) for v in (1.44018969856, 1.38629436112, 0.546006389941)]
    assert unlikelihood(inputs()).values_N.tolist() == pytest.approx(
        [-math.log(1 - v) for v in p], abs=1e-9
    )
    certain = unlikelihood(
        inputs(torch.tensor([[60.0, 0.0]], dtype=torch.float64), targets_N=torch.tensor([0]))
    )
    assert float(certain.values_N) == pytest.approx(-math.log(1e-6))


def test_weighted_means():
    """Case sft_weighted: two legitimate normalisers."""
    weights, values = (
        torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64),
        sft(inputs()).values_N,
    )
    assert float(reduce(values, weights, weights.sum())) == pytest.approx(0.91382914008, abs=1e-9)
    assert float(reduce(values, weights, 3)) == pytest.approx(1.06613399676, abs=1e-9)


def test_token_and_sequence_means():
    """Case sft_token_vs_sequence_mean."""
    values = torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0, 3.0])
    x = Inputs(
        values[:, None],
        same,
        torch.zeros(6, dtype=torch.long),
        groups_N=torch.tensor([0, 0, 0, 0, 1, 1]),
    )
    assert float(reduce(values, torch.ones(6), 6)) == pytest.approx(10 / 6)
    assert float(reduce(values, 1 / x.lengths()[x.groups], 2)) == 2.0
    assert per_sequence(spread(torch.tensor([5.0, 7.0]), x), x).tolist() == [5.0, 7.0]


def test_length_balanced_lies_between_the_means():
    groups = torch.tensor([0, 0, 1])
    nll = sft(inputs()).values_N
    tokens, sequences = (
        float(length_balanced(inputs(groups_N=groups), power=p).values_N.sum()) for p in (0, 1)
    )
    assert tokens == pytest.approx(float(nll.sum()))
    assert sequences == pytest.approx(float(nll[:2].mean() + nll[2]))
    half = float(length_balanced(inputs(groups_N=groups), power=0.5).values_N.sum())
    assert sequences < half < tokens


def test_accumulated_parts_equal_the_whole():
    """Case sft_grad_accum: four tokens in micro-batches of 3 and 1; a mean of means would give 3.0."""
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    cut = reduce(losses[:3], torch.ones(3), 4.0) + reduce(losses[3:], torch.ones(1), 4.0)
    assert float(cut) == 2.5


def test_weights_that_were_promised_and_not_kept_do_not_change_the_gradient():
    x = linear()
    promised = Inputs(
        x.hidden_ND, x.head, x.targets_N, weights_N=torch.rand(13, dtype=torch.float64)
    )
    other = torch.rand(13, dtype=torch.float64)
    found = torch.autograd.grad(
        (sft(promised).values_N * other).sum(), (x.hidden_ND, x.head.weight, x.head.bias)
    )
    wanted = torch.autograd.grad(
        (sft(x).values_N * other).sum(), (x.hidden_ND, x.head.weight, x.head.bias)
    )
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_dft_holds_its_weight_constant():
    logits = S.clone().requires_grad_()
    dft(inputs(logits)).values_N.sum().backward()
    p = S.softmax(-1).gather(1, Y[:, None])
    wanted = p * (S.softmax(-1) - torch.nn.functional.one_hot(Y, 4))
    assert torch.allclose(logits.grad, wanted, atol=1e-12)


def test_trl_agrees_on_token_logprobs():
    trl = pytest.importorskip("trl.trainer.utils", reason="needs the extra potstill[dev]")
    wanted = trl.selective_log_softmax(S[None], Y[None])[0]
    assert token_logp(inputs()).tolist() == pytest.approx(wanted.tolist(), abs=1e-12)


def test_extreme_logits_are_finite():
    loss = sft(
        inputs(torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]]), targets_N=torch.tensor([1, 1]))
    )
    assert loss.values_N.tolist() == [1000.0, 0.0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_masked_equals_dropped(objective):
    """A position with weight 0 adds nothing to value or gradient, whatever stands there."""
    x = linear()
    weights = torch.ones(13, dtype=torch.float64)
    weights[5:] = 0
    masked = torch.autograd.grad(
        reduce(objective(x).values_N, weights, 5.0), (x.hidden_ND, x.head.weight)
    )
    less = Inputs(x.hidden_ND[:5], x.head, x.targets_N[:5], groups_N=None)
    dropped = torch.autograd.grad(
        reduce(objective(less).values_N, weights[:5], 5.0), (x.hidden_ND, x.head.weight)
    )
    scale = 13 / 5 if objective is length_balanced else 1.0  # its length counts what is given to it
    for a, b in zip(masked, dropped, strict=True):
        assert torch.allclose(a * scale, b, atol=1e-12)
