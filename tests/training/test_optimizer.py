"""Muon on the layers' matrices, AdamW on the rest, as one optimizer."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from transformers import AutoModelForCausalLM

from potstill.training.optimizer import JoinedOptimizer, make_optimizer
from potstill.training.settings import TrainingSettings


def model_with_gradients(path):
    model = AutoModelForCausalLM.from_pretrained(path)
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def test_every_parameter_is_in_one_group_and_embeddings_are_not_orthogonalised(tiny_checkpoint):
    model = model_with_gradients(tiny_checkpoint)
    optimizer = make_optimizer(
        model, TrainingSettings(optimizer="muon", learning_rate=6e-3, weight_decay=0.1)
    )
    assert isinstance(optimizer, JoinedOptimizer)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    muon, embeddings, norms = optimizer.param_groups
    assert len(muon["params"]) == 2 * 7 and muon["lr"] == 6e-3
    assert [id(p) for p in embeddings["params"]] == [id(model.get_input_embeddings().weight)]
    assert (embeddings["lr"], embeddings["weight_decay"]) == (3e-3, 0.1)
    assert norms["weight_decay"] == 0.0 and all(p.ndim == 1 for p in norms["params"])


def test_a_step_is_torchs_own_muon_and_adamw(tiny_checkpoint):
    ours, theirs = model_with_gradients(tiny_checkpoint), model_with_gradients(tiny_checkpoint)
    make_optimizer(
        ours, TrainingSettings(optimizer="muon", learning_rate=6e-3, adamw_learning_rate=1e-3)
    ).step()
    layers = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in theirs.named_parameters() if p.ndim == 1 or "embed" in n]
    torch.optim.Muon(layers, lr=6e-3, weight_decay=0.0).step()
    torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True).step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_state_goes_through_a_save(tiny_checkpoint):
    model = model_with_gradients(tiny_checkpoint)
    settings = TrainingSettings(optimizer="muon", learning_rate=6e-3)
    optimizer = make_optimizer(model, settings)
    optimizer.step()
    saved, twin = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    for a, b in zip(model.parameters(), twin.parameters()):
        b.grad = a.grad.clone()
    again = make_optimizer(twin, settings)
    again.load_state_dict(saved)
    optimizer.step()
    again.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


def test_a_schedule_moves_the_rate_of_every_part(tiny_checkpoint):
    optimizer = make_optimizer(
        model_with_gradients(tiny_checkpoint),
        TrainingSettings(optimizer="muon", learning_rate=6e-3),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [3e-3, 1.5e-3, 1.5e-3]
    optimizer.step()
    schedule.step()


def test_adamw_is_the_default(tiny_checkpoint):
    optimizer = make_optimizer(
        model_with_gradients(tiny_checkpoint), TrainingSettings(weight_decay=0.1)
    )
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
