"""TRL's GRPO, run on a tiny checkpoint with a batch made by hand: its losses, and others through its machinery."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from trainers_made import NEAR, PAIRS, build, logps, ours, parts, quiet, same_gradient, value

from potstill.objectives import policy
from potstill.objectives.inputs import TokenLogp, reduce

__all__ = ["parts", "quiet"]  # fixtures


@pytest.fixture(scope="module")
def grpo(parts):
    from trl import GRPOConfig, GRPOTrainer

    sizes = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 16}
    rewards = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    trainer = build(
        GRPOTrainer, GRPOConfig, [{"prompt": one[0]} for one in PAIRS], parts, **sizes, **rewards
    )
    trainer.current_gradient_accumulation_steps = 1  # set by `train`, which is not called
    return trainer


def rollout(parts):
    """Four completions of 7, 6, 9 and 1 tokens; what was sampled lies on both sides of the clip's bounds."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 6, 9, 1])
    mask = (torch.arange(9) < lengths[:, None]).long()
    prompt, completion = (torch.randint(3, 250, (4, n), generator=draw) for n in (5, 9))
    ids, attention = (
        torch.cat([prompt, completion], 1),
        torch.cat([torch.ones_like(prompt), mask], 1),
    )
    now = logps(parts[0], ids, attention)[:, 4:]
    return {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": completion,
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0, 0.7, -0.7]),
        "old_per_token_logps": now + torch.tensor([-0.4, -0.1, 0.1, 0.4])[torch.arange(9) % 4],
        "ref_per_token_logps": now + 0.5 * torch.randn(now.shape, generator=draw),
        "num_items_in_batch": mask.sum(),
    }


def policy_inputs(parts, batch):
    """Advantages of sequences or of tokens; the reference stands in the teacher's place too."""
    ids, kept = (
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
        batch["completion_mask"].bool(),
    )
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    counted = torch.cat([torch.zeros_like(batch["prompt_mask"]), batch["completion_mask"]], 1)
    advantages = batch["advantages"].reshape(len(kept), -1).expand(kept.shape)[kept]
    old, reference = batch["old_per_token_logps"][kept], batch["ref_per_token_logps"][kept]
    more = {
        "advantages_N": advantages,
        "sampled_N": old,
        "reference_N": reference,
        "teacher": TokenLogp(reference),
    }
    return ours(parts[0], ids, attention, counted, **more)


MEANS = {"grpo": "sequence", "bnpo": "token", "dapo": "token", "dr_grpo": "fixed"}


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("kind", MEANS)
def test_grpo(grpo, parts, kind, beta, corrected, monkeypatch):
    """Clip-higher throughout: 0.2 down, 0.28 up. `corrected` is TRL's `use_bias_correction_kl`."""
    monkeypatch.setattr(grpo, "loss_type", kind)
    monkeypatch.setattr(grpo, "beta", beta)
    monkeypatch.setattr(grpo, "epsilon_high", 0.28)
    monkeypatch.setattr(grpo.args, "use_bias_correction_kl", corrected)
    monkeypatch.setattr(grpo.args, "steps_per_generation", 1)
    batch = rollout(parts)
    trl = grpo._compute_loss(grpo.model, batch)
    x = policy_inputs(parts, batch)
    loss = policy.grpo(x, clip=0.2, clip_high=0.28, beta=beta, corrected=corrected)
    weights, normaliser = policy.means(x, MEANS[kind], longest=16)
    mine = reduce(loss.values_N, weights, normaliser)
    assert value(mine) == pytest.approx(value(trl), abs=NEAR)
    same_gradient(grpo, trl, parts, mine)
    metrics = grpo._metrics["train"]
    assert (
        metrics["clip_ratio/low_mean"][-1] > 0 < metrics["clip_ratio/high_mean"][-1]
    )  # both bounds are met
    if beta and not corrected:  # theirs is multiplied by the ratio otherwise
        assert metrics["kl"][-1] == pytest.approx(
            float(loss.stats["kl"].total / loss.stats["kl"].count), abs=NEAR
        )


NARROW = {"clip": 0.03, "clip_high": 0.05}  # where ratios of sequences lie: some are met, not all
OPEN = {"clip": 1.0, "clip_high": 0.28}
OTHERS = {  # TRL's loss; its mean, here the fixed one's longest length is 1; ours
    "GSPO": ("grpo", "sequence", policy.grpo, {"ratio": "sequence", **NARROW}),
    "LUSPO": ("luspo", "fixed", policy.grpo, {"ratio": "sequence", **NARROW}),
    "CISPO": ("cispo", "token", policy.grpo, {"surrogate": "cispo", **OPEN}),
    "CISPO of sequences": (
        *("cispo", "token", policy.grpo),
        {"surrogate": "cispo", "ratio": "sequence", "clip": 1.0, "clip_high": 0.05},
    ),
    "SAPO": ("sapo", "sequence", policy.sapo, {}),
    "SAPO of sequences": ("sapo", "sequence", policy.sapo, {"ratio": "sequence"}),
    "VESPO": ("vespo", "token", policy.vespo, {}),
}


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("name", OTHERS)
def test_other_ratios_and_what_is_done_about_them(grpo, parts, name, beta, monkeypatch):
    """CISPO's bound in TRL is our 1 + clip_high, with none below. Plain k3: the corrected one of sequences differs."""
    kind, mean, objective, how = OTHERS[name]
    high = how.get("clip_high", 0.2) + (kind == "cispo")
    settings = {
        "loss_type": kind,
        "beta": beta,
        "epsilon_low": how.get("clip", 0.2),
        "epsilon_high": high,
    }
    for setting, wanted in (
        settings | {"importance_sampling_level": how.get("ratio", "token")}
    ).items():
        assert hasattr(grpo, setting)
        monkeypatch.setattr(grpo, setting, wanted)
    monkeypatch.setattr(grpo.args, "use_bias_correction_kl", False)
    monkeypatch.setattr(grpo.args, "steps_per_generation", 1)
    batch = rollout(parts)
    trl = grpo._compute_loss(grpo.model, batch)
    x = policy_inputs(parts, batch)
    loss = objective(x, beta=beta, corrected=False, **how)
    mine = reduce(loss.values_N, *policy.means(x, mean, longest=1))
    assert value(mine) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(grpo, trl, parts, mine)
    if "clip" in how:
        assert 0 < float(loss.stats["clipped"].total) < float(loss.stats["clipped"].count)


def per_token(grpo, parts, monkeypatch, **more):
    """A rollout with an advantage for each token, and TRL set to the plain mean of tokens."""
    settings = {"loss_type": "bnpo", "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2, **more}
    for name, setting in settings.items():
        monkeypatch.setattr(grpo, name, setting)
    monkeypatch.setattr(grpo.args, "use_bias_correction_kl", False)
    batch = rollout(parts)
    batch["advantages"] = torch.randn(
        batch["completion_ids"].shape, generator=torch.Generator().manual_seed(1)
    )
    return batch


def test_on_policy_distillation(grpo, parts, monkeypatch):
    """`A = p - sampled` for each token through GRPO's machinery, its clip opened."""
    batch = per_token(grpo, parts, monkeypatch, epsilon_low=1e6, epsilon_high=1e6)
    batch["advantages"] = 1.5 * (batch["ref_per_token_logps"] - batch["old_per_token_logps"])
    trl = grpo._compute_loss(grpo.model, batch)
    mine = policy.opd(policy_inputs(parts, batch), coefficient=1.5).values_N.mean()
    assert value(mine) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(grpo, trl, parts, mine)


def test_minillm_with_given_returns(grpo, parts, monkeypatch):
    """PPO's clipped loss on returns of each token: what MiniLLM is once they are whitened."""
    batch = per_token(grpo, parts, monkeypatch)
    trl = grpo._compute_loss(grpo.model, batch)
    mine = policy.minillm(policy_inputs(parts, batch)).values_N.mean()
    assert value(mine) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(grpo, trl, parts, mine)


def test_k3_to_a_teacher(grpo, parts, monkeypatch):
    """GRPO without advantages, the teacher in the reference's place."""
    batch = per_token(grpo, parts, monkeypatch, beta=1.0)
    batch["advantages"] = torch.zeros(4)
    trl = grpo._compute_loss(grpo.model, batch)
    mine = policy.token_kl(policy_inputs(parts, batch), estimator="k3").values_N.mean()
    assert value(mine) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(grpo, trl, parts, mine)


def test_kdrl_is_grpo_and_the_sampled_token_of_self_distillation(grpo, parts, monkeypatch):
    """In its gradient: SDPO adds `sg(q - p) q` to GRPO's loss, KDRL the k2 whose gradient that is."""
    from trl.experimental.sdpo.loss_utils import (
        compute_sampled_token_self_distillation_loss as sampled,
    )

    batch = per_token(grpo, parts, monkeypatch)
    prompt, answer = batch["prompt_ids"], batch["completion_ids"]
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = grpo.model(input_ids=torch.cat([prompt, answer], 1), attention_mask=attention).logits[
        :, 4:-1
    ]
    known = batch["ref_per_token_logps"][..., None]
    others = torch.log(
        -torch.expm1(known) / (logits.shape[-1] - 1)
    )  # a teacher that says just this of the tokens
    teacher = others.expand_as(logits).scatter(-1, answer[..., None], known)
    pull = sampled(logits, teacher, answer, distillation_alpha=1.0)[
        batch["completion_mask"].bool()
    ].mean()
    trl = grpo._compute_loss(grpo.model, batch) + 0.2 * pull
    same_gradient(
        grpo, trl, parts, policy.kdrl(policy_inputs(parts, batch), beta=0.2).values_N.mean()
    )


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_of_groups(grpo, parts, scale, monkeypatch):
    """TRL's from its own rollout and scoring, one group of equal rewards and one that is not."""
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.5])
    monkeypatch.setattr(grpo, "scale_rewards", scale)
    monkeypatch.setattr(grpo, "reward_funcs", [lambda completions, **_: rewards.tolist()])
    rows = [{"prompt": PAIRS[at][0]} for at in (0, 0, 1, 1)]
    found = grpo._generate_and_score_completions(rows)["advantages"]
    mine = policy.group_advantages(rewards, torch.tensor([0, 0, 1, 1]), scale=scale)
    torch.testing.assert_close(mine, found, rtol=1e-6, atol=1e-6)
    assert found.abs().max() > 0.4
