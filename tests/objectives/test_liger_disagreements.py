"""Where liger-kernel computes something else, for docs/disagreements.md: what it said, and by hand why ours differs."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import S, T, inputs, told
from liger_made import NEAR, SOFT, Parts, chunked, liger_pairs, pairs

from potstill.objectives import divergence, preference
from potstill.objectives.likelihood import sft

OTHERS = {  # liger's, ours, what liger-kernel 0.8.5 said
    "cpo": (
        liger_pairs("CPO", beta=0.3, alpha=0.5),
        pairs(preference.cpo, beta=0.3, alpha=0.5),
        3.794456,
    ),
    "orpo": (liger_pairs("ORPO", beta=0.3), pairs(preference.orpo, lam=0.3), 4.575767),
    "simpo by default": (
        liger_pairs("SimPO", beta=2.0, gamma=1.0),
        pairs(preference.simpo),
        6.775458,
    ),
}


def likelihoods(parts):
    """Of the better sides: the mean of all tokens, and that of the pairs' means."""
    x = parts.inputs()
    values = sft(x).values_N
    means = [values[x.groups_N == side].mean() for side in range(3)]
    return float(values[x.groups_N < 3].mean().detach()), float(sum(means).detach() / 3)


@pytest.mark.parametrize("name", OTHERS)
def test_ligers_likelihood_is_another_mean(name):
    """By hand: of the tokens of all better sides where ours is of the pairs; SimPO has it too, unless told."""
    parts, (_, ours, said) = Parts(), OTHERS[name]
    by_tokens, by_pairs = likelihoods(parts)
    more = {
        "cpo": 0.5 * (by_tokens - by_pairs),
        "orpo": by_tokens - by_pairs,
        "simpo by default": by_tokens,
    }[name]
    mine = float(ours(parts).detach())
    assert mine + more == pytest.approx(said, **NEAR)
    assert mine == pytest.approx(
        {"cpo": 3.641171, "orpo": 4.269194, "simpo by default": 2.546819}[name], rel=1e-6
    )


@pytest.mark.parametrize("name", OTHERS)
def test_liger_takes_that_mean(name):
    theirs, _, said = OTHERS[name]
    assert float(theirs(Parts()).detach()) == pytest.approx(said, **NEAR)


def ligers(loss, name):
    module = pytest.importorskip(
        f"liger_kernel.chunked_loss.{loss.lower()}_loss", reason="liger-kernel is missing"
    )
    return getattr(getattr(module, f"LigerFusedLinear{loss}Function"), name)


def test_ligers_odds_of_near_certainty():
    """`log1p(-exp(x))` in float32: 1.3 % off at x = -1e-6, no number where both sides are certain."""
    close, certain = torch.tensor([-1e-6, -1.0]), torch.tensor([-1e-8, -1e-8])
    exact = 0.1 * math.log1p(
        math.exp(-(-1e-6 - math.log(-math.expm1(-1e-6)) + 1 + math.log(-math.expm1(-1))))
    )
    for logp, wanted in ((close, exact), (certain, 0.1 * math.log(2))):
        x = told(logp.double(), groups_N=torch.arange(2), pairs_P2=torch.tensor([[0, 1]]))
        odds = (preference.orpo(x, lam=0.1).values_N - preference.orpo(x, lam=0.0).values_N).sum()
        assert float(odds) == pytest.approx(wanted, rel=1e-5)
    assert exact == pytest.approx(5.819768e-8, rel=1e-6)
    said = [
        ligers("ORPO", "preference_loss_fn")(*logp[:, None], torch.zeros(2, 1), beta=0.1)[0]
        for logp in (close, certain)
    ]
    assert float(said[0]) == pytest.approx(5.897055e-8, rel=1e-5) and said[1].isnan()


def test_ligers_kto_leaves_the_clamp_to_the_caller():
    """With kl = -2 and a desirable log-ratio of 0.5: 1 - s(0.25) there, 1 - s(0.05) here."""
    reference = torch.tensor([-1.5], dtype=torch.float64)
    x = told([-1.0], reference_N=reference, labels_S=torch.tensor([True]), kl=torch.tensor(-2.0))
    ours = float(preference.kto(x, beta=0.1).values_N.sum())
    assert ours == pytest.approx(1 - 1 / (1 + math.exp(-0.05))) == pytest.approx(0.487503, abs=5e-7)
    kto, good = ligers("KTO", "preference_loss_fn"), torch.tensor([True])
    said = kto(torch.tensor([0.5]), good, torch.zeros(1, 1), beta=0.1, kl=torch.tensor(-2.0))[0]
    assert float(said) == pytest.approx(0.437823, abs=5e-7)


def test_ligers_divergence_of_other_vocabularies():
    """A token that only the teacher has and never says gets a logit of 0 from the student: 0.405 instead of 0.262."""
    wide = torch.cat([T, torch.full((3, 1), -1e4, dtype=torch.float64)], 1)
    assert float(divergence.forward_kl(inputs(S, wide)).values_N.mean()) == pytest.approx(
        0.262201, abs=5e-7
    )
    jsd = chunked("JSD", beta=0.0, **SOFT)
    said = jsd(
        S.float(), torch.eye(4), wide.float(), torch.eye(5), torch.zeros(3, dtype=torch.long)
    )
    assert float(said) == pytest.approx(0.405, abs=5e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_ligers_divergence_with_a_banned_token(beta):
    banned = T.clone()
    banned[:, 3] = -torch.inf
    assert divergence.jsd(inputs(S, banned), beta=beta).values_N.isfinite().all()
    assert ligers("JSD", "distillation_loss_fn")(S, banned, beta=beta).isnan()
