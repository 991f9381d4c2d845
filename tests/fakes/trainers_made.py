"""TRL's trainers built on a tiny checkpoint, and our inputs of the batches that they make."""

from __future__ import annotations

import copy
import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
pytest.importorskip("trl", reason="needs the extra potstill[dev]")
from golden import Inputs

from potstill.objectives.inputs import reduce

BETA, NEAR = 0.1, 2e-5
PAIRS = (
    ("19 - 14 =", " 5, so \\boxed{5}.", " 33"),
    ("How many eggs?", " 16 eggs", " three, or so we think; wait, 42"),
    ("5 - 3", " = 2", " = 2 * 2 = 4, that is wrong"),
)


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
    models = [
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for path in (tiny_checkpoint, other)
    ]
    return *models, AutoTokenizer.from_pretrained(tiny_checkpoint), folder


def build(trainer, config, rows, parts, **more):
    """A trainer on the CPU in float32, with its defaults otherwise."""
    from datasets import Dataset

    told = {
        key: more.pop(key)
        for key in list(more)
        if key in {field.name for field in dataclasses.fields(config)}
    }
    arguments = config(
        output_dir=str(parts[3]),
        report_to="none",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        **told,
    )
    model = copy.deepcopy(parts[0]).train()  # TRL patches the forward of what it is given
    return trainer(
        model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=parts[2],
        **more,
    )


def collated(trainer):
    """Its whole data set as one batch, as it makes one itself."""
    return trainer.data_collator([dict(row) for row in trainer.train_dataset])


def logps(model, ids_BT, attention_BT):
    """The plain formula: the log-probability of each token but the first, [B, T - 1]."""
    with torch.no_grad():
        logits_BTV = model(input_ids=ids_BT, attention_mask=attention_BT).logits[:, :-1]
    return logits_BTV.log_softmax(-1).gather(-1, ids_BT[:, 1:, None]).squeeze(-1)


def ours(model, ids_BT, attention_BT, counted_BT, **more):
    """Our inputs: the states that predict the counted tokens, with the model's own head."""
    kept = counted_BT[:, 1:].bool()
    hidden = model.model(input_ids=ids_BT, attention_mask=attention_BT).last_hidden_state[:, :-1][
        kept
    ]
    groups = torch.arange(len(ids_BT))[:, None].expand(kept.shape)[kept]
    return Inputs(hidden, model.lm_head, ids_BT[:, 1:][kept], groups_N=groups, **more)


def of(parts, batch, prefix="", **more):
    """Inputs of a collated batch, with the reference's log-probabilities."""
    ids, attention, counted = (
        batch[prefix + key] for key in ("input_ids", "attention_mask", "completion_mask")
    )
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
