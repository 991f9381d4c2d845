"""Policy objectives: golden values, the estimators' expected gradients by enumeration, means, limits."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs, S, T, Y, inputs, same

from potstill.errors import ConfigError
from potstill.objectives import policy
from potstill.objectives.inputs import TokenLogp, reduce

D = torch.float64
TEACHER = TokenLogp(T.log_softmax(-1).gather(1, Y[:, None]).squeeze(1))


def told(logp, teacher=None, **more):
    """Positions whose log-probabilities are these."""
    logp = torch.as_tensor(logp, dtype=D)
    hidden = torch.stack([logp, torch.log(-torch.expm1(logp))], 1)
    given = None if teacher is None else TokenLogp(torch.tensor(teacher, dtype=D))
    more = {k: torch.as_tensor(v) if isinstance(v, list) else v for k, v in more.items()}
    return Inputs(hidden, same, torch.zeros(len(logp), dtype=torch.long), teacher=given, **more)


EXACT = {
    "reverse": [0.505282877614, -0.303573759459, -0.201709118155],
    "forward": [0.509878552278, -0.177590327197, -0.332288225081],
}


@pytest.mark.parametrize(
    ("objective", "how", "wanted"),
    [
        (policy.token_kl, {"estimator": "k2"}, "reverse"),
        (policy.token_kl, {"estimator": "k3"}, "forward"),
        (policy.opd, {}, "reverse"),
        (policy.trust_region, {"drift": 0.0}, "reverse"),
        (policy.kdrl, {"beta": 1.0}, "reverse"),
    ],
)
def test_expected_gradients_by_enumeration(objective, how, wanted):
    """Case kl_estimator_gradients: every outcome, weighted by the student's probability of it."""
    z = torch.tensor([2.0, 1.0, 0.0], dtype=D)
    logp = torch.tensor([0.0, 1.0, 1.0], dtype=D).log_softmax(-1)
    hidden = z.repeat(3, 1).requires_grad_()
    x = Inputs(
        hidden, same, torch.arange(3), teacher=TokenLogp(logp), advantages_N=torch.zeros(3, dtype=D)
    )
    reduce(objective(x, **how).values_N, z.softmax(-1), 1.0).backward()
    assert hidden.grad.sum(0).tolist() == pytest.approx(EXACT[wanted], abs=1e-9)


def test_gradients_of_weighted_advantages_by_hand():
    """Both hold their advantage constant, so the slope of a token's logits is `-A (onehot - q)`.

    iw_opd: A = w r; trust_region: A = ratio (p - q) where it is kept, plus the drift's own slope. Two sequences.
    """
    torch.manual_seed(3)
    z, targets = torch.randn(5, 4, dtype=D), torch.tensor([0, 3, 1, 2, 0])
    logp, sampled = (
        -3 * torch.rand(5, dtype=D),
        torch.tensor([-2.0, -0.05, -1.0, -3.0, -0.1], dtype=D),
    )
    more = {
        "teacher": TokenLogp(logp),
        "sampled_N": sampled,
        "groups_N": torch.tensor([0, 0, 0, 1, 1]),
    }
    logq = z.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    r, size = logp - logq, (logp - logq).abs()
    before = torch.stack(
        [size.new_zeros(()), size[0], size[0] + size[1], size.new_zeros(()), size[3]]
    )
    whole = torch.stack([size[:3].sum()] * 3 + [size[3:].sum()] * 2)
    ratio = (logq - sampled).exp()
    kept = (sampled.exp() - logq.exp() <= 0.2).double()
    assert 0 < kept.sum() < 5
    for objective, gain in (
        (policy.iw_opd, (1 + 0.5 * (1 - before / whole)) * r),
        (policy.trust_region, ratio * r * kept - 2e-3 * (logq - sampled)),
    ):
        hidden = z.clone().requires_grad_()
        objective(Inputs(hidden, same, targets, **more)).values_N.sum().backward()
        wanted = -gain[:, None] * (torch.nn.functional.one_hot(targets, 4) - z.softmax(-1))
        assert torch.allclose(hidden.grad, wanted, atol=1e-12)


def test_corrected_k3_of_the_reference_has_the_reverse_gradient():
    z = torch.tensor([2.0, 1.0, 0.0], dtype=D)
    logp = torch.tensor([0.0, 1.0, 1.0], dtype=D).log_softmax(-1)
    for corrected, wanted in ((True, "reverse"), (False, "forward")):
        hidden = z.repeat(3, 1).requires_grad_()
        x = Inputs(
            hidden, same, torch.arange(3), reference_N=logp, advantages_N=torch.zeros(3, dtype=D)
        )
        loss = policy.grpo(x, beta=1.0, corrected=corrected)
        reduce(loss.values_N, z.softmax(-1), 1.0).backward()
        assert hidden.grad.sum(0).tolist() == pytest.approx(EXACT[wanted], abs=1e-9)


def test_k1_is_refused():
    with pytest.raises(ConfigError, match="trains nothing"):
        policy.token_kl(inputs(teacher=TEACHER), estimator="k1")


def test_golden_advantages():
    """Case grpo_advantage."""
    rewards, group = torch.tensor([1.0, 0, 0, 1], dtype=D), torch.zeros(4, dtype=torch.long)
    wanted = [0.865875429761, -0.865875429761, -0.865875429761, 0.865875429761]
    assert policy.group_advantages(rewards, group).tolist() == pytest.approx(wanted, abs=1e-9)
    assert policy.group_advantages(rewards, group, scale="none").tolist() == [0.5, -0.5, -0.5, 0.5]
    two = policy.group_advantages(torch.tensor([1.0, 1, 0, 5], dtype=D), torch.tensor([7, 7, 3, 9]))
    assert two.tolist() == [0, 0, 0, 0]  # equal rewards, and groups of one


def test_golden_minillm():
    """Case minillm_teacher_mixed_is, and the returns of the reference's text: discounted, normalised, whitened."""
    weight = policy.mixed_weight(torch.tensor([-1.0], dtype=D), torch.tensor([-0.5], dtype=D), 0.2)
    assert float(weight) == pytest.approx(0.885156084074, abs=1e-9)
    x, rewards = told([-1.0, -0.5, -2.0]), torch.tensor([0.5, -1.0, 0.0], dtype=D)
    assert policy.discounted(rewards, x, 0.95).tolist() == pytest.approx([-0.45, -1.0, 0.0])
    returns = policy.normalised_returns(rewards, x, 0.95)
    assert returns.tolist() == pytest.approx([-0.15, -0.5, 0.0])
    assert policy.whitened(returns).tolist() == pytest.approx([0.2598, -1.1043, 0.8444], abs=1e-4)


def test_returns_stay_in_their_sequence():
    x = told([-1.0] * 5, groups_N=[0, 0, 0, 1, 1])
    found = policy.discounted(torch.tensor([1.0, 1, 1, 10, 10], dtype=D), x, 1.0)
    assert found.tolist() == [3, 2, 1, 20, 10]


def test_clipping_by_hand():
    """A = 1: ratios 0.5, 1.1, 2 give 0.5, 1.1, 1.2 (1.28 clip-higher); A = -1: -0.8, -1.1, -2."""
    sampled = torch.log(torch.tensor([0.2, 0.2, 0.2], dtype=D))
    now = torch.log(torch.tensor([0.1, 0.22, 0.4], dtype=D))
    for sign, high, wanted in (
        (1.0, None, [0.5, 1.1, 1.2]),
        (1.0, 0.28, [0.5, 1.1, 1.28]),
        (-1.0, None, [-0.8, -1.1, -2]),
    ):
        x = told(now, sampled_N=sampled, advantages_N=torch.full((3,), sign, dtype=D))
        loss = policy.grpo(x, clip_high=high)
        assert (-loss.values_N).tolist() == pytest.approx(wanted, abs=1e-9)
        assert float(loss.stats["clipped"].total) == 2


def test_gspo_by_hand():
    """Ratios 2 and 0.5 of one sequence are 1; 1.21 and 1 of another 1.1, which is above 1.05."""
    gaps = torch.log(torch.tensor([2.0, 0.5, 1.21, 1.0, 1.3], dtype=D))
    now = torch.full((5,), -1.0, dtype=D)
    x = told(
        now,
        sampled_N=now - gaps,
        advantages_N=torch.tensor([1.0, 1, 1, 1, -1], dtype=D),
        groups_N=[0, 0, 1, 1, 2],
    )
    loss = policy.grpo(x, ratio="sequence", clip=0.05)
    assert (-loss.values_N).tolist() == pytest.approx([1, 1, 1.05, 1.05, -1.3], abs=1e-12)
    assert float(loss.stats["clipped"].total) == 3


def drifted(lengths=(3, 1, 4), spread=0.3):
    """Sequences whose author the student has moved away from, their advantages one a sequence; and a gradient of it."""
    torch.manual_seed(1)
    groups = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    hidden = torch.randn(len(groups), 6, dtype=D, requires_grad=True)
    targets = torch.randint(6, (len(groups),))
    logp = hidden.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    sampled = logp.detach() - spread * torch.randn(len(groups), dtype=D)
    advantages = torch.randn(len(lengths), dtype=D)[groups]
    x = Inputs(hidden, same, targets, groups_N=groups, sampled_N=sampled, advantages_N=advantages)
    return x, logp, lambda loss: torch.autograd.grad(loss, hidden, retain_graph=True)[0]


def test_gspo_has_the_gradient_of_the_sequences_ratio():
    """Differentiated as the paper's eq. 5 has it, where the token's form holds the mean of the others constant."""
    x, logp, gradient = drifted()
    gap = (logp - x.sampled_N).split(x.lengths().tolist())
    whole = sum(
        -torch.minimum(s * a, s.clamp(0.95, 1.05) * a)
        for s, a in zip(
            [g.mean().exp() for g in gap],
            [a[0] for a in x.advantages_N.split(x.lengths().tolist())],
        )
    )
    weights, count = policy.means(x, "sequence")
    ours = reduce(policy.grpo(x, ratio="sequence", clip=0.05).values_N, weights, count)
    assert torch.allclose(ours, whole / 3, atol=1e-12)
    assert torch.allclose(gradient(ours), gradient(whole / 3), atol=1e-12)
    assert gradient(ours).abs().max() > 0.01


def test_gspo_gives_each_token_its_own_advantage():
    """GSPO-token, eq. 17: s A_t times the token's own slope, nothing of its neighbours'."""
    x, logp, gradient = drifted(lengths=(4,))
    x = dataclasses.replace(x, advantages_N=torch.tensor([1.0, 0, -2, 0], dtype=D))
    found = gradient(policy.grpo(x, ratio="sequence", clip=9.0).values_N.sum())
    ratio = (logp - x.sampled_N).mean().exp().detach()
    assert torch.allclose(found, gradient((-ratio * x.advantages_N * logp).sum()), atol=1e-12)
    assert not found[[1, 3]].any()


def test_ratios_of_sequences_of_one_token_are_its_own():
    x, _, gradient = drifted(lengths=(1, 1, 1, 1))
    for objective in (policy.grpo, policy.sapo):
        one, other = (objective(x, ratio=ratio).values_N.sum() for ratio in ("token", "sequence"))
        assert torch.allclose(one, other, atol=1e-12)
        assert torch.allclose(gradient(one), gradient(other), atol=1e-12)


def test_cispo_by_hand():
    """Weights of ratios 0.5, 1.1, 2: 0.8, 1.1, 1.28, whatever A; open below, 0.5. No token is without gradient."""
    logp = torch.log(torch.tensor([0.1, 0.22, 0.4], dtype=D))
    sampled = torch.log(torch.tensor([0.2, 0.2, 0.2], dtype=D))
    for clip, low in ((0.2, 0.8), (1.0, 0.5)):
        x = told(logp, sampled_N=sampled, advantages_N=torch.tensor([1.0, -1, 1], dtype=D))
        x.hidden_ND.requires_grad_()
        found = policy.grpo(x, surrogate="cispo", clip=clip, clip_high=0.28).values_N
        weights = torch.tensor([low, -1.1, 1.28], dtype=D)
        assert found.tolist() == pytest.approx((-weights * logp).tolist(), abs=1e-12)
        slope = torch.autograd.grad(found.sum(), x.hidden_ND)[0][:, 0]
        assert slope.tolist() == pytest.approx((-weights * (1 - logp.exp())).tolist(), abs=1e-12)


def test_sapo_and_vespo_by_hand():
    """Ratios 0.5 and 2 in sequences of their own, one of each sign."""
    logp, sampled = (
        torch.tensor([-1.0, -1.0], dtype=D),
        torch.log(torch.tensor([2.0, 0.5], dtype=D)) - 1,
    )
    x = told(
        logp, sampled_N=sampled, advantages_N=torch.tensor([1.5, -1], dtype=D), groups_N=[0, 1]
    )
    soft = [4 * 1.5 / (1 + math.exp(0.5)), -4 / 1.05 / (1 + math.exp(-1.05))]
    assert (-policy.sapo(x).values_N).tolist() == pytest.approx(soft, abs=1e-12)
    weights = [0.5**2 * math.exp(3 * 0.5), 2**3 * math.exp(-2)]
    assert policy.vespo(x).values_N.tolist() == pytest.approx(
        [1.5 * weights[0], -weights[1]], abs=1e-12
    )
    both = dataclasses.replace(
        x, advantages_N=torch.ones(2, dtype=D), groups_N=torch.tensor([0, 0])
    )
    assert policy.vespo(both).values_N.tolist() == pytest.approx(
        [1.0, 1.0], abs=1e-12
    )  # 0.5 times 2


def test_on_policy_all_are_the_plain_policy_gradient():
    """`-A` times the slope of q: at ratio 1 nothing is clipped, and every weight is 1."""
    x, logp, gradient = drifted(spread=0.0)
    plain = gradient((-x.advantages_N * logp).sum())
    for given in (x, dataclasses.replace(x, sampled_N=None)):
        for objective, how in (
            *(
                (policy.grpo, {"ratio": r, "surrogate": s})
                for r in LEVELS
                for s in ("clip", "cispo")
            ),
            *((policy.sapo, {"ratio": ratio}) for ratio in LEVELS),
            (policy.vespo, {}),
        ):
            assert torch.allclose(
                gradient(objective(given, **how).values_N.sum()), plain, atol=1e-12
            ), (objective, how)


def test_the_reference_is_held_to_by_tokens_whatever_the_ratio():
    """Ratios 2 and 0.5, k3 0.040818 and 0.049859: 0.106566; TRL's weighs by the sequence's ratio 1: 0.090677."""
    now, far = torch.full((2,), -1.0, dtype=D), torch.tensor([0.3, -0.3], dtype=D)
    gaps = torch.log(torch.tensor([2.0, 0.5], dtype=D))
    x = told(now, sampled_N=now - gaps, reference_N=now - far, advantages_N=torch.zeros(2, dtype=D))
    k3 = torch.expm1(-far) + far
    assert float(k3.sum()) == pytest.approx(0.090677, abs=5e-7)
    for objective, how in ((policy.grpo, {"ratio": r}) for r in LEVELS):
        assert float(objective(x, beta=1.0, **how).values_N.sum()) == pytest.approx(
            0.106566, abs=5e-7
        )
    for objective in (policy.sapo, policy.vespo):
        assert float(objective(x, beta=1.0).values_N.sum()) == pytest.approx(
            float(2 * k3[0] + k3[1] / 2), abs=1e-12
        )
        assert float(objective(x, beta=1.0, corrected=False).values_N.sum()) == pytest.approx(
            float(k3.sum())
        )


def test_means_of_the_family():
    """Token, sequence and fixed means of the same losses (GRPO, DAPO, Dr. GRPO)."""
    x = told([-1.0] * 6, groups_N=[0, 0, 0, 0, 1, 1])
    losses = torch.tensor([1.0, 1, 1, 1, 3, 3], dtype=D)
    found = {}
    for mean in ("token", "sequence", "fixed"):
        weights, count = policy.means(x, mean, longest=10)
        found[mean] = float(reduce(losses, weights, count))
    assert found == pytest.approx({"token": 10 / 6, "sequence": 2.0, "fixed": 0.5})
    with pytest.raises(ConfigError, match="longest"):
        policy.means(x, "fixed")


def test_limits():
    """KDRL at 0 is GRPO; guided, right sequences are not pulled"""
    x = told(
        [-1.0, -0.5, -2.0],
        [-0.5, -1.5, -2.0],
        groups_N=[0, 0, 1],
        advantages_N=torch.tensor([1.0, 1, -1], dtype=D),
    )
    plain = policy.grpo(x).values_N
    assert torch.equal(policy.kdrl(x, beta=0.0).values_N, plain)
    guided = told(
        [-1.0, -0.5, -2.0],
        [-0.5, -1.5, -3.0],
        groups_N=[0, 0, 1],
        advantages_N=torch.tensor([1.0, 1, -1], dtype=D),
        labels_S=[True, False],
    )
    found = policy.kdrl(guided, beta=2.0, guided=True).values_N - plain
    assert found.tolist() == pytest.approx([0, 0, 1.0])


def gspo(x, **how):
    return policy.grpo(x, ratio="sequence", **how)


def cispo(x, **how):
    return policy.grpo(x, surrogate="cispo", **how)


LEVELS = ("token", "sequence")
OBJECTIVES = [
    gspo,
    cispo,
    policy.sapo,
    policy.vespo,
    policy.token_kl,
    policy.opd,
    policy.trust_region,
    policy.iw_opd,
    policy.kdrl,
    policy.grpo,
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_extreme_log_probabilities_are_finite(objective):
    hidden = torch.tensor([[0.0, -900.0], [0.0, 900.0]], dtype=D, requires_grad=True)
    x = Inputs(
        hidden,
        same,
        torch.zeros(2, dtype=torch.long),
        teacher=TokenLogp(torch.tensor([-700.0, -1e-9], dtype=D)),
        sampled_N=torch.tensor([-800.0, -1.0], dtype=D),
        advantages_N=torch.tensor([1.0, -1.0], dtype=D),
    )
    loss = objective(x).values_N
    assert torch.isfinite(loss).all()
    assert torch.isfinite(torch.autograd.grad(loss.sum(), hidden)[0]).all()


def test_what_is_missing_is_said():
    with pytest.raises(ConfigError, match="needs advantages"):
        policy.grpo(inputs())
    with pytest.raises(ConfigError, match="unknown ratio=sentence"):
        policy.sapo(inputs(advantages_N=torch.ones(3)), ratio="sentence")
    with pytest.raises(ConfigError, match="unknown surrogate=cisp"):
        policy.grpo(inputs(advantages_N=torch.ones(3)), surrogate="cisp")
    with pytest.raises(ConfigError, match="TokenLogp"):
        policy.opd(inputs(S, T))
    with pytest.raises(ConfigError, match="labels_S"):
        policy.kdrl(told([-1.0], [-1.0], advantages_N=torch.zeros(1, dtype=D)), guided=True)
