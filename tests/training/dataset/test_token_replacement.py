"""Tokens of the student's own in given rows: how many, which, and what the loss is told of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from rolling import load, traces, window

from potstill.errors import ConfigError
from potstill.training.dataset.token_replacement import TokenReplacer
from potstill.training.logprobs import build_inputs
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings


def replacer(share, seed=0):
    config = ObjectiveConfig("kid", options={"replaced": share}, teacher="nowhere")
    return TokenReplacer(config, TrainingSettings(seed=seed), bf16=False)


def test_a_share_of_the_learnt_tokens_becomes_the_students_likeliest(tiny_checkpoint):
    model, template = load(tiny_checkpoint)
    [batch] = window(template, traces(3), prompts=False)
    [replaced] = replacer(0.4)(model, [batch], When(0, 4))
    marks = replaced["replaced"] > 0
    changed = replaced["input_ids"] != batch["input_ids"]
    assert torch.equal(marks, changed) and changed.any()
    assert not (changed & (batch["loss_weights"] == 0)).any()
    learnt = (batch["loss_weights"] > 0).sum(1) - 2  # its first and last stay
    assert (changed.sum(1) <= (0.4 * learnt).round()).all()

    # Each is what the student would have said, the text before it given.
    x = build_inputs(model, batch)
    likeliest = x.head(x.hidden_ND).argmax(-1)
    counted = batch["loss_weights"][:, 1:] > 0
    own = replaced["input_ids"][:, 1:][counted]
    assert torch.equal(own[marks[:, 1:][counted]], likeliest[marks[:, 1:][counted]])

    # The loss is told which, and a target there is the student's token.
    y = build_inputs(model, replaced)
    assert torch.equal(y.replaced_N, marks[:, 1:][counted]) and torch.equal(y.targets_N, own)


def test_the_step_and_the_seed_decide_which(tiny_checkpoint):
    model, template = load(tiny_checkpoint)
    [batch] = window(template, traces(3), prompts=False)

    def ids(seed, step):
        return replacer(0.5, seed)(model, [batch], When(step, 4))[0]["input_ids"]

    assert torch.equal(ids(0, 1), ids(0, 1))
    assert not torch.equal(ids(0, 1), ids(0, 2)) and not torch.equal(ids(0, 1), ids(7, 1))


def test_none_are_put_into_what_the_student_writes():
    with pytest.raises(ConfigError, match="the student's tokens are put into given rows"):
        ObjectiveConfig("kid", teacher="nowhere", on_policy_fraction=0.5)
    with pytest.raises(ConfigError, match=r"replaced=1.0 is out of range"):
        ObjectiveConfig("kid", teacher="nowhere", options={"replaced": 1.0})
