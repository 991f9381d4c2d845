"""Every objective trains; however a step is cut into micro-batches its gradient is one; a kill changes no bit."""

import dataclasses
import hashlib
import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import gradients_however_cut, learnt, pairs, rows, stored
from slow_cases import slow_except
from tiny import tiny_checkpoint as make_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill import objectives
from potstill.training.dataset import batching
from potstill.training.dataset.build import build_dataset
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, trainable
from potstill.training.objective_inputs import prepare_objective
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import batch_loss

OFFLINE = [
    name
    for name in trainable()
    if "advantages" not in objectives.entry(name).needs and objectives.hooks(name).trains_student
]  # which trains no student


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def taken(config):
    return pairs() if {"pairs", "labels"} & set(config.needs) else rows()


def prepared(start, traces, config, *, model=None):
    """The student, the objective made ready, the dataset with what the reference says of it."""
    model = model or AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    made = prepare_objective(config, model)
    template = read_chat_template(AutoTokenizer.from_pretrained(start))
    dataset = build_dataset(traces, template, start, TrainingSettings(), config)
    return model, made, made.with_reference_values(model, dataset)


# One of each kind in the fast suite: text, distribution, pairs, labels, returns, another tokenizer's, stored entries.
FAST = ("sft", "forward_kl", "dpo", "kto", "minillm", "dskd", "teacher_cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_except(FAST, [*OFFLINE, "teacher_cache"]))
def test_every_offline_objective_moves_the_weights_by_finite_steps(tiny_checkpoint, tmp_path, name):
    config = learnt(name, tmp_path)
    settings = TrainingSettings(
        max_steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=0, threads=1
    )
    done = fit(taken(config), tiny_checkpoint, tmp_path / "out", settings, config=config)
    assert (
        len(done.losses) == 2
        and all(map(math.isfinite, done.losses))
        and done.losses[0] != done.losses[1]
    )
    assert done.stats and all(
        math.isfinite(value) for ends in done.stats.values() for value in ends
    )
    before = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) > 0.9 * len(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", slow_except(("sft", "redi"), ["sft", "dpo", "redi", "forward_kl", "teacher_cache"])
)
def test_it_learns_what_it_is_told(tiny_checkpoint, tmp_path, name):
    config = learnt(name, tmp_path)
    settings = TrainingSettings(
        num_train_epochs=30, batch_size=8, learning_rate=3e-3, warmup_steps=0, threads=1
    )
    done = fit(taken(config), tiny_checkpoint, tmp_path / "out", settings, config=config)
    assert (
        done.losses[-1] < 0.6 * done.losses[0]
        if done.losses[0] > 0
        else done.losses[-1] < done.losses[0]
    )


SPLITS = [
    *[(name, mean) for name in ("sft", "forward_kl") for mean in ("token", "sequence", "fixed")],
    *[(name, "token") for name in ("length_balanced", "opd", "kto", "dpo", "redi", "distillm2")],
]


@pytest.mark.parametrize(("name", "mean"), SPLITS)
def test_one_step_is_the_same_however_it_is_cut(tiny_checkpoint, tmp_path, name, mean):
    """1 x 4, 2 x 2, 4 x 1: token, sequence and pair losses, over rows of different lengths and weights."""
    config = dataclasses.replace(learnt(name, tmp_path), loss_reduction=mean)
    traces = [
        trace.annotate(weight=0.5) if at == 1 else trace
        for at, trace in enumerate(taken(config)[:4])
    ]
    model, made, found = prepared(tiny_checkpoint, traces, config)
    grads = gradients_however_cut(model, made, found)
    for other in grads[1:]:
        assert float((other - grads[0]).abs().max()) <= 2e-6 * max(1.0, float(grads[0].abs().max()))


def test_means_differ_where_lengths_do(tiny_checkpoint, tmp_path):
    found = {}
    for mean in ("token", "sequence", "fixed"):
        model, made, batch = prepared(
            tiny_checkpoint, rows(4), ObjectiveConfig(loss_reduction=mean, max_new_tokens=64)
        )
        batch = batching.collate(batch)
        found[mean] = float(
            batch_loss(model, batch, made.normaliser_count(batch), made)[0].detach()
        )
    batch_logp = torch.log_softmax(model(batch["input_ids"]).logits[:, :-1].float(), -1)
    nll = -batch_logp.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    counted = batch["loss_weights"][:, 1:]
    sums, lengths = (nll * counted).sum(1), counted.sum(1)
    assert found["token"] == pytest.approx(float(sums.sum() / lengths.sum()), rel=1e-5)
    assert found["sequence"] == pytest.approx(float((sums / lengths).mean()), rel=1e-5)
    assert found["fixed"] == pytest.approx(float(sums.sum() / (4 * 64)), rel=1e-5)


@pytest.mark.parametrize("own", [False, True], ids=["the start", "a checkpoint"])
def test_the_reference_column_is_the_likelihood_under_the_reference(tiny_checkpoint, tmp_path, own):
    other = make_checkpoint(tmp_path / "other", seed=4)
    config = ObjectiveConfig("dpo", reference=other if own else None)
    model, _, found = prepared(tiny_checkpoint, pairs(), config)
    model.train()
    of = AutoModelForCausalLM.from_pretrained(
        other if own else tiny_checkpoint, dtype=torch.float32
    )
    for row in (row for item in found for row in item):
        ids, weight = torch.from_numpy(row.input_ids).long(), torch.from_numpy(row.loss_weights)
        with torch.no_grad():
            logp = (
                torch.log_softmax(of(ids[None]).logits[0, :-1].float(), -1)
                .gather(1, ids[1:, None])
                .squeeze(1)
            )
        torch.testing.assert_close(
            torch.from_numpy(row.columns["reference"])[1:],
            logp * (weight[1:] > 0),
            rtol=1e-4,
            atol=1e-4,
        )
    assert model.training, "left as it was"


@pytest.mark.slow
def test_of_the_start_itself_the_first_margin_is_nothing(tiny_checkpoint, tmp_path):
    done = fit(
        pairs(),
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=1, threads=1),
        config=ObjectiveConfig("dpo"),
    )
    assert done.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert done.stats["margin"][0] == pytest.approx(0, abs=1e-4)


class Stop(Exception):
    """What a kill looks like from inside."""


def stop_at(step):
    def progress(label, done, total):
        if label == "training" and done == step:
            raise Stop

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpo", "redi", "teacher_cache", "taid"])
def test_after_a_kill_the_weights_are_those_of_an_undisturbed_run(tiny_checkpoint, tmp_path, name):
    config = learnt(name, tmp_path)
    settings = TrainingSettings(
        num_train_epochs=6,
        batch_size=3,
        learning_rate=3e-3,
        threads=1,
        save_steps=4,
        packing=name == "redi",
    )
    whole = fit(taken(config), tiny_checkpoint, tmp_path / "whole", settings, config=config)
    out = tmp_path / "killed"
    for step in (6, 10):
        torch.manual_seed(step)
        with pytest.raises(Stop):
            fit(
                taken(config), tiny_checkpoint, out, settings, config=config, progress=stop_at(step)
            )
    seen = []
    resumed = fit(
        taken(config),
        tiny_checkpoint,
        out,
        settings,
        config=config,
        progress=lambda label, done, total: seen.append(done),
    )
    assert 8 in seen and 3 not in seen
    assert resumed.losses == whole.losses and resumed.stats == whole.stats
    assert weights(out) == weights(tmp_path / "whole")


@pytest.mark.slow
def test_another_task_in_the_same_folder_is_refused(tiny_checkpoint, tmp_path):
    from potstill.errors import StageError

    fit(
        pairs(),
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=1),
        config=ObjectiveConfig("redi"),
    )
    with pytest.raises(StageError, match="other rows or settings"):
        fit(
            pairs(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("redi", {"alpha": 0.5}),
        )


@pytest.mark.slow
def test_dora_trains_lengths_too_and_is_stored_merged(tiny_checkpoint, tmp_path):
    from safetensors.torch import load_file

    from potstill.training.settings import LoraSettings

    lora = LoraSettings(r=4, use_dora=True, save_adapter=True)
    fit(
        rows(),
        tiny_checkpoint,
        tmp_path / "dora",
        TrainingSettings(max_steps=2, learning_rate=1e-2, warmup_steps=0, lora=lora),
    )
    adapter = load_file(tmp_path / "dora" / "adapter" / "adapter_model.safetensors")
    assert any("magnitude" in name for name in adapter)
    plain = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).state_dict()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "dora").state_dict()
    assert plain.keys() == merged.keys()
    assert any(not torch.equal(plain[name], merged[name]) for name in plain)


@pytest.mark.slow
def test_stored_entries_outlive_their_teacher(tiny_checkpoint, tmp_path):
    import shutil

    entries = stored(tmp_path)
    shutil.rmtree(tmp_path / "teacher")
    done = fit(
        rows(),
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=1),
        config=ObjectiveConfig("forward_kl", teacher_cache=entries),
    )
    assert done.rows == 8
