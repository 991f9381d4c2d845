"""What only a whole step knows: KTO's kl and MiniLLM's returns, the same however the step is cut; guided KDRL."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import pairs
from learning_rows import rows as learnt
from rolling import FIRST, load, rollouts, traces, window
from tiny import tiny_checkpoint as made_tiny

from potstill.errors import ConfigError, StageError
from potstill.objectives.policy import whitened
from potstill.training.dataset import batching
from potstill.training.dataset.build import build_dataset
from potstill.training.dataset.training_dataset import TokenizedRow, TrainingDataset
from potstill.training.fit import fit
from potstill.training.logprobs import batch_log_probs, build_inputs
from potstill.training.metrics import rollout_statistics
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.rollout import step_statistics
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import batch_loss


def row(prompt, completion):
    ids = (*prompt, *completion)
    return TokenizedRow.of(0, ids, (0.0,) * len(prompt) + (1.0,) * len(completion), len(prompt))


def test_a_prompt_gets_the_next_other_prompts_completion():
    a, b, c = row([1, 2], [3]), row([1, 2], [4, 5]), row([6], [7, 8, 9])
    crossed = mismatched([(a,), (b,), (c,)])
    # cut to the longer of the two rows
    assert [made.input_ids.tolist() for made in crossed] == [[1, 2, 7, 8], [1, 2, 7, 8], [6, 3]]
    [alone] = mismatched([(a,)])
    assert not alone.is_learnt.any()
    crossed = mismatched([(a, b), (c, row([6], [0]))])
    assert [made.input_ids.tolist() for made in crossed[:2]] == [[1, 2, 7, 8], [1, 2, 0]], (
        "sides stay sides"
    )
    assert [made.loss_weights.tolist() for made in crossed[2:]] == [[0, 1], [0, 1, 1]]


def mismatched(items):
    return step_statistics.mismatched_rows(TrainingDataset.from_items(items))


def kto(folder, reference=None):
    """A config of KTO ready: the student, its dataset."""
    start = made_tiny(folder / "student", seed=0)
    model, template = load(start)
    config = ObjectiveConfig("kto", reference=reference)
    made = prepare_objective(config, model)
    dataset = build_dataset(pairs(), template, start, TrainingSettings(), config)
    return model, made, made.with_reference_values(model, dataset), dataset


@pytest.mark.slow
def test_kl_is_the_mean_over_mismatched_rows_of_the_whole_step(tmp_path):
    other = made_tiny(tmp_path / "other", seed=2)
    model, made, ready, rows = kto(tmp_path, other)
    ratios = []
    for crossed in step_statistics.mismatched_rows(rows):
        alone = batching.collate_rows([crossed])
        ratios.append(
            float((batch_log_probs(model, alone) - batch_log_probs(load(other)[0], alone)).sum())
        )
    wanted = sum(ratios) / len(ratios)
    kls = {
        size: made.step_batches(
            model, [batching.collate(ready[at : at + size]) for at in range(0, 8, size)], FIRST
        )
        for size in (8, 4, 2)
    }
    for batches in kls.values():
        assert [float(b["kl"]) for b in batches] == pytest.approx(
            [max(0.0, wanted)] * len(batches), abs=1e-4
        )
    swapped = step_statistics.with_mismatched_kl(
        [batching.collate(ready)], lambda batch: batch["reference"] - batch["loss_weights"]
    )
    assert float(swapped[0]["kl"]) == 0.0  # clamped
    raised = step_statistics.with_mismatched_kl(
        [batching.collate(ready)], lambda batch: batch["reference"] + batch["loss_weights"]
    )
    counted = [int(one.is_learnt.sum()) for one in step_statistics.mismatched_rows(rows)]
    assert float(raised[0]["kl"]) == pytest.approx(sum(counted) / len(counted), rel=1e-5)
    assert max(abs(ratio) for ratio in ratios) > 0.01


def test_kto_learns_with_that_kl(tmp_path):
    model, made, ready, _ = kto(tmp_path)
    [batch] = made.step_batches(model, [batching.collate(ready)], FIRST)
    assert float(batch["kl"]) == pytest.approx(0.0, abs=1e-4)  # the reference is the student still
    x = build_inputs(model, {**batch, "kl": torch.tensor(2.0)}, needs=made.needs, normaliser=1.0)
    found = made.loss(x)
    assert float(found.stats["kl"].total) == 2.0
    s = 1 / (
        1 + math.exp(-0.2)
    )  # all log-ratios are 0: s(beta kl) for good ones, 1 - s(beta kl) for bad ones
    assert found.values_N.sum().item() == pytest.approx(8 * s + 8 * (1 - s), abs=1e-4)


def test_minillms_returns_are_whitened_over_the_step(tmp_path):
    """One step, cut in one, two and three: the same gradient."""
    model, template = load(made_tiny(tmp_path / "student", seed=0))
    config = ObjectiveConfig("minillm", teacher=made_tiny(tmp_path / "teacher", seed=1))
    made = prepare_objective(config, model)
    slopes = []
    for size in (6, 3, 2):
        batches = made.step_batches(model, window(template, traces(), size, prompts=False), FIRST)
        told = torch.cat([b["advantages"][:, 1:][b["loss_weights"][:, 1:] > 0] for b in batches])
        assert float(told.mean()) == pytest.approx(0, abs=1e-5) and float(
            told.std()
        ) == pytest.approx(1, abs=1e-5)
        model.zero_grad()
        for batch in batches:
            batch_loss(model, batch, sum(float(made.normaliser_count(b)) for b in batches), made)[
                0
            ].backward()
        slopes.append(model.get_input_embeddings().weight.grad.clone())
    assert slopes[0].abs().max() > 1e-4
    rolled = [{**batch, "stopped": torch.ones_like(batch["loss_weights"])} for batch in batches]
    assert "even" not in rollout_statistics(rolled)  # whitened returns are no rewards of a group
    for slope in slopes[1:]:
        assert torch.allclose(slope, slopes[0], atol=1e-6 + 1e-4 * float(slopes[0].abs().max()))
    assert whitened(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([-1, 0, 1])


def test_guided_kdrl_pulls_only_what_is_wrong(tmp_path):
    """Right is what the verifier says, or where it wasn't asked what is rewarded."""
    model, template = load(made_tiny(tmp_path / "student", seed=0))
    teacher = made_tiny(tmp_path / "teacher", seed=1)
    for reward, wanted in ((_always, 0.0), (_never, None)):
        config = ObjectiveConfig(
            "kdrl",
            {"guided": True, "beta": 1.0},
            teacher,
            on_policy_fraction=1,
            num_generations=2,
            max_new_tokens=5,
            reward=reward,
        )
        made = prepare_objective(config, model, step_rows=rollouts(template, config, traces()))
        [batch, *_] = made.step_batches(model, window(template, traces()), FIRST)
        pull = batch_loss(model, batch, 1.0, made)[1].stats["pull"]
        assert float(pull.total) == 0.0 if wanted == 0.0 else float(pull.total) > 0.1
    asked = ObjectiveConfig(
        "kdrl", {"guided": True}, teacher, on_policy_fraction=1, num_generations=2, max_new_tokens=5
    )
    [batch, *_] = prepare_objective(
        asked, model, step_rows=rollouts(template, asked, traces())
    ).step_batches(model, window(template, traces()), FIRST)
    assert batch["right"].tolist() == batch["reward"].tolist()


def _always(problem, text):
    return 1.0


def _never(problem, text):
    return 0.0


def test_labels_are_of_rows():
    with pytest.raises(ConfigError, match="pairs are rows"):
        ObjectiveConfig("kto", on_policy_fraction=1)


@pytest.mark.slow
def test_kto_of_single_labelled_completions(tiny_checkpoint, tmp_path):
    """Labels, or verdicts, say which are right; without either they are refused."""
    labels = [bool(i % 3) for i in range(8)]
    told = [
        row.annotate(scores={"label": float(label)})
        for row, label in zip(learnt(), labels, strict=True)
    ]
    model, template = load(tiny_checkpoint)
    made = build_dataset(
        told, template, tiny_checkpoint, TrainingSettings(), ObjectiveConfig("kto")
    )
    batch = batching.collate_rows(made.rows)
    assert build_inputs(model, batch, needs=("labels",)).labels_S.tolist() == labels
    out = fit(
        told,
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=6, learning_rate=1e-2, warmup_steps=0),
        config=ObjectiveConfig("kto"),
    )
    assert out.losses[-1] < out.losses[0] and out.stats["better"][1] > out.stats["worse"][1]
    with pytest.raises(StageError, match="8 of 8 rows are neither labelled nor judged"):
        fit(
            learnt(),
            tiny_checkpoint,
            tmp_path / "none",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("kto"),
        )
