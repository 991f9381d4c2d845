"""Policy objectives: golden values, the estimators' expected gradients by enumeration, means, limits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs, S, T, Y, inputs, same  # noqa: E402

from potstill.errors import ConfigError  # noqa: E402
from potstill.objectives import policy  # noqa: E402
from potstill.objectives.inputs import TokenLogp, reduce  # noqa: E402

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
        (policy.on_policy, {}, "reverse"),
        (policy.trust_region, {"drift": 0.0}, "reverse"),
        (policy.kdrl, {"beta": 1.0}, "reverse"),
    ],
)
def test_expected_gradients_by_enumeration(objective, how, wanted):
    """Case kl_estimator_gradients: every outcome, weighted by the student's probability of it."""
    z = torch.tensor([2.0, 1.0, 0.0], dtype=D)
    logp = torch.tensor([0.0, 1.0, 1.0], dtype=D).log_softmax(-1)
    hidden = z.repeat(3, 1).requires_grad_()
    x = Inputs(hidden, same, torch.arange(3), teacher=TokenLogp(logp), advantages_N=torch.zeros(3, dtype=D))
    reduce(objective(x, **how).values_N, z.softmax(-1), 1.0).backward()
    assert hidden.grad.sum(0).tolist() == pytest.approx(EXACT[wanted], abs=1e-9)


def test_gradients_of_weighted_advantages_by_hand():
    """Both hold their advantage constant, so the slope of a token's logits is `-A (onehot - q)`.

    iw_opd: A = w r; trust_region: A = ratio (p - q) where it is kept, plus the drift's own slope. Two sequences.
    """
    torch.manual_seed(3)
    z, targets = torch.randn(5, 4, dtype=D), torch.tensor([0, 3, 1, 2, 0])
    logp, sampled = -3 * torch.rand(5, dtype=D), torch.tensor([-2.0, -0.05, -1.0, -3.0, -0.1], dtype=D)
    more = {"teacher": TokenLogp(logp), "sampled_N": sampled, "groups_N": torch.tensor([0, 0, 0, 1, 1])}
    logq = z.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    r, size = logp - logq, (logp - logq).abs()
    before = torch.stack([size.new_zeros(()), size[0], size[0] + size[1], size.new_zeros(()), size[3]])
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
        x = Inputs(hidden, same, torch.arange(3), reference_N=logp, advantages_N=torch.zeros(3, dtype=D))
        loss = policy.policy_gradient(x, beta=1.0, corrected=corrected)
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
        loss = policy.policy_gradient(x, clip_high=high)
        assert (-loss.values_N).tolist() == pytest.approx(wanted, abs=1e-9)
        assert float(loss.stats["clipped"].total) == 2


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
        [-1.0, -0.5, -2.0], [-0.5, -1.5, -2.0], groups_N=[0, 0, 1], advantages_N=torch.tensor([1.0, 1, -1], dtype=D)
    )
    plain = policy.policy_gradient(x).values_N
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


OBJECTIVES = [
    policy.token_kl,
    policy.on_policy,
    policy.trust_region,
    policy.iw_opd,
    policy.kdrl,
    policy.policy_gradient,
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
        policy.policy_gradient(inputs())
    with pytest.raises(ConfigError, match="TokenLogp"):
        policy.on_policy(inputs(S, T))
    with pytest.raises(ConfigError, match="labels_S"):
        policy.kdrl(told([-1.0], [-1.0], advantages_N=torch.zeros(1, dtype=D)), guided=True)
