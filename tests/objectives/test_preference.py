"""Preference objectives: golden values, gradients, limits, pairs that share sequences, TRL's second opinion."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs, told

from potstill.errors import ConfigError
from potstill.objectives import preference as p
from potstill.objectives.inputs import reduce
from potstill.objectives.likelihood import sft

BETTER, WORSE = [-1.0, -0.5, -0.5], [-2.0, -1.0]
REFERENCE = torch.tensor([-1.2, -0.6, -0.7, -1.5, -0.8], dtype=torch.float64)


def pair(**more):
    groups = torch.tensor([0, 0, 0, 1, 1])
    given = {
        "reference_N": REFERENCE,
        "groups_N": groups,
        "pairs_P2": torch.tensor([[0, 1]]),
    } | more
    return told(BETTER + WORSE, **given)


def total(loss):
    return float(loss.values_N.sum())


def test_bco_subtracts_the_baseline_from_both_rewards():
    """Rewards 0.05 and -0.07: `-log s(0.05 - d) - log s(d + 0.07)`, d = 0.3."""
    wanted = torch.nn.functional.softplus(torch.tensor([0.25, -0.37], dtype=torch.float64)).sum()
    assert total(p.dpo(pair(), kind="bco", baseline=0.3)) == pytest.approx(float(wanted), abs=1e-12)


def test_cpo_by_hand():
    """-log s(0.1 (l+ - l-)) + NLL+, l+ = -2, l- = -3."""
    wanted = float(torch.nn.functional.softplus(torch.tensor(-0.1, dtype=torch.float64))) + 2 / 3
    assert total(p.cpo(pair())) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_redi_by_hand(alpha):
    """`-l+ + alpha l-` of means -2/3 and -1.5: 2/3 - 1.5 alpha, and no more than alpha pulls at the rejected one."""
    assert total(p.redi(pair(), alpha=alpha)) == pytest.approx(2 / 3 - 1.5 * alpha, abs=1e-12)


def test_statistics_are_sums_and_counts():
    stats = p.dpo(pair()).stats
    assert {name: (round(float(s.total), 9), int(s.count)) for name, s in stats.items()} == {
        "better": (round(-2 / 3, 9), 1),
        "worse": (-1.5, 1),
        "margin": (0.12, 1),
        "ahead": (1.0, 1),
    }


def test_golden_gradients():
    """DPO: d loss / d Delta = -0.0470036; REDI: -1/3 a chosen token, +0.4 a rejected one. By the chain rule of logp."""
    logp = torch.tensor(BETTER + WORSE, dtype=torch.float64)

    def slope(objective, **how):
        x = pair()
        hidden = x.hidden_ND.clone().requires_grad_()
        x = Inputs(
            hidden,
            x.head,
            x.targets_N,
            groups_N=x.groups_N,
            pairs_P2=x.pairs_P2,
            reference_N=x.reference_N,
        )
        objective(x, **how).values_N.sum().backward()
        return hidden.grad[:, 0] / -torch.expm1(logp)  # d logp / d z0 = 1 - p

    assert slope(p.dpo).tolist() == pytest.approx(
        [-0.0470035948235] * 3 + [0.0470035948235] * 2, abs=1e-9
    )
    assert slope(p.redi).tolist() == pytest.approx([-1 / 3] * 3 + [0.4] * 2, abs=1e-9)


def test_sppo_exo_and_discopop_by_hand():
    """r+ = 0.5, r- = -0.7, so Delta = 1.2: `(0.5 - 5)^2 + (-0.7 + 5)^2`; the others of 0.5 Delta = 0.6."""
    assert total(p.dpo(pair(), kind="sppo")) == pytest.approx(4.5**2 + 4.3**2, abs=1e-12)
    s = 1 / (1 + math.exp(-0.6))
    exo = s * math.log(s / 0.9) + (1 - s) * math.log((1 - s) / 0.1)
    assert total(p.exo(pair(), beta=0.5, smoothing=0.1)) == pytest.approx(exo, abs=1e-12)
    m = 1 / (1 + math.exp(-0.6 / 0.4))
    popped = -(1 - m) * math.log(s) + m * math.exp(-0.6)
    assert total(p.discopop(pair(), beta=0.5, tau=0.4)) == pytest.approx(popped, abs=1e-12)


def test_exo_is_least_where_the_labels_are_met_and_discopop_rises_between():
    """At Delta = log(1 / smoothing - 1) / beta; between -2.38 and 1.44."""

    def slope(objective, delta, **how):
        logp = torch.tensor([-5.0, -5.0], dtype=torch.float64)
        x = told(logp, groups_N=torch.tensor([0, 1]), pairs_P2=torch.tensor([[0, 1]]))
        hidden = x.hidden_ND.clone().requires_grad_()
        reference = logp - torch.tensor([delta, 0.0], dtype=torch.float64)
        x = dataclasses.replace(x, hidden_ND=hidden, reference_N=reference)
        return float(torch.autograd.grad(objective(x, **how).values_N.sum(), hidden)[0][0, 0])

    least = math.log(1 / 0.1 - 1) / 0.5
    turns = [slope(p.exo, least + step, beta=0.5, smoothing=0.1) for step in (-0.01, 0, 0.01)]
    assert turns[0] < -1e-5 and turns[1] == pytest.approx(0, abs=1e-12) and turns[2] > 1e-5
    signs = [slope(p.discopop, delta) > 0 for delta in (-30, -2.39, -2.37, 0, 1.43, 1.45, 30)]
    assert signs == [False, False, True, True, True, False, False]


def test_discopop_is_finite_far_behind():
    """m exp(-u) there is 0 times infinity, and 0."""
    behind = dataclasses.replace(
        pair(), reference_N=torch.tensor([2e4, 0, 0, -2e4, 0], dtype=torch.float64)
    )
    assert total(p.discopop(behind)) == pytest.approx(0.05 * (4e4 - 1), abs=1e-9)  # -log s(u) alone


def sppo(x, **how):
    return p.dpo(x, kind="sppo", **how)


ALL = [p.dpo, sppo, p.step_dpo, p.ipo, p.exo, p.discopop, p.simpo, p.cpo, p.orpo, p.redi, p.kto]


def random(pairs=3, seed=0):
    """Pairs of random lengths under a linear head."""
    torch.manual_seed(seed)
    lengths = torch.randint(1, 6, (2 * pairs,))
    groups = torch.repeat_interleave(torch.arange(2 * pairs), lengths)
    head = torch.nn.Linear(4, 7, dtype=torch.float64)
    n = len(groups)
    return Inputs(
        torch.randn(n, 4, dtype=torch.float64, requires_grad=True),
        head,
        torch.randint(7, (n,)),
        groups_N=groups,
        pairs_P2=torch.arange(2 * pairs).reshape(pairs, 2),
        reference_N=-2 * torch.rand(n, dtype=torch.float64) - 1,
        labels_S=torch.arange(2 * pairs) % 2 == 0,
        kl=torch.tensor(0.1),
    )


def part(x, sequences):
    """The positions of some sequences alone, numbered anew."""
    kept = torch.isin(x.groups, torch.tensor(sequences))
    fields = {n: getattr(x, n)[kept] for n in ("hidden_ND", "targets_N", "reference_N")}
    groups = torch.tensor([sequences.index(int(g)) for g in x.groups[kept]])
    pairs = torch.arange(len(sequences)).reshape(-1, 2)
    return Inputs(
        head=x.head,
        groups_N=groups,
        pairs_P2=pairs,
        labels_S=x.labels_S[sequences],
        kl=x.kl,
        **fields,
    )


@pytest.mark.slow
@pytest.mark.parametrize("objective", ALL)
def test_gradcheck(objective):
    x = random(pairs=2)

    def loss(hidden, weight):
        fields = {
            n: getattr(x, n)
            for n in ("targets_N", "groups_N", "pairs_P2", "reference_N", "labels_S", "kl")
        }
        return objective(Inputs(hidden, lambda h: h @ weight.T, **fields)).values_N

    assert torch.autograd.gradcheck(loss, (x.hidden_ND, x.head.weight.detach().requires_grad_()))


@pytest.mark.parametrize("objective", ALL)
def test_micro_batches_and_chunks_change_nothing(objective):
    """Three pairs in one micro-batch, or in two, chunked or not: the same gradient of the mean."""
    x = random()
    whole = torch.autograd.grad(
        reduce(objective(x).values_N, torch.ones(()), 3.0), (x.hidden_ND, x.head.weight)
    )
    for chunk in (1, 3, 1000):
        total = 0.0
        for sequences in ([0, 1], [2, 3, 4, 5]):
            total = total + objective(part(x, sequences), chunk=chunk).values_N.sum() / 3
        gradients = torch.autograd.grad(total, (x.hidden_ND, x.head.weight))
        for a, b in zip(whole, gradients, strict=True):
            assert torch.allclose(a, b, atol=1e-12), f"chunk={chunk}"


@pytest.mark.parametrize(
    "objective", [one for one in ALL if one is not p.discopop]
)  # which rises in places
def test_one_step_downhill_raises_the_better_side_and_lowers_the_worse(objective):
    x = random(pairs=1, seed=4)
    [grad] = torch.autograd.grad(objective(x).values_N.sum(), x.hidden_ND)
    after = Inputs(x.hidden_ND.detach() - 1e-4 * grad, x.head, x.targets_N)
    change = (sft(Inputs(x.hidden_ND, x.head, x.targets_N)).values_N - sft(after).values_N).detach()
    assert change[x.groups == 0].sum() > 0
    assert change[x.groups == 1].sum() < 0


def test_limits():
    """REDI at 0 is SFT by sequence means; DPO of a policy that is its reference is ln 2."""
    x = random()
    nll = sft(x).values_N.detach()
    expected = sum(float(nll[x.groups == s].mean()) for s in (0, 2, 4))
    assert total(p.redi(x, alpha=0)) == pytest.approx(expected)
    equal = Inputs(
        x.hidden_ND,
        x.head,
        x.targets_N,
        groups_N=x.groups_N,
        pairs_P2=x.pairs_P2,
        reference_N=-nll.detach(),
    )
    assert total(p.dpo(equal)) == pytest.approx(3 * 0.69314718056)


def test_masked_prefix_of_both_sides_cancels_in_dpo():
    """Counted, a shared prefix adds the same to both sums; masked, it adds nothing: the same loss."""
    prefix, reference = [-0.3, -0.7], torch.tensor([-0.4, -0.6], dtype=torch.float64)
    counted = told(
        [*prefix, *BETTER, *prefix, *WORSE],
        groups_N=torch.tensor([0] * 5 + [1] * 4),
        pairs_P2=torch.tensor([[0, 1]]),
        reference_N=torch.cat([reference, REFERENCE[:3], reference, REFERENCE[3:]]),
    )
    assert total(p.step_dpo(counted)) == pytest.approx(total(p.step_dpo(pair())), abs=1e-12)


def test_extreme_log_probabilities_are_finite():
    hidden = torch.tensor([[0.0, -800.0], [0.0, 800.0]], dtype=torch.float64, requires_grad=True)
    for objective in ALL:
        x = Inputs(
            hidden,
            lambda h: h,
            torch.zeros(2, dtype=torch.long),
            groups_N=torch.tensor([0, 1]),
            pairs_P2=torch.tensor([[1, 0]]),
            reference_N=torch.tensor([-1.0, -1.0], dtype=torch.float64),
            labels_S=torch.tensor([False, True]),
        )
        loss = objective(x).values_N
        [grad] = torch.autograd.grad(loss.sum(), hidden)
        assert torch.isfinite(loss).all() and torch.isfinite(grad).all(), objective


def test_the_odds_of_certainty_are_held():
    """The formula is infinite where a side's likelihood is 1: held at 1e7 to 1, with a gradient all the same."""
    sure = told([-1e-300, -1.0], groups_N=torch.tensor([0, 1]), pairs_P2=torch.tensor([[1, 0]]))
    held = told([-1e-7, -1.0], groups_N=torch.tensor([0, 1]), pairs_P2=torch.tensor([[1, 0]]))
    assert total(p.orpo(sure)) == pytest.approx(total(p.orpo(held)), abs=1e-6)
    hidden = sure.hidden_ND.clone().requires_grad_()
    loss = p.orpo(
        Inputs(hidden, sure.head, sure.targets_N, groups_N=sure.groups_N, pairs_P2=sure.pairs_P2)
    )
    [grad] = torch.autograd.grad(loss.values_N.sum(), hidden)
    assert torch.isfinite(grad).all()
    assert grad[1, 0] < 0  # the better side, which is not sure, is pushed up


def test_smoothing_swaps_the_rewards_less_the_baseline():
    """Robust bco: (0.9 L(0.05 - d, -0.07 - d) - 0.1 L(-0.07 - d, 0.05 - d)) / 0.8, d = 0.3; a half is refused."""
    softplus = lambda v: float(torch.nn.functional.softplus(torch.tensor(v, dtype=torch.float64)))  # noqa: E731
    right, wrong = softplus(0.25) + softplus(-0.37), softplus(0.37) + softplus(-0.25)
    found = total(p.dpo(pair(), kind="bco", baseline=0.3, smoothing=0.1))
    assert found == pytest.approx((0.9 * right - 0.1 * wrong) / 0.8, abs=1e-12)
    with pytest.raises(ConfigError, match=r"smoothing=0\.5"):
        p.dpo(pair(), smoothing=0.5)


def test_label_smoothing_is_least_where_the_better_side_wins_as_often_as_labels_are_right():
    """Conservative DPO by hand: 0.9 L(0.12) + 0.1 L(-0.12); with beta the margin, s(margin) = 0.9 is its least."""
    right, wrong = math.log1p(math.exp(-0.12)), math.log1p(math.exp(0.12))
    found = total(p.dpo(pair(), label_smoothing=0.1))
    assert found == pytest.approx(0.9 * right + 0.1 * wrong, abs=1e-12)
    best = math.log(9) / 1.2  # the beta at which the pair's margin is log(0.9 / 0.1)
    losses = [total(p.dpo(pair(), beta=best * x, label_smoothing=0.1)) for x in (0.9, 1, 1.1)]
    assert min(losses) == losses[1]


def test_a_sequence_without_counted_positions_leaves_ktos_statistics_finite():
    x = told(
        [-1.0],
        reference_N=torch.tensor([-1.3], dtype=torch.float64),
        groups_N=torch.tensor([0]),
        labels_S=torch.tensor([True, False]),
    )
    assert all(torch.isfinite(one.total) for one in p.kto(x).stats.values())


def test_what_is_missing_is_said():
    with pytest.raises(ConfigError, match="reference_N"):
        p.dpo(pair(reference_N=None))
    with pytest.raises(ConfigError, match="without a rival"):
        p.redi(pair(pairs_P2=None))
    with pytest.raises(ConfigError, match="needs labels"):
        p.kto(pair())
    with pytest.raises(ConfigError, match=r"smoothing=0 of exo"):
        p.exo(pair(), smoothing=0)
    with pytest.raises(ConfigError, match=r"tau=2\.0 of discopop"):
        p.discopop(pair(), tau=2.0)
    with pytest.raises(ConfigError, match="unknown kind='sigmod'"):
        p.dpo(pair(), kind="sigmod")


@pytest.mark.parametrize("kind", ["simpo", "sigmoid"])
def test_trl_agrees_on_simpo_and_cpo(kind, monkeypatch):
    """TRL mixes `cpo_alpha` times the likelihood in elsewhere: its cpo_loss is the term without it."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    cpo = pytest.importorskip("trl.experimental.cpo", reason="needs the extra potstill[dev]")
    trainer = cpo.CPOTrainer.__new__(cpo.CPOTrainer)
    trainer.loss_type, trainer.beta, trainer.simpo_gamma, trainer.label_smoothing = (
        kind,
        2.0,
        1.0,
        0.0,
    )
    trainer.accelerator, trainer.alpha = SimpleNamespace(device=torch.device("cpu")), 0.0
    means = (
        [torch.tensor([-2 / 3]), torch.tensor([-1.5])]
        if kind == "simpo"
        else [torch.tensor([-2.0]), torch.tensor([-3.0])]
    )
    wanted = float(trainer.cpo_loss(*means)[0])
    ours = total(p.simpo(pair())) if kind == "simpo" else total(p.cpo(pair(), beta=2.0, alpha=0.0))
    assert ours == pytest.approx(wanted, abs=2e-6)


def test_trl_agrees_on_orpo(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    orpo = pytest.importorskip("trl.experimental.orpo", reason="needs the extra potstill[dev]")
    trainer = orpo.ORPOTrainer.__new__(orpo.ORPOTrainer)
    trainer.beta, trainer.accelerator = 0.1, SimpleNamespace(device=torch.device("cpu"))
    losses = trainer.odds_ratio_loss(torch.tensor([-2 / 3]), torch.tensor([-1.5]))[0]
    assert total(p.orpo(pair())) - 2 / 3 == pytest.approx(-float(losses), abs=2e-6)
