"""TRL's own trainers, run on a tiny checkpoint: their losses of one batch against ours of the same token ids."""

from __future__ import annotations

import copy
import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from trainers_made import (
    BETA,
    NEAR,
    PAIRS,
    build,
    collated,
    logps,
    of,
    ours,
    parts,
    quiet,
    same_gradient,
    total,
    value,
)

from potstill.objectives import likelihood, preference

__all__ = ["parts", "quiet"]  # fixtures
SINGLE = (
    *((prompt, good, True) for prompt, good, _ in PAIRS),
    *((prompt, bad, False) for prompt, _, bad in PAIRS[:2]),
)


@pytest.fixture(scope="module")
def dpo(parts):
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": prompt, "chosen": good, "rejected": bad} for prompt, good, bad in PAIRS]
    return build(DPOTrainer, DPOConfig, rows, parts, ref_model=copy.deepcopy(parts[1]), beta=BETA)


@pytest.fixture(scope="module")
def kto(parts):
    from trl import KTOConfig, KTOTrainer

    rows = [
        {"prompt": prompt, "completion": text, "label": label} for prompt, text, label in SINGLE
    ]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.75}
    return build(
        KTOTrainer, KTOConfig, rows, parts, ref_model=copy.deepcopy(parts[1]), beta=BETA, **weights
    )


SHAPES = {
    "sigmoid": lambda x: preference.dpo(x, beta=BETA),
    "step": lambda x: preference.step_dpo(x, beta=BETA),  # what comes before the step is the prompt
    "hinge": lambda x: preference.dpo(x, beta=BETA, kind="hinge"),
    "ipo": lambda x: preference.ipo(x, tau=BETA),
    "robust": lambda x: preference.dpo(x, beta=BETA, smoothing=0.2),
    "sigmoid_norm": lambda x: preference.dpo(x, beta=BETA, kind="sigmoid_norm"),
    "apo_zero": lambda x: preference.dpo(x, beta=BETA, kind="apo_zero"),
    "apo_down": lambda x: preference.dpo(x, beta=BETA, kind="apo_down"),
    "nca_pair": lambda x: preference.dpo(x, beta=BETA, kind="nca"),
    "bco_pair": lambda x: preference.dpo(x, beta=BETA, kind="bco"),
    "sppo_hard": lambda x: preference.dpo(x, beta=BETA, kind="sppo"),
    "exo_pair": lambda x: preference.exo(x, beta=BETA, smoothing=0.2),
    "discopop": lambda x: preference.discopop(x, beta=BETA),
}


def trl_dpo(trainer, batch, kinds, monkeypatch, **more):
    told = {"loss_types": kinds, "loss_weights": [1.0] * len(kinds), **more}
    for name, setting in told.items():
        assert hasattr(trainer, name)
        monkeypatch.setattr(trainer, name, setting)
    return trainer.compute_loss(trainer.model, batch)


@pytest.mark.parametrize("kind", SHAPES)
def test_dpo(dpo, parts, kind, monkeypatch):
    batch = collated(dpo)
    more = {"label_smoothing": 0.2} if kind in ("robust", "exo_pair") else {}
    trl = trl_dpo(dpo, batch, ["sigmoid" if kind == "step" else kind], monkeypatch, **more)
    loss = SHAPES[kind](of(parts, batch, pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]])))
    assert total(loss, 3) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(dpo, trl, parts, loss.values_N.sum() / 3)


def test_length_desensitised_dpo(dpo, parts, monkeypatch):
    batch = collated(dpo)
    trl = trl_dpo(dpo, batch, ["sigmoid"], monkeypatch, ld_alpha=0.5)
    loss = preference.dpo(
        of(parts, batch, pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]])),
        beta=BETA,
        length_share=0.5,
    )
    assert total(loss, 3) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(dpo, trl, parts, loss.values_N.sum() / 3)


def test_dpo_with_likelihood_is_trls_for_a_pair_and_a_mean_of_pairs_beyond(dpo, parts, monkeypatch):
    """TRL's likelihood is the mean over the chosen tokens of a micro-batch, ours that of each pair (RPO's equation)."""
    single = dpo.data_collator([dict(dpo.train_dataset[1])])
    trl = trl_dpo(dpo, single, ["sigmoid", "sft"], monkeypatch)
    one = preference.dpo(of(parts, single, pairs_P2=torch.tensor([[0, 1]])), beta=BETA, sft=1.0)
    assert total(one, 1) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(dpo, trl, parts, one.values_N.sum())

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
    ratio = preference.per_sequence(
        preference.token_logp(mismatched) - mismatched.reference_N, mismatched
    )
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


@pytest.mark.parametrize("kind", ["nll", "dft"])
def test_sft(parts, kind):
    """Prompt and completion, the prompt not counted; its fused head on the CPU."""
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": prompt, "completion": text} for prompt, text, _ in PAIRS]
    sft = build(SFTTrainer, SFTConfig, rows, parts, loss_type=kind)
    batch = collated(sft)
    trl = sft.compute_loss(sft.model, dict(batch), num_items_in_batch=torch.tensor(40))
    counted = batch["labels"] != -100
    x = ours(
        parts[0], batch["input_ids"], (batch["input_ids"] != parts[2].pad_token_id).long(), counted
    )
    loss = {"nll": likelihood.sft, "dft": likelihood.dft}[kind](x)
    assert 0 < len(x.targets_N) < batch["input_ids"].numel() / 2
    assert total(loss, 40) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(sft, trl, parts, loss.values_N.sum() / 40)


def unpaired(parts, batch):
    """Our inputs of a batch as the experimental trainers collate one: the better sides, then the worse, shifted."""
    columns = [
        [batch[f"{side}_{name}"] for side in ("chosen", "rejected")]
        for name in ("input_ids", "labels")
    ]
    ids, labels = (
        torch.nn.utils.rnn.pad_sequence([row for side in sides for row in side], True, fill)
        for sides, fill in zip(columns, (parts[2].pad_token_id, -100))
    )
    attention = (ids != parts[2].pad_token_id).long()
    return (
        ids,
        attention,
        ours(
            parts[0],
            ids,
            attention,
            labels != -100,
            pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]]),
        ),
    )


@pytest.mark.parametrize(
    ("kind", "objective"), [("simpo", preference.simpo), ("sigmoid", preference.cpo)]
)
def test_simpo_and_cpo(parts, kind, objective, monkeypatch):
    """As they are; and with TRL's likelihood, the mean of the tokens of the micro-batch where ours is that of pairs."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    rows = [{"prompt": prompt, "chosen": good, "rejected": bad} for prompt, good, bad in PAIRS]
    cpo = build(
        CPOTrainer, CPOConfig, rows, parts, loss_type=kind, beta=2.0, simpo_gamma=1.0, max_length=64
    )
    batch, likely = collated(cpo), {"alpha": 0.0} if objective is preference.cpo else {}
    for alpha in (0.0, 0.5):
        monkeypatch.setattr(cpo, "cpo_alpha", alpha)
        trl = cpo.compute_loss(cpo.model, batch)
        _, _, x = unpaired(parts, batch)
        better = torch.isin(x.groups_N, torch.tensor([0, 1, 2]))
        tokens = likelihood.sft(x).values_N[better].mean()
        mine = objective(x, beta=2.0, **likely).values_N.sum() / 3 + alpha * tokens
        assert value(mine) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
        same_gradient(cpo, trl, parts, mine)


def test_orpo_but_for_the_prompts_likelihood(parts):
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    rows = [{"prompt": prompt, "chosen": good, "rejected": bad} for prompt, good, bad in PAIRS]
    orpo = build(ORPOTrainer, ORPOConfig, rows, parts, beta=0.3, max_length=64)
    batch = collated(orpo)
    ids, attention, x = unpaired(parts, batch)
    trl = orpo.compute_loss(orpo.model, batch)
    odds = (preference.orpo(x, lam=0.3).values_N - preference.orpo(x, lam=0.0).values_N).sum() / 3
    whole = likelihood.sft(ours(parts[0], ids[:3], attention[:3], attention[:3])).values_N.mean()
    assert value(odds + whole) == pytest.approx(value(trl), abs=NEAR, rel=NEAR)
    same_gradient(orpo, trl, parts, odds + whole)
    assert (
        abs(value(preference.orpo(x, lam=0.3).values_N.sum() / 3) - value(trl)) > 1e-3
    )  # prompts count there
