"""Rows that lose their reasoning in a training: prompt and answer stay, the reasoning goes from the left."""

import json
import math
from dataclasses import replace

import pytest
from rolling import Stop, dataset_of, load, stop_at, traces, weights, window

from potstill.training.dataset.row_shortening import RowShortener
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import StudentTrainer

PLAN = {"steps_per_epoch": 10, "per_epoch": 10, "smoothing": math.inf}


def shortener(rows, template, settings=TrainingSettings(), **options):
    config = ObjectiveConfig("implicit_cot", options={**PLAN, **options})
    return RowShortener(rows, template, config, settings)


def texts(template, batch):
    parts = zip(
        batch["input_ids"].tolist(), batch["prompt_lengths"].tolist(), batch["lengths"].tolist()
    )
    return [template.tokenizer.decode(ids[p:n]) for ids, p, n in parts]


@pytest.fixture(scope="module")
def made(tiny_checkpoint):
    _, template = load(tiny_checkpoint)
    return template, shortener(traces(3), template)


def test_a_token_a_step_until_the_answer_alone_is_left(made):
    template, roll = made
    batches = window(template, traces(3), prompts=False)
    assert texts(template, roll(None, batches, When(0, 99))[0]) == texts(template, batches[0])
    before = batches[0]["lengths"]
    for step in (1, 2):
        (batch,) = roll(None, batches, When(step, 99))
        assert (before - batch["lengths"]).tolist() == [step] * 3
        assert batch["loss_weights"].sum() == batches[0]["loss_weights"].sum() - 3 * step
        for now, then in zip(texts(template, batch), texts(template, batches[0])):
            assert now.startswith("<think>") and then.endswith(now.removeprefix("<think>"))
    (batch,) = roll(None, batches, When(98, 99))
    assert texts(template, batch) == [
        f"<think></think>The answer is {i}.<|im_end|>" for i in range(3)
    ]
    assert (batch["prompt_lengths"] == batches[0]["prompt_lengths"]).all()


def test_without_tags_the_chain_ends_where_the_answer_is_marked(tiny_checkpoint):
    _, template = load(tiny_checkpoint)
    rows = [replace(trace, text="1 + 2 = 3. The answer is \\boxed{3}.") for trace in traces(2)]
    roll = shortener(rows, template)
    (batch,) = roll(None, window(template, rows, prompts=False), When(90, 99))
    assert all(text.lstrip().startswith("\\boxed{3}") for text in texts(template, batch))
    bare = [replace(trace, text="nothing is marked") for trace in traces(2)]
    roll = shortener(bare, template)
    batches = window(template, bare, prompts=False)
    assert texts(template, roll(None, batches, When(90, 99))[0]) == texts(template, batches[0])


def test_steps_of_the_reasoning_are_its_lines(tiny_checkpoint):
    _, template = load(tiny_checkpoint)
    text = "<think>So 12 - 2.\nThen 10.\n\nSo 10 it is.</think>The answer is 10."
    rows = [replace(traces(1)[0], text=text)]
    roll = shortener(rows, template, unit="steps")
    batches = window(template, rows, prompts=False)
    left = [texts(template, roll(None, batches, When(step, 99))[0])[0] for step in range(5)]
    kept = [
        "So 12 - 2.\nThen 10.\n\nSo 10 it is.",
        "Then 10.\n\nSo 10 it is.",
        "So 10 it is.",
        "",
        "",
    ]
    assert [one.replace("<think>", "").split("</think>")[0].strip("\n") for one in left] == kept


def counts_of_moments(start, folder, plan, **more):
    """How many steps the optimizer remembers after each step."""
    model, template = load(start)
    rows = traces(2)
    settings = TrainingSettings(
        max_steps=8, batch_size=2, learning_rate=1e-3, warmup_steps=0, threads=1, **more
    )
    made = prepare_objective(
        ObjectiveConfig("implicit_cot", options=plan),
        model,
        step_rows=shortener(rows, template, **plan),
    )
    loop = StudentTrainer(
        model,
        dataset_of(rows, template),
        settings,
        folder,
        None,
        objective_inputs=made,
    )
    parts, seen = getattr(loop.optimizer, "parts", [loop.optimizer]), []
    parts[-1].register_step_post_hook(
        lambda *_: seen.append({int(state["step"]) for state in parts[-1].state.values()})
    )
    forgotten = []
    parts[0].register_step_pre_hook(lambda *_: forgotten.append(not parts[0].state))
    loop.train()
    return [next(iter(one)) for one in seen if len(one) == 1], forgotten


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_the_optimizer_forgets_where_more_goes(tiny_checkpoint, tmp_path, kind):
    """As in the paper; the second plan takes hundredths, and takes them all at once: after that nothing goes."""
    plan = {"steps_per_epoch": 4, "per_epoch": 2, "smoothing": math.inf}
    steps, forgotten = counts_of_moments(tiny_checkpoint, tmp_path / "a", plan, optimizer=kind)
    assert steps == [1, 2] * 4 and forgotten == [True, False] * 4
    steps, forgotten = counts_of_moments(
        tiny_checkpoint, tmp_path / "b", {**plan, "reset_optimizer": False}, optimizer=kind
    )
    assert steps == [*range(1, 9)] and forgotten == [True] + [False] * 7
    steps, _ = counts_of_moments(
        tiny_checkpoint, tmp_path / "c", {**plan, "remove_all_after": 2}, optimizer=kind
    )
    assert steps == [1, 2, 1, 2, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_kill_between_two_resets_changes_nothing(tiny_checkpoint, tmp_path):
    """The checkpoint of step 6 has moments of two steps; of 12, where more would go, it knows that nothing is left."""
    config = ObjectiveConfig(
        "implicit_cot",
        options={
            "steps_per_epoch": 4,
            "per_epoch": 1,
            "remove_all_after": 2,
            "smoothing": math.inf,
        },
    )
    settings = TrainingSettings(
        max_steps=14, batch_size=3, learning_rate=3e-3, threads=1, save_steps=6
    )
    whole = fit(traces(6), tiny_checkpoint, tmp_path / "whole", settings, config=config)
    for step in (8, 13):
        with pytest.raises(Stop):
            fit(
                traces(6),
                tiny_checkpoint,
                tmp_path / "killed",
                settings,
                config=config,
                progress=stop_at(step),
            )
    assert (
        fit(traces(6), tiny_checkpoint, tmp_path / "killed", settings, config=config).losses
        == whole.losses
    )
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    kept = ObjectiveConfig("implicit_cot", options={**config.options, "reset_optimizer": False})
    other = fit(traces(6), tiny_checkpoint, tmp_path / "teacher_cache", settings, config=kept)
    assert (
        other.losses[:5] == whole.losses[:5] and other.losses[5] != whole.losses[5]
    )  # step 4 was made anew


@pytest.mark.slow
def test_in_a_training_fewer_tokens_count_from_step_to_step(tiny_checkpoint, tmp_path):
    """The constants are the stage's, the steps of an epoch the training's; a killed one goes on as it was."""
    config = ObjectiveConfig("implicit_cot", options={"per_epoch": 2, "smoothing": math.inf})
    settings = TrainingSettings(
        num_train_epochs=3, batch_size=3, learning_rate=1e-3, threads=1, save_steps=2
    )
    whole = fit(traces(6), tiny_checkpoint, tmp_path / "whole", settings, config=config)
    fit(traces(6), tiny_checkpoint, tmp_path / "plain", settings)
    ours, theirs = (
        [
            json.loads(line)["loss_tokens"]
            for line in (tmp_path / name / "steps.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "plain")
    )
    assert ours == [count - 3 * step for step, count in enumerate(theirs)]
    with pytest.raises(Stop):
        fit(
            traces(6),
            tiny_checkpoint,
            tmp_path / "killed",
            settings,
            config=config,
            progress=stop_at(3),
        )
    assert (
        fit(traces(6), tiny_checkpoint, tmp_path / "killed", settings, config=config).losses
        == whole.losses
    )
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
