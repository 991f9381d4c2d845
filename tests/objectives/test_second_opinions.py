"""TRL's own trainers, run on a tiny checkpoint: their losses of one batch against ours of the same token ids."""

from __future__ import annotations

import copy
import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
pytest.importorskip("trl", reason="needs the extra potstill[dev]")
from golden import Inputs  # noqa: E402

from potstill.objectives import policy, preference  # noqa: E402
from potstill.objectives.inputs import reduce  # noqa: E402

BETA, NEAR = 0.1, 2e-5
PAIRS = (
    ("19 - 14 =", " 5, so \\boxed{5}.", " 33"),
    ("How many eggs?", " 16 eggs", " three, or so we think; wait, 42"),
    ("5 - 3", " = 2", " = 2 * 2 = 4, that is wrong"),
)
SINGLE = (*((prompt, good, True) for prompt, good, _ in PAIRS), *((prompt, bad, False) for prompt, _, bad in PAIRS[:2]))


@pytest.fixture(scope="module", autouse=True)
def quiet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def parts(tiny_checkpoint, tmp_path_factory):
    """The checkpoint, a second random one as the reference, the tokenizer, a folder."""
    from tiny import tiny_checkpoint as make
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("second_opinions")
    other = make(folder / "reference", seed=1)
    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (tiny_checkpoint, other)]
    return *models, AutoTokenizer.from_pretrained(tiny_checkpoint), folder


def build(trainer, config, rows, parts, **more):
    """A trainer on the CPU in float32, with its defaults otherwise."""
    from datasets import Dataset

    told = {key: more.pop(key) for key in list(more) if key in {field.name for field in dataclasses.fields(config)}}
    arguments = config(
        output_dir=str(parts[3]), report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False, **told
    )
    model = copy.deepcopy(parts[0]).train()  # TRL patches the forward of what it is given
    return trainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=parts[2], **more)


def collated(trainer):
    """Its whole data set as one batch, as it makes one itself."""
    return trainer.data_collator([dict(row) for row in trainer.train_dataset])


@pytest.fixture(scope="module")
def dpo(parts):
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": prompt, "chosen": good, "rejected": bad} for prompt, good, bad in PAIRS]
    return build(DPOTrainer, DPOConfig, rows, parts, ref_model=copy.deepcopy(parts[1]), beta=BETA)


@pytest.fixture(scope="module")
def kto(parts):
    from trl import KTOConfig, KTOTrainer

    rows = [{"prompt": prompt, "completion": text, "label": label} for prompt, text, label in SINGLE]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.75}
    return build(KTOTrainer, KTOConfig, rows, parts, ref_model=copy.deepcopy(parts[1]), beta=BETA, **weights)


@pytest.fixture(scope="module")
def grpo(parts):
    from trl import GRPOConfig, GRPOTrainer

    sizes = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 16}
    rewards = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    trainer = build(GRPOTrainer, GRPOConfig, [{"prompt": one[0]} for one in PAIRS], parts, **sizes, **rewards)
    trainer.current_gradient_accumulation_steps = 1  # set by `train`, which is not called
    return trainer


def logps(model, ids_BT, attention_BT):
    """The plain formula: the log-probability of each token but the first, [B, T - 1]."""
    with torch.no_grad():
        logits_BTV = model(input_ids=ids_BT, attention_mask=attention_BT).logits[:, :-1]
    return logits_BTV.log_softmax(-1).gather(-1, ids_BT[:, 1:, None]).squeeze(-1)


def ours(model, ids_BT, attention_BT, counted_BT, **more):
    """Our inputs: the states that predict the counted tokens, with the model's own head."""
    kept = counted_BT[:, 1:].bool()
    hidden = model.model(input_ids=ids_BT, attention_mask=attention_BT).last_hidden_state[:, :-1][kept]
    groups = torch.arange(len(ids_BT))[:, None].expand(kept.shape)[kept]
    return Inputs(hidden, model.lm_head, ids_BT[:, 1:][kept], groups_N=groups, **more)


def of(parts, batch, prefix="", **more):
    """Inputs of a collated batch, with the reference's log-probabilities."""
    ids, attention, counted = (batch[prefix + key] for key in ("input_ids", "attention_mask", "completion_mask"))
    reference = logps(parts[1], ids, attention)[counted[:, 1:].bool()]
    return ours(parts[0], ids, attention, counted, reference_N=reference, **more)


def total(loss, count):
    return value(reduce(loss.values_N, torch.ones_like(loss.values_N), count))


def value(scalar):
    return float(scalar.detach())


def same_gradient(trainer, trl, parts, loss):
    """Of the tied embeddings and head."""
    theirs = torch.autograd.grad(trl, trainer.model.lm_head.weight)[0]
    mine = torch.autograd.grad(loss, parts[0].lm_head.weight)[0]
    assert float((theirs - mine).abs().max()) <= 1e-4 * float(theirs.abs().max()) > 0


SHAPES = {
    "sigmoid": lambda x: preference.dpo(x, beta=BETA),
    "hinge": lambda x: preference.dpo(x, beta=BETA, kind="hinge"),
    "ipo": lambda x: preference.ipo(x, tau=BETA),
    "robust": lambda x: preference.dpo(x, beta=BETA, smoothing=0.2),
    "sigmoid_norm": lambda x: preference.dpo(x, beta=BETA, kind="sigmoid_norm"),
    "apo_zero": lambda x: preference.dpo(x, beta=BETA, kind="apo_zero"),
    "apo_down": lambda x: preference.dpo(x, beta=BETA, kind="apo_down"),
    "nca_pair": lambda x: preference.dpo(x, beta=BETA, kind="nca"),
    "bco_pair": lambda x: preference.dpo(x, beta=BETA, kind="bco"),
}


def trl_dpo(trainer, batch, kinds, monkeypatch, **more):
    told = {"loss_types": kinds, "loss_weights": [1.0] * len(kinds), **more}
    for name, value in told.items():
        assert hasattr(trainer, name)
        monkeypatch.setattr(trainer, name, value)
    return trainer.compute_loss(trainer.model, batch)


@pytest.mark.parametrize("kind", SHAPES)
def test_dpo(dpo, parts, kind, monkeypatch):
    batch = collated(dpo)
    more = {"label_smoothing": 0.2} if kind == "robust" else {}
    trl = trl_dpo(dpo, batch, [kind], monkeypatch, **more)
    loss = SHAPES[kind](of(parts, batch, pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]])))
    assert total(loss, 3) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(dpo, trl, parts, loss.values_N.sum() / 3)


def test_length_desensitised_dpo(dpo, parts, monkeypatch):
    batch = collated(dpo)
    trl = trl_dpo(dpo, batch, ["sigmoid"], monkeypatch, ld_alpha=0.5)
    loss = preference.dpo(
        of(parts, batch, pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]])), beta=BETA, length_share=0.5
    )
    assert total(loss, 3) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)


def test_dpo_with_likelihood_is_trls_for_a_pair_and_a_mean_of_pairs_beyond(dpo, parts, monkeypatch):
    """TRL's likelihood is the mean over the chosen tokens of a micro-batch, ours that of each pair (RPO's equation)."""
    single = dpo.data_collator([dict(dpo.train_dataset[1])])
    trl = value(trl_dpo(dpo, single, ["sigmoid", "sft"], monkeypatch))
    one = preference.dpo(of(parts, single, pairs_P2=torch.tensor([[0, 1]])), beta=BETA, sft=1.0)
    assert total(one, 1) == pytest.approx(trl, abs=NEAR, rel=NEAR)

    batch = collated(dpo)
    x = of(parts, batch, pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]]))
    trl = value(trl_dpo(dpo, batch, ["sigmoid", "sft"], monkeypatch))
    mine = total(preference.dpo(x, beta=BETA, sft=1.0), 3)
    chosen = batch["completion_mask"][:3, 1:].bool()
    nll = -logps(parts[0], batch["input_ids"][:3], batch["attention_mask"][:3])
    by_tokens = float(nll[chosen].mean())
    by_pairs = float(((nll * chosen).sum(1) / chosen.sum(1)).mean())
    assert mine - trl == pytest.approx(by_pairs - by_tokens, abs=NEAR)
    assert abs(by_pairs - by_tokens) > 1e-2  # lengths differ, so the two means do


def test_kto_with_the_kl_of_the_mismatched_batch(kto, parts):
    batch = collated(kto)
    trl = kto.compute_loss(kto.model, batch)
    mismatched = of(parts, batch, "KL_")
    ratio = preference.per_sequence(preference.token_logp(mismatched) - mismatched.reference_N, mismatched)
    kl = ratio.mean().detach()
    x = of(parts, batch, labels_S=batch["label"].bool(), kl=kl)
    loss = preference.kto(x, beta=BETA, desirable=1.5, undesirable=0.75)
    assert kto._metrics["train"]["kl"][-1] == pytest.approx(max(float(kl), 0.0), abs=NEAR)
    assert total(loss, len(SINGLE)) == pytest.approx(value(trl), abs=NEAR)


def test_kto_with_a_given_kl(kto, parts, monkeypatch):
    """The mismatched log-ratio set by hand, so that it is above 0 and counts."""
    batch = collated(kto)
    given = {id(kto.model): torch.tensor([3.0, 2.0]), id(kto.ref_model): torch.tensor([1.0, 1.0])}
    monkeypatch.setattr(kto, "_compute_kl_logps", lambda model, batch: given[id(model)])
    trl = kto.compute_loss(kto.model, batch)
    assert kto._metrics["train"]["kl"][-1] == 1.5
    x = of(parts, batch, labels_S=batch["label"].bool(), kl=torch.tensor(1.5))
    how = {"beta": BETA, "desirable": 1.5, "undesirable": 0.75}
    loss = preference.kto(x, **how)
    assert total(loss, len(SINGLE)) == pytest.approx(value(trl), abs=NEAR)
    without = preference.kto(dataclasses.replace(x, kl=None), **how)
    assert abs(total(without, len(SINGLE)) - value(trl)) > 1e-3
    same_gradient(kto, trl, parts, loss.values_N.sum() / len(SINGLE))


def rollout(parts):
    """Four completions of 7, 6, 9 and 1 tokens; what was sampled lies on both sides of the clip's bounds."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 6, 9, 1])
    mask = (torch.arange(9) < lengths[:, None]).long()
    prompt, completion = (torch.randint(3, 250, (4, n), generator=draw) for n in (5, 9))
    ids, attention = torch.cat([prompt, completion], 1), torch.cat([torch.ones_like(prompt), mask], 1)
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
    ids, kept = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1), batch["completion_mask"].bool()
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    counted = torch.cat([torch.zeros_like(batch["prompt_mask"]), batch["completion_mask"]], 1)
    advantages = batch["advantages"][:, None].expand(kept.shape)[kept]
    old, reference = batch["old_per_token_logps"][kept], batch["ref_per_token_logps"][kept]
    more = {"advantages_N": advantages, "sampled_N": old, "reference_N": reference}
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
    loss = policy.policy_gradient(x, clip=0.2, clip_high=0.28, beta=beta, corrected=corrected)
    weights, normaliser = policy.means(x, MEANS[kind], longest=16)
    mine = reduce(loss.values_N, weights, normaliser)
    assert value(mine) == pytest.approx(value(trl), abs=NEAR)
    same_gradient(grpo, trl, parts, mine)
    metrics = grpo._metrics["train"]
    assert metrics["clip_ratio/low_mean"][-1] > 0 < metrics["clip_ratio/high_mean"][-1]  # both bounds are met
    if beta and not corrected:  # theirs is multiplied by the ratio otherwise
        assert metrics["kl"][-1] == pytest.approx(float(loss.stats["kl"].total / loss.stats["kl"].count), abs=NEAR)
