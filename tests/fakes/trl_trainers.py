"""TRL's trainers on a tiny checkpoint beside ours of the same token ids: each function here is one opinion.

A trainer collates its own batch and computes its own loss; ours is computed of the batch's tokens by the same model.
"""

from __future__ import annotations

import copy
import dataclasses
from functools import cached_property
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs
from opinions import TRAINER, Comparison, number

from potstill.objectives import likelihood, policy, preference
from potstill.objectives.inputs import TokenLogp, reduce

BETA = 0.1
PAIRS = (
    ("19 - 14 =", " 5, so \\boxed{5}.", " 33"),
    ("How many eggs?", " 16 eggs", " three, or so we think; wait, 42"),
    ("5 - 3", " = 2", " = 2 * 2 = 4, that is wrong"),
)
SINGLE_ANSWERS = (
    *((prompt, good, True) for prompt, good, _ in PAIRS),
    *((prompt, bad, False) for prompt, _, bad in PAIRS[:2]),
)
PREFERENCE_ROWS = [{"prompt": p, "chosen": good, "rejected": bad} for p, good, bad in PAIRS]
PAIRED = torch.tensor([[0, 3], [1, 4], [2, 5]])  # the better sides, then the worse


class Bench:
    """A checkpoint, a second random one as the reference, a tokenizer, and TRL's trainers of them, each built once."""

    def __init__(self, checkpoint: Any, folder: Any) -> None:
        from tiny import tiny_checkpoint
        from transformers import AutoModelForCausalLM, AutoTokenizer

        pytest.importorskip("trl", reason="needs the extra potstill[dev]")
        other = tiny_checkpoint(folder / "reference", seed=1)
        load = AutoModelForCausalLM.from_pretrained
        self.model = load(checkpoint, dtype=torch.float32)
        self.reference = load(other, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.folder = folder

    def build(self, trainer, config, rows, **more):
        """A trainer on the CPU in float32, with its defaults otherwise."""
        from datasets import Dataset

        fields = {field.name for field in dataclasses.fields(config)}
        arguments = config(
            output_dir=str(self.folder), report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False,
            **{key: more.pop(key) for key in list(more) if key in fields},
        )  # fmt: skip
        return trainer(
            copy.deepcopy(self.model).train(),  # TRL patches the forward of what it is given
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=self.tokenizer,
            **more,
        )

    @cached_property
    def dpo(self):
        from trl import DPOConfig, DPOTrainer

        reference = copy.deepcopy(self.reference)
        return self.build(DPOTrainer, DPOConfig, PREFERENCE_ROWS, ref_model=reference, beta=BETA)

    @cached_property
    def kto(self):
        from trl import KTOConfig, KTOTrainer

        rows = [
            {"prompt": p, "completion": text, "label": label} for p, text, label in SINGLE_ANSWERS
        ]
        weights = {"desirable_weight": 1.5, "undesirable_weight": 0.75}
        reference = copy.deepcopy(self.reference)
        return self.build(KTOTrainer, KTOConfig, rows, ref_model=reference, beta=BETA, **weights)

    @cached_property
    def grpo(self):
        from trl import GRPOConfig, GRPOTrainer

        sizes = {
            "num_generations": 2,
            "per_device_train_batch_size": 4,
            "max_completion_length": 16,
        }
        rewards = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
        rows = [{"prompt": prompt} for prompt, *_ in PAIRS]
        trainer = self.build(GRPOTrainer, GRPOConfig, rows, **sizes, **rewards)
        trainer.current_gradient_accumulation_steps = 1  # set by `train`, which is not called
        return trainer

    def compare(self, trainer, theirs, ours, near=TRAINER) -> Comparison:
        """Both losses, and their gradients with respect to the tied embeddings and head."""
        their_gradient = torch.autograd.grad(theirs, trainer.model.lm_head.weight)
        our_gradient = torch.autograd.grad(ours, self.model.lm_head.weight)
        return Comparison(number(theirs), number(ours), near, their_gradient, our_gradient)

    def inputs(self, ids_BT, attention_BT, counted_BT, **more):
        """Ours: the states that predict the counted tokens, with the model's own head."""
        kept = counted_BT[:, 1:].bool()
        states_BTD = self.model.model(
            input_ids=ids_BT, attention_mask=attention_BT
        ).last_hidden_state
        groups = torch.arange(len(ids_BT))[:, None].expand(kept.shape)[kept]
        hidden_ND, targets_N = states_BTD[:, :-1][kept], ids_BT[:, 1:][kept]
        return Inputs(hidden_ND, self.model.lm_head, targets_N, groups_N=groups, **more)

    def referenced(self, batch, prefix="", **more):
        """Inputs of a collated batch, with the reference's log-probabilities."""
        names = ("input_ids", "attention_mask", "completion_mask")
        ids, attention, counted = (batch[prefix + name] for name in names)
        reference = logps(self.reference, ids, attention)[counted[:, 1:].bool()]
        return self.inputs(ids, attention, counted, reference_N=reference, **more)


def collated(trainer):
    """Its whole data set as one batch, as it makes one itself."""
    return trainer.data_collator([dict(row) for row in trainer.train_dataset])


def logps(model, ids_BT, attention_BT):
    """The plain formula: the log-probability of each token but the first, [B, T - 1]."""
    with torch.no_grad():
        logits_BTV = model(input_ids=ids_BT, attention_mask=attention_BT).logits[:, :-1]
    return logits_BTV.log_softmax(-1).gather(-1, ids_BT[:, 1:, None]).squeeze(-1)


def mean(loss, count):
    """The mean of a loss over so many."""
    return reduce(loss.values_N, torch.ones_like(loss.values_N), count)


def set_all(target, settings):
    """Set attributes that must be there; the next opinion sets its own."""
    for name, setting in settings.items():
        assert hasattr(target, name), name
        setattr(target, name, setting)


# Pairs.


def trl_dpo(bench, batch, kinds, **more):
    """TRL's DPO of a batch, with these losses added up."""
    settings = {"label_smoothing": 0.0, "ld_alpha": None, **more}
    set_all(bench.dpo, {"loss_types": kinds, "loss_weights": [1.0] * len(kinds), **settings})
    return bench.dpo.compute_loss(bench.dpo.model, batch)


def dpo(bench, kind, objective, ours, theirs=()):
    """A loss of pairs, in TRL's name and in ours."""
    batch = collated(bench.dpo)
    trl = trl_dpo(bench, batch, [kind], **dict(theirs))
    loss = objective(bench.referenced(batch, pairs_P2=PAIRED), **ours)
    return bench.compare(bench.dpo, trl, mean(loss, 3))


def dpo_with_likelihood_of_a_pair(bench):
    """TRL's likelihood is the mean over the chosen tokens of a micro-batch, ours that of each pair (RPO's equation)."""
    single = bench.dpo.data_collator([dict(bench.dpo.train_dataset[1])])
    trl = trl_dpo(bench, single, ["sigmoid", "sft"])
    inputs = bench.referenced(single, pairs_P2=torch.tensor([[0, 1]]))
    return bench.compare(bench.dpo, trl, mean(preference.dpo(inputs, beta=BETA, sft=1.0), 1))


def dpo_with_likelihood_of_pairs(bench):
    """Beyond one pair the two differ by their means of the likelihood, by hand."""
    batch = collated(bench.dpo)
    trl = number(trl_dpo(bench, batch, ["sigmoid", "sft"]))
    inputs = bench.referenced(batch, pairs_P2=PAIRED)
    ours = number(mean(preference.dpo(inputs, beta=BETA, sft=1.0), 3))
    chosen = batch["completion_mask"][:3, 1:].bool()
    nll = -logps(bench.model, batch["input_ids"][:3], batch["attention_mask"][:3])
    by_tokens = float(nll[chosen].mean())
    by_pairs = float(((nll * chosen).sum(1) / chosen.sum(1)).mean())
    assert abs(by_pairs - by_tokens) > 1e-2, "lengths differ, so the two means do"
    return Comparison(trl + by_pairs - by_tokens, ours, TRAINER)


def unpaired(bench, batch):
    """Our inputs of a batch as the experimental trainers collate one: the better sides, then the worse, shifted."""
    columns = []
    for name, fill in (("input_ids", bench.tokenizer.pad_token_id), ("labels", -100)):
        rows = [row for side in ("chosen", "rejected") for row in batch[f"{side}_{name}"]]
        columns.append(torch.nn.utils.rnn.pad_sequence(rows, True, fill))
    ids, labels = columns
    attention = (ids != bench.tokenizer.pad_token_id).long()
    return ids, attention, bench.inputs(ids, attention, labels != -100, pairs_P2=PAIRED)


def simpo_and_cpo(bench, kind, objective):
    """As they are; and with TRL's likelihood, the mean of the tokens of the micro-batch where ours is that of pairs."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    settings = {"loss_type": kind, "beta": 2.0, "simpo_gamma": 1.0, "max_length": 64}
    cpo = bench.build(CPOTrainer, CPOConfig, PREFERENCE_ROWS, **settings)
    batch = collated(cpo)
    without_likelihood = {"alpha": 0.0} if objective is preference.cpo else {}
    comparisons = []
    for alpha in (0.0, 0.5):
        cpo.cpo_alpha = alpha
        trl = cpo.compute_loss(cpo.model, batch)
        _, _, x = unpaired(bench, batch)
        better = torch.isin(x.groups_N, torch.tensor([0, 1, 2]))
        tokens = likelihood.sft(x).values_N[better].mean()
        ours = objective(x, beta=2.0, **without_likelihood).values_N.sum() / 3 + alpha * tokens
        comparisons.append(bench.compare(cpo, trl, ours))
    return comparisons


def orpo(bench):
    """But for the likelihood, which is that of the prompt too in TRL."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    trainer = bench.build(ORPOTrainer, ORPOConfig, PREFERENCE_ROWS, beta=0.3, max_length=64)
    batch = collated(trainer)
    ids, attention, x = unpaired(bench, batch)
    trl = trainer.compute_loss(trainer.model, batch)
    odds = (preference.orpo(x, lam=0.3).values_N - preference.orpo(x, lam=0.0).values_N).sum() / 3
    everything = bench.inputs(ids[:3], attention[:3], attention[:3])
    whole = likelihood.sft(everything).values_N.mean()
    ours = preference.orpo(x, lam=0.3).values_N.sum() / 3
    assert abs(number(ours) - number(trl)) > 1e-3, "prompts count there"
    return bench.compare(trainer, trl, odds + whole)


# Single answers.


def kto(bench, kl=None):
    """With the KL of the mismatched batch, or with one that is given and above 0, so that it counts."""
    trainer = bench.kto
    batch = collated(trainer)
    how = {"beta": BETA, "desirable": 1.5, "undesirable": 0.75}
    plain = type(trainer)._compute_kl_logps
    given = {id(trainer.model): torch.tensor([3.0, 2.0]), id(trainer.ref_model): torch.ones(2)}
    trainer._compute_kl_logps = (
        plain.__get__(trainer) if kl is None else lambda model, batch: given[id(model)]
    )
    trl = trainer.compute_loss(trainer.model, batch)
    if kl is None:
        mismatched = bench.referenced(batch, "KL_")
        ratio = preference.token_logp(mismatched) - mismatched.reference_N
        kl = float(preference.per_sequence(ratio, mismatched).mean().detach())
    x = bench.referenced(batch, labels_S=batch["label"].bool(), kl=torch.tensor(kl))
    ours = mean(preference.kto(x, **how), len(SINGLE_ANSWERS))
    without = mean(preference.kto(dataclasses.replace(x, kl=None), **how), len(SINGLE_ANSWERS))
    assert kl <= 0 or abs(number(without) - number(trl)) > 1e-3
    said = Comparison(trainer._metrics["train"]["kl"][-1], max(kl, 0.0), TRAINER)
    return [said, bench.compare(trainer, trl, ours)]


def sft(bench, kind, objective):
    """Prompt and completion, the prompt not counted; its fused head on the CPU."""
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": prompt, "completion": text} for prompt, text, _ in PAIRS]
    trainer = bench.build(SFTTrainer, SFTConfig, rows, loss_type=kind)
    batch = collated(trainer)
    trl = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(40))
    attention = (batch["input_ids"] != bench.tokenizer.pad_token_id).long()
    x = bench.inputs(batch["input_ids"], attention, batch["labels"] != -100)
    assert 0 < len(x.targets_N) < batch["input_ids"].numel() / 2
    return bench.compare(trainer, trl, objective(x).values_N.sum() / 40)


# Rollouts.


def rollout(bench):
    """Four completions of 7, 6, 9 and 1 tokens; what was sampled lies on both sides of the clip's bounds."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 6, 9, 1])
    mask = (torch.arange(9) < lengths[:, None]).long()
    prompt, completion = (torch.randint(3, 250, (4, n), generator=draw) for n in (5, 9))
    ids = torch.cat([prompt, completion], 1)
    now = logps(bench.model, ids, torch.cat([torch.ones_like(prompt), mask], 1))[:, 4:]
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


def policy_inputs(bench, batch):
    """Advantages of sequences or of tokens; the reference stands in the teacher's place too."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    kept = batch["completion_mask"].bool()
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    counted = torch.cat([torch.zeros_like(batch["prompt_mask"]), batch["completion_mask"]], 1)
    advantages = batch["advantages"].reshape(len(kept), -1).expand(kept.shape)[kept]
    old, reference = batch["old_per_token_logps"][kept], batch["ref_per_token_logps"][kept]
    return bench.inputs(
        ids, attention, counted,
        advantages_N=advantages, sampled_N=old, reference_N=reference, teacher=TokenLogp(reference),
    )  # fmt: skip


def trl_grpo(bench, batch, *, corrected=False, **settings):
    """TRL's GRPO of a rollout; `corrected` is its `use_bias_correction_kl`."""
    plain = {"epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token"}
    set_all(bench.grpo, {**plain, **settings})
    set_all(bench.grpo.args, {"use_bias_correction_kl": corrected, "steps_per_generation": 1})
    return bench.grpo._compute_loss(bench.grpo.model, batch)


def grpo(bench, kind, reduction, beta, corrected):
    """Clip-higher throughout: 0.2 down, 0.28 up."""
    batch = rollout(bench)
    trl = trl_grpo(bench, batch, loss_type=kind, beta=beta, epsilon_high=0.28, corrected=corrected)
    x = policy_inputs(bench, batch)
    loss = policy.grpo(x, clip=0.2, clip_high=0.28, beta=beta, corrected=corrected)
    ours = reduce(loss.values_N, *policy.means(x, reduction, longest=16))
    comparisons = [bench.compare(bench.grpo, trl, ours)]
    metrics = bench.grpo._metrics["train"]
    assert metrics["clip_ratio/low_mean"][-1] > 0 < metrics["clip_ratio/high_mean"][-1]
    if beta and not corrected:  # theirs is multiplied by the ratio otherwise
        kl = loss.stats["kl"]
        comparisons.append(Comparison(metrics["kl"][-1], float(kl.total / kl.count), TRAINER))
    return comparisons


def other_ratios(bench, kind, reduction, objective, how, beta):
    """CISPO's bound in TRL is our 1 + clip_high, with none below. Plain k3: the corrected one of sequences differs."""
    batch = rollout(bench)
    trl = trl_grpo(
        bench, batch, loss_type=kind, beta=beta, epsilon_low=how.get("clip", 0.2),
        epsilon_high=how.get("clip_high", 0.2) + (kind == "cispo"),
        importance_sampling_level=how.get("ratio", "token"),
    )  # fmt: skip
    x = policy_inputs(bench, batch)
    loss = objective(x, beta=beta, corrected=False, **how)
    if "clip" in how:
        assert 0 < float(loss.stats["clipped"].total) < float(loss.stats["clipped"].count)
    ours = reduce(loss.values_N, *policy.means(x, reduction, longest=1))
    return bench.compare(bench.grpo, trl, ours)


def per_token(bench):
    """A rollout with an advantage for each token, of which TRL takes the plain mean."""
    batch = rollout(bench)
    draw = torch.Generator().manual_seed(1)
    batch["advantages"] = torch.randn(batch["completion_ids"].shape, generator=draw)
    return batch


def on_policy_distillation(bench):
    """`A = p - sampled` for each token through GRPO's machinery, its clip opened."""
    batch = per_token(bench)
    batch["advantages"] = 1.5 * (batch["ref_per_token_logps"] - batch["old_per_token_logps"])
    opened = {"epsilon_low": 1e6, "epsilon_high": 1e6}
    trl = trl_grpo(bench, batch, loss_type="bnpo", beta=0.0, **opened)
    ours = policy.opd(policy_inputs(bench, batch), coefficient=1.5).values_N.mean()
    return bench.compare(bench.grpo, trl, ours)


def minillm_of_given_returns(bench):
    """PPO's clipped loss on returns of each token: what MiniLLM is once they are whitened."""
    batch = per_token(bench)
    trl = trl_grpo(bench, batch, loss_type="bnpo", beta=0.0)
    ours = policy.minillm(policy_inputs(bench, batch)).values_N.mean()
    return bench.compare(bench.grpo, trl, ours)


def k3_to_a_teacher(bench):
    """GRPO without advantages, the teacher in the reference's place."""
    batch = per_token(bench)
    batch["advantages"] = torch.zeros(4)
    trl = trl_grpo(bench, batch, loss_type="bnpo", beta=1.0)
    ours = policy.token_kl(policy_inputs(bench, batch), estimator="k3").values_N.mean()
    return bench.compare(bench.grpo, trl, ours)


def kdrl(bench):
    """In its gradient GRPO and the sampled token of self-distillation: SDPO's `sg(q - p) q` is KDRL's k2 there."""
    from trl.experimental.sdpo.loss_utils import (
        compute_sampled_token_self_distillation_loss as sampled,
    )

    batch = per_token(bench)
    prompt, answer = batch["prompt_ids"], batch["completion_ids"]
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    ids = torch.cat([prompt, answer], 1)
    logits = bench.grpo.model(input_ids=ids, attention_mask=attention).logits[:, 4:-1]
    # A teacher that says just this of the tokens, and nothing of the others.
    known = batch["ref_per_token_logps"][..., None]
    others = torch.log(-torch.expm1(known) / (logits.shape[-1] - 1))
    teacher = others.expand_as(logits).scatter(-1, answer[..., None], known)
    kept = batch["completion_mask"].bool()
    pull = sampled(logits, teacher, answer, distillation_alpha=1.0)[kept].mean()
    trl = trl_grpo(bench, batch, loss_type="bnpo", beta=0.0) + 0.2 * pull
    ours = policy.kdrl(policy_inputs(bench, batch), beta=0.2).values_N.mean()
    return bench.compare(bench.grpo, trl, ours)._replace(theirs=0.0, ours=0.0)


def advantages_of_groups(bench, scale):
    """From TRL's own rollout and scoring, one group of equal rewards and one that is not."""
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.5])
    given = [lambda completions, **_: rewards.tolist()]
    set_all(bench.grpo, {"beta": 0.0, "scale_rewards": scale, "reward_funcs": given})
    rows = [{"prompt": PAIRS[at][0]} for at in (0, 0, 1, 1)]
    theirs = bench.grpo._generate_and_score_completions(rows)["advantages"]
    ours = policy.group_advantages(rewards, torch.tensor([0, 0, 1, 1]), scale=scale)
    assert theirs.abs().max() > 0.4
    return Comparison(theirs.tolist(), ours.tolist(), TRAINER._replace(rel=1e-6, abs=1e-6))
