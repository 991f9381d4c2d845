"""Muon on the layers' matrices, AdamW on the rest, as one optimiser."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from transformers import AutoModelForCausalLM

from potstill.training.optimizer import Joined, make
from potstill.training.settings import Training


def model_with_gradients(path):
    model = AutoModelForCausalLM.from_pretrained(path)
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def test_every_parameter_is_in_one_group_and_embeddings_are_not_orthogonalised(tiny_checkpoint):
    model = model_with_gradients(tiny_checkpoint)
    optimiser = make(model, Training(optimiser="muon", lr=6e-3, weight_decay=0.1))
    assert isinstance(optimiser, Joined)
    grouped = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    muon, embeddings, norms = optimiser.param_groups
    assert len(muon["params"]) == 2 * 7 and muon["lr"] == 6e-3
    assert [id(p) for p in embeddings["params"]] == [id(model.get_input_embeddings().weight)]
    assert (embeddings["lr"], embeddings["weight_decay"]) == (3e-3, 0.1)
    assert norms["weight_decay"] == 0.0 and all(p.ndim == 1 for p in norms["params"])


def test_a_step_is_torchs_own_muon_and_adamw(tiny_checkpoint):
    ours, theirs = model_with_gradients(tiny_checkpoint), model_with_gradients(tiny_checkpoint)
    make(ours, Training(optimiser="muon", lr=6e-3, lr_rest=1e-3)).step()
    layers = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in theirs.named_parameters() if p.ndim == 1 or "embed" in n]
    torch.optim.Muon(layers, lr=6e-3, weight_decay=0.0).step()
    torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True).step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_state_goes_through_a_save(tiny_checkpoint):
    model = model_with_gradients(tiny_checkpoint)
    settings = Training(optimiser="muon", lr=6e-3)
    optimiser = make(model, settings)
    optimiser.step()
    saved, twin = copy.deepcopy(optimiser.state_dict()), copy.deepcopy(model)
    for a, b in zip(model.parameters(), twin.parameters()):
        b.grad = a.grad.clone()
    again = make(twin, settings)
    again.load_state_dict(saved)
    optimiser.step()
    again.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


def test_a_schedule_moves_the_rate_of_every_part(tiny_checkpoint):
    optimiser = make(model_with_gradients(tiny_checkpoint), Training(optimiser="muon", lr=6e-3))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5)
    assert [group["lr"] for group in optimiser.param_groups] == [3e-3, 1.5e-3, 1.5e-3]
    optimiser.step()
    schedule.step()


def test_adamw_is_the_default(tiny_checkpoint):
    optimiser = make(model_with_gradients(tiny_checkpoint), Training(weight_decay=0.1))
    assert type(optimiser) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]
