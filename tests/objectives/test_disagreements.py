"""Where others compute something else: both figures, for docs/disagreements.md."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import S, T, inputs, told

from potstill.objectives import TABLE, policy
from potstill.objectives import divergence as d
from potstill.objectives import preference as p
from potstill.objectives.inputs import TokenLogp
from potstill.objectives.likelihood import sft

D = torch.float64
P, Q = T.softmax(-1), S.softmax(-1)
ENTROPY = 0.917886  # the teacher's, the fixture's mean


def mean(objective, **how):
    return float(objective(inputs(S, T), **how).values_N.mean())


def kl(first, second):
    return (first * (first.log() - second.log())).sum(-1)


@pytest.fixture
def gkd(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    module = pytest.importorskip("trl.experimental.gkd", reason="needs the extra potstill[dev]")
    return module.GKDTrainer.generalized_jsd_loss


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_one_banned_token_of_the_teacher_makes_trls_divergence_no_number(gkd, beta):
    banned = T.clone()
    banned[:, 3] = -torch.inf
    assert torch.isnan(gkd(S[None], banned[None], beta=beta, reduction="sum"))
    p0, lq = banned.softmax(-1), S.log_softmax(-1)
    mixture = beta * p0 + (1 - beta) * Q
    forward = torch.xlogy(p0, p0).sum(-1) - (p0 * mixture.log()).sum(-1)
    wanted = (
        forward if beta == 0 else beta * forward + (1 - beta) * (Q * (lq - mixture.log())).sum(-1)
    )
    assert d.jsd(inputs(S, banned), beta=beta).values_N.tolist() == pytest.approx(
        wanted.tolist(), abs=1e-12
    )


def test_temperature_twice_is_trls_once_and_ours_squared_the_classical_one(gkd):
    trl = float(gkd(S[None], T[None], beta=0.0, temperature=2.0, reduction="sum")) / 3
    assert (
        mean(d.forward_kl, temperature=2.0)
        == pytest.approx(trl, abs=1e-12)
        == pytest.approx(0.0754, abs=5e-5)
    )
    assert mean(d.forward_kl, temperature=2.0, squared=True) == pytest.approx(4 * trl, abs=1e-12)


def test_zero_logits_in_the_place_of_tokens_that_the_student_lacks():
    """liger pads the student's logits with 0 where the teacher's vocabulary is larger."""
    wide = torch.cat([T, torch.full((3, 1), -1e4, dtype=D)], 1)
    padded = torch.cat([S, torch.zeros(3, 1, dtype=D)], 1).log_softmax(-1)
    liger = (wide.softmax(-1) * (wide.log_softmax(-1) - padded)).nan_to_num().sum(-1).mean()
    assert float(liger) == pytest.approx(0.405, abs=5e-4)
    assert float(d.forward_kl(inputs(S, wide)).values_N.mean()) == pytest.approx(0.262201, abs=5e-7)


def test_cross_entropy_forms_have_our_gradient_and_a_floor():
    """DistiLLM's skew KL (1.130897) and TAID's loss (1.157658) are ours plus the entropy of the target."""
    assert mean(d.skew_kl) + ENTROPY == pytest.approx(1.130897, abs=2e-6)
    target = (0.6 * S + 0.4 * T).softmax(-1)
    taid = -(target * S.log_softmax(-1)).sum(-1).mean()
    assert float(taid) == pytest.approx(1.157658, abs=5e-7)
    assert mean(d.taid, t=0.4) == pytest.approx(0.050630, abs=5e-7)


def test_adaptive_kl_of_taids_authors():
    """Their mask is in sorted order and their gaps are not; their forward half is a cross-entropy; weights have slopes.

    With the gaps in the mask's order and the divergence as such, it is ours: a head of the largest classes.
    """
    order = P.argsort(-1)
    head = P.gather(-1, order).cumsum(-1) >= 0.5
    gap, cross = (P - Q).abs(), -(P * Q.log()).sum(-1)

    def weight(gaps):
        return (gaps * head).sum(-1) / gaps.sum(-1)

    theirs = (weight(gap) * cross + (1 - weight(gap)) * kl(Q, P)).mean()
    w = weight(gap.gather(-1, order))
    assert float(theirs) == pytest.approx(0.498756, abs=5e-7)
    assert float((w * kl(P, Q) + (1 - w) * kl(Q, P)).mean()) == pytest.approx(
        mean(d.adaptive_kl), abs=1e-12
    )
    assert mean(d.adaptive_kl) == pytest.approx(0.283901, abs=5e-7)


def test_redis_weight_of_the_worse_side_turns_its_gradient():
    """`alpha m e^{g m}` of the authors' code, the weight not held: its slope is `alpha e^{g m} (1 + g m)`.

    At g = 1 and a mean m = -1.5 that is below 0: going downhill, m rises. Held, or without it, m falls.
    """
    x = told(
        [-1.0, -0.5, -0.5, -2.0, -1.0],
        groups_N=torch.tensor([0, 0, 0, 1, 1]),
        pairs_P2=torch.tensor([[0, 1]]),
    )
    assert float(p.redi(x).values_N.sum()) == pytest.approx(-0.533333, abs=5e-7)

    def slope(at, held, g=1.0):
        m = torch.tensor(at, dtype=D, requires_grad=True)
        weight = (g * m).exp()
        return float(torch.autograd.grad(0.8 * m * (weight.detach() if held else weight), m)[0])

    assert (
        slope(-1.5, held=False)
        == pytest.approx(0.8 * math.exp(-1.5) * (1 - 1.5))
        == pytest.approx(-0.089252, abs=5e-7)
    )
    assert slope(-1.5, held=True) == pytest.approx(0.178504, abs=5e-7)
    assert slope(-0.99, held=False) > 0 > slope(-1.01, held=False)  # it turns at -1 / g
    worse = torch.tensor([-2.0, -1.0], dtype=D, requires_grad=True)
    logits = torch.stack([worse, torch.log(-torch.expm1(worse.detach()))], 1)
    pair = dataclasses.replace(x, hidden_ND=torch.cat([x.hidden_ND[:3], logits]))
    ours = p.redi(pair).values_N.sum() - p.redi(pair, alpha=0.0).values_N.sum()
    assert float(torch.autograd.grad(ours, worse)[0][0]) > 0  # always down


def test_batchmean_is_as_many_times_the_token_mean_as_a_row_is_long():
    """Mentor-KD's `KLDivLoss(reduction="batchmean")` on [B, T, V]."""
    found = torch.nn.KLDivLoss(reduction="batchmean")(S.log_softmax(-1)[None], P[None])
    assert float(found) == pytest.approx(3 * mean(d.forward_kl), abs=1e-12)


def test_the_speculative_repositorys_jsd_is_another_divergence():
    """SKD adds KL(m || p) and KL(m || q)."""
    mixture = (P + Q) / 2
    other = float((kl(mixture, P) + kl(mixture, Q)).mean())
    assert mean(d.jsd) == pytest.approx(0.067674, abs=5e-7)
    assert other == pytest.approx(0.1482, abs=5e-5)


def test_simpo_of_trl_is_mixed_with_likelihood_unless_told(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    cpo = pytest.importorskip("trl.experimental.cpo", reason="needs the extra potstill[dev]")
    defaults = {field.name: field.default for field in dataclasses.fields(cpo.CPOConfig)}
    assert (defaults["cpo_alpha"], defaults["beta"], defaults["simpo_gamma"]) == (1.0, 0.1, 0.5)
    x = told(
        [-1.0, -0.5, -0.5, -2.0, -1.0],
        groups_N=torch.tensor([0, 0, 0, 1, 1]),
        pairs_P2=torch.tensor([[0, 1]]),
    )
    ours = float(p.simpo(x, beta=0.1, gamma=0.5).values_N.sum())
    assert ours == pytest.approx(0.923027, abs=5e-7)
    assert ours + 2 / 3 == pytest.approx(1.589693, abs=5e-7)


def test_iw_opd_is_trls_on_policy_and_not_after_a_step(monkeypatch):
    """TRL's advantage is against the student that wrote, ours against the student as it is."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    module = pytest.importorskip(
        "trl.experimental.iw_opd.iw_opd_trainer", reason="needs the extra potstill[dev]"
    )
    [name] = [
        name for name in dir(module) if name.endswith("Trainer") and name.lower().startswith("iw")
    ]
    trainer = SimpleNamespace(
        temperature=1.0,
        iw_opd_epsilon=1e-12,
        iw_opd_gamma=0.5,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
    )
    y, logp = torch.tensor([1, 0, 2]), S.log_softmax(-1)
    teacher = T.log_softmax(-1).gather(1, y[:, None]).squeeze(1)
    now = logp.gather(1, y[:, None]).squeeze(1)
    ours = float(policy.iw_opd(inputs(S, TokenLogp(teacher), targets_N=y)).values_N.mean())
    for rollout, same_value in ((now, True), (now - 0.5, False)):
        trl = getattr(module, name)._compute_iw_opd_loss(
            trainer, S[None], y[None], y[None], teacher[None], rollout[None]
        )
        assert (abs(float(trl) - ours) < 1e-9) == same_value


def test_minillm_discounts_from_where_it_stands():
    """TRL's removed trainer discounted by absolute position: (-0.45, -0.95, 0)."""
    rewards = torch.tensor([0.5, -1.0, 0.0], dtype=D)
    power = 0.95 ** torch.arange(3, dtype=D)
    trl = (rewards * power).flip(0).cumsum(0).flip(0)
    assert trl.tolist() == pytest.approx([-0.45, -0.95, 0.0])
    assert policy.discounted(rewards, told([-1.0] * 3), 0.95).tolist() == pytest.approx(
        [-0.45, -1.0, 0.0]
    )


def test_orpo_of_trl_counts_the_prompts_likelihood():
    """A prompt token of log-probability -3 before the better side makes its NLL 1.25 instead of 2 / 3."""
    x = told(
        [-1.0, -0.5, -0.5, -2.0, -1.0],
        groups_N=torch.tensor([0, 0, 0, 1, 1]),
        pairs_P2=torch.tensor([[0, 1]]),
    )
    assert float(p.orpo(x, lam=0.0).values_N.sum()) == pytest.approx(2 / 3)
    with_prompt = sft(told([-3.0, -1.0, -0.5, -0.5])).values_N.mean()
    assert float(with_prompt) == pytest.approx(1.25)


def test_kto_of_micro_batches_is_not_kto_of_the_step():
    """Mismatched log-ratios 0.6 and -0.4 in two micro-batches: TRL's kl is 0.6 in one and 0 in the other, ours 0.1."""

    def loss(ratio, kl_of):
        x = told(
            [-1.0], reference_N=torch.tensor([-1.0 - ratio], dtype=D), labels_S=torch.tensor([True])
        )
        return float(p.kto(dataclasses.replace(x, kl=torch.tensor(kl_of, dtype=D))).values_N.sum())

    trl = (loss(0.3, 0.6) + loss(-0.2, -0.4)) / 2
    ours = (loss(0.3, 0.1) + loss(-0.2, 0.1)) / 2
    assert (trl, ours) == (pytest.approx(0.506245, abs=1e-5), pytest.approx(0.50125, abs=1e-5))


def test_the_document_knows_of_every_objective():
    """Whether there is a second implementation is said of each, once."""
    path = Path(__file__).parents[2] / "docs" / "disagreements.md"
    table = path.read_text("utf-8").split("## Second implementations")[1]
    named = [
        name
        for line in table.splitlines()
        if line.startswith("| ")
        for name in line.split("|")[1].split(",")
    ]
    assert sorted(name.strip() for name in named if name.strip() != "Objective") == sorted(TABLE)
