"""Trained projections: from the seed, at a rate of their own, forgotten gradients, in checkpoints; rows by prompt."""

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import gradients_however_cut, pairs, rows
from other_tokens import other_checkpoint
from tiny import tiny_checkpoint as make_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.objectives.inputs import Hidden
from potstill.training.dataset import batching
from potstill.training.dataset.build import build_dataset
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.fit import fit
from potstill.training.logprobs import build_inputs
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import StudentTrainer

SETTINGS = TrainingSettings(
    max_steps=3, batch_size=4, learning_rate=1e-3, warmup_steps=0, threads=1
)


def taken(start, config, traces, **how):
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    template = read_chat_template(AutoTokenizer.from_pretrained(start))
    dataset = build_dataset(traces, template, start, TrainingSettings(), config)
    return model, prepare_objective(config, model, **how), dataset


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", ["dskd", "cot2align", "ted"])
def test_projections_learn_at_their_own_rate(tiny_checkpoint, tmp_path, name, kind):
    teacher = (
        make_checkpoint(tmp_path / "t", seed=1)
        if name == "ted"
        else other_checkpoint(tmp_path / "t")
    )
    moved = []
    for rate in (1e-3, 1e-5):
        model, made, found = taken(
            tiny_checkpoint,
            ObjectiveConfig(
                name, teacher=teacher, options={"projector_lr": rate}, max_new_tokens=8
            ),
            rows(),
        )
        before = weights(made.projectors.module)
        settings = dataclasses.replace(SETTINGS, optimizer=kind)
        StudentTrainer(
            model, found, settings, tmp_path / str(rate), None, objective_inputs=made
        ).train()
        moved.append(float((weights(made.projectors.module) - before).abs().max()))
    assert 1e-4 < moved[0] < 4e-3 and moved[1] < 4e-5  # Adam's steps are as long as the rate
    assert moved[1] > 0


def test_the_seed_makes_them(tiny_checkpoint, tmp_path):
    config = ObjectiveConfig(
        "cot2align", teacher=other_checkpoint(tmp_path / "t"), max_new_tokens=8
    )
    torch.manual_seed(7)
    a, b, c = (
        taken(tiny_checkpoint, config, rows(), seed=seed)[1].projectors.module for seed in (0, 0, 1)
    )
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))


@pytest.mark.slow
def test_gradients_are_of_one_step(tiny_checkpoint, tmp_path):
    """The Trainer forgets its model's gradients and knows of no projections."""
    config = ObjectiveConfig(
        "cot2align", teacher=other_checkpoint(tmp_path / "t"), max_new_tokens=8
    )
    model, made, found = taken(tiny_checkpoint, config, rows())
    settings = dataclasses.replace(SETTINGS, learning_rate=1e-12, max_steps=2, batch_size=8)
    made.projectors.learning_rate = 1e-12
    norms = []
    loop = StudentTrainer(model, found, settings, tmp_path / "out", None, objective_inputs=made)
    loop.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            float(sum(p.grad.norm() for p in made.projectors.module.parameters()))
        )
    )
    loop.train()
    assert norms[1] == pytest.approx(norms[0], rel=1e-3) and norms[0] > 0


def test_layers_are_compared_at_the_same_depth_in_one_pass(tiny_checkpoint, tmp_path):
    teacher = make_checkpoint(tmp_path / "t", seed=1, num_hidden_layers=4, hidden_size=48)
    model, made, found = taken(
        tiny_checkpoint, ObjectiveConfig("ted", teacher=teacher, max_new_tokens=8), rows()[:3]
    )
    assert made.projectors.layer_pairs == ((1, 2), (2, 4))
    batch = batching.collate(made.with_reference_values(model, found))
    plain = build_inputs(model, batch, teacher=made.teacher, needs=("distribution",))
    inner = made.compared_layers(model, batch)
    x = made.complete_inputs(dataclasses.replace(plain, teacher=None), model, batch, inner)
    torch.testing.assert_close(inner[0].last_ND, plain.hidden_ND)
    assert isinstance(x.teacher, Hidden)
    torch.testing.assert_close(x.teacher.hidden_NDt, plain.teacher.hidden_NDt)
    assert [s.shape[1] for s in x.layers.student] == [32, 32] and [
        t.shape[1] for t in x.layers.teacher
    ] == [48, 48]
    assert not any(t.requires_grad for t in x.layers.teacher) and all(
        s.requires_grad for s in x.layers.student
    )


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_killed_training_finds_its_filters_again(tiny_checkpoint, tmp_path):
    config = ObjectiveConfig(
        "ted",
        teacher=make_checkpoint(tmp_path / "t", seed=1, hidden_size=48),
        options={"layers": 1},
        max_new_tokens=8,
    )
    settings = dataclasses.replace(SETTINGS, max_steps=6, save_steps=2)

    def kill(label, done, total):
        if done == 4:
            raise Killed

    whole = fit(rows(), tiny_checkpoint, tmp_path / "whole", settings, config=config)
    with pytest.raises(Killed):
        fit(rows(), tiny_checkpoint, tmp_path / "killed", settings, config=config, progress=kill)
    again = fit(rows(), tiny_checkpoint, tmp_path / "killed", settings, config=config)
    assert again.losses == whole.losses
    ends = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert ends[0] == ends[1]


def test_rationales_of_a_prompt_are_one_item(tiny_checkpoint):
    first, *rest = pairs(4)
    other = first.annotate(rejected=dataclasses.replace(first.rejected, text="No, 41."))
    scored = [
        row.annotate(scores={"score": 0.9}, rejected=row.rejected.annotate(scores={"score": 0.2}))
        for row in (first, other)
    ]
    model, made, found = taken(tiny_checkpoint, ObjectiveConfig("qcrd"), [*scored, *rest])
    assert [len(item) for item in found] == [3, 2, 2, 2]  # the good one of the first prompt once
    batch = batching.collate(made.with_reference_values(model, found))
    assert float(made.normaliser_count(batch)) == 4
    x = made.complete_inputs(build_inputs(model, batch), model, batch)
    assert x.labels_S.tolist() == [True, False, False] + [True, False] * 3
    assert (
        x.prompts_S.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3] and x.scores_S is None
    )  # not all have one
    model, made, found = taken(tiny_checkpoint, ObjectiveConfig("qcrd"), scored)
    batch = batching.collate(made.with_reference_values(model, found))
    assert made.complete_inputs(
        build_inputs(model, batch), model, batch
    ).scores_S.tolist() == pytest.approx([0.9, 0.2, 0.2])


@pytest.mark.parametrize("name", ["qcrd", "contrastive"])
def test_a_prompts_loss_is_the_same_however_a_step_is_cut(tiny_checkpoint, name):
    model, made, found = taken(tiny_checkpoint, ObjectiveConfig(name), pairs(4))
    grads = gradients_however_cut(model, made, made.with_reference_values(model, found))
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0], atol=1e-5, rtol=1e-3)
