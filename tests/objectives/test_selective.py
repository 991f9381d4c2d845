"""Losses that treat some tokens otherwise: KID's replaced ones, self-evolution's hard ones; in plain Python."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs, S, T, Y, inputs, linear

from potstill.errors import ConfigError
from potstill.objectives import divergence as d
from potstill.objectives.inputs import reduce
from potstill.objectives.truncated import top_k

REPLACED = torch.tensor([False, True, False])


def softmax(logits):
    weights = [math.exp(value) for value in logits.tolist()]
    return [weight / sum(weights) for weight in weights]


def kl(first, second):
    return sum(a * math.log(a / b) for a, b in zip(first, second, strict=True) if a)


def kid_by_hand(mle, temperature):
    values = []
    for z, zt, y, is_replaced in zip(S, T, Y.tolist(), REPLACED.tolist(), strict=True):
        value = kl(softmax(z / temperature), softmax(zt / temperature))
        if not is_replaced:
            value -= mle * math.log(softmax(z)[y])
        values.append(value)
    return values


def self_evolution_by_hand(prior, gold, threshold):
    values = []
    for z, zt, y in zip(S, T, Y.tolist(), strict=True):
        q, p = softmax(z), softmax(zt)
        known = [(1 - gold) * share + gold * (token == y) for token, share in enumerate(p)]
        share = prior if kl(known, q) > threshold else 0.0
        mixture = [share * g + (1 - share) * b for g, b in zip(known, q, strict=True)]
        values.append(kl(p, mixture))
    return values


@pytest.mark.parametrize(("mle", "temperature"), [(1.0, 1.0), (0.3, 2.0)])
def test_kid_is_what_plain_python_computes(mle, temperature):
    x = inputs(S, T, replaced_N=REPLACED)
    loss = d.kid(x, mle=mle, temperature=temperature)
    assert loss.values_N.tolist() == pytest.approx(kid_by_hand(mle, temperature), abs=1e-12)
    assert loss.stats["replaced"].total == 1 and loss.stats["replaced"].count == 3


# The second token's difficulty is 0.27, the others' 0.64 and 0.53.
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.6, 9.0])
def test_self_evolution_is_what_plain_python_computes(threshold):
    loss = d.self_evolution(inputs(S, T), prior=0.4, gold=0.7, threshold=threshold)
    by_hand = self_evolution_by_hand(0.4, 0.7, threshold)
    assert loss.values_N.tolist() == pytest.approx(by_hand, abs=1e-12)


def test_cwtm_is_the_golden_value():
    """golden: ban_cwtm."""
    loss = d.cwtm(inputs(S, T))
    whole = loss.values_N.sum() / loss.stats["confidence"].total
    assert float(whole) == pytest.approx(1.03122513883, abs=1e-9)
    x = linear()
    for chunk in (1, 5):
        assert torch.allclose(d.cwtm(x, chunk=chunk).values_N, d.cwtm(x).values_N, atol=1e-12)
    every = Inputs(S, lambda logits: logits, Y, teacher=top_k(T, 2))
    assert torch.allclose(d.cwtm(every).values_N, loss.values_N, atol=1e-12)


def test_dkpp_keeps_the_best_token_alone():
    values = d.dkpp(inputs(S, T)).values_N
    for value, z, zt in zip(values.tolist(), S, T, strict=True):
        p = softmax(zt)
        best = p.index(max(p))
        others = [token for token in range(4) if token != best]
        permuted = list(p)
        for place, token in enumerate(others):
            permuted[token] = p[others[place - 1]]
        assert value == pytest.approx(kl(permuted, softmax(z)), abs=1e-12)


def test_limits_are_the_losses_that_they_are_made_of():
    forward = d.forward_kl(inputs(S, T)).values_N
    for easy in ({"threshold": 9.0}, {"prior": 0.0, "threshold": 0.0}):
        assert torch.equal(d.self_evolution(inputs(S, T), **easy).values_N, forward)
    half = d.self_evolution(inputs(S, T), prior=0.1, gold=0.0, threshold=0.0)
    assert torch.allclose(half.values_N, d.skew_kl(inputs(S, T), skew=0.1).values_N, atol=1e-12)
    reverse = d.reverse_kl(inputs(S, T)).values_N
    assert torch.equal(d.kid(inputs(S, T), mle=0.0).values_N, reverse)
    whole = d.kid(inputs(S, T, replaced_N=torch.ones(3, dtype=torch.bool))).values_N
    assert torch.equal(whole, reverse)


LOSSES = {
    "dkpp": (d.dkpp, {}),
    "kid": (d.kid, {"mle": 0.7, "temperature": 1.5}),
    "self_evolution": (d.self_evolution, {"threshold": 1.0, "gold": 0.6}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_against_finite_differences_and_in_every_chunk(name):
    function, constants = LOSSES[name]
    x = linear(width=3, vocabulary=5, positions=6)
    x = dataclasses.replace(x, replaced_N=torch.arange(6) % 2 == 0)

    def loss(hidden, weight):
        y = dataclasses.replace(x, hidden_ND=hidden, head=lambda h: h @ weight.T)
        return function(y, **constants).values_N

    weight = x.head.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(loss, (x.hidden_ND, weight))
    whole = torch.autograd.grad(function(x, **constants).values_N.sum(), x.hidden_ND)[0]
    for chunk in (1, 4):
        values = function(x, chunk=chunk, **constants).values_N
        [grad] = torch.autograd.grad(reduce(values, torch.ones_like(values), 1.0), x.hidden_ND)
        assert torch.allclose(grad, whole, atol=1e-12)


def test_banned_vocabulary_counts_nothing():
    banned = torch.full((3, 1), -torch.inf, dtype=torch.float64)
    wide = inputs(torch.cat([S, banned], 1).requires_grad_(), torch.cat([T, banned], 1))
    for function, constants in LOSSES.values():
        values = function(wide, **constants).values_N
        assert torch.allclose(values, function(inputs(S, T), **constants).values_N, atol=1e-12)
        [grad] = torch.autograd.grad(values.sum(), wide.hidden_ND)
        assert torch.isfinite(grad).all() and grad[:, -1].abs().max() == 0


def test_both_want_all_of_a_teachers_distribution_and_sound_constants():
    cached = Inputs(S, lambda logits: logits, Y, teacher=top_k(T, 2))
    for name, (function, _) in LOSSES.items():
        with pytest.raises(ConfigError, match=f"{name} needs the teacher's full logits"):
            function(cached)
    with pytest.raises(ConfigError, match="mle=-1"):
        d.kid(inputs(S, T), mle=-1)
    with pytest.raises(ConfigError, match="prior of self_evolution is 1"):
        d.self_evolution(inputs(S, T), prior=1.0)
