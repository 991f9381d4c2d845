"""What is watched: by hand on small numbers, in a training, and what stops one."""

import json
import re

import pytest
from rolling import Stop, torch, traces, vowels, weights
from safetensors.torch import load_file
from tiny import tiny_checkpoint as make_checkpoint
from transformers import TrainerCallback

from potstill.errors import ConfigError, StageError
from potstill.objectives.inputs import Inputs, Logits, Loss, TopK
from potstill.objectives.truncated import top_k
from potstill.training import eval_callback, metrics, trainer
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("teacher") / "qwen3", seed=7)


def steps(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_entropy_divergences_and_top_tokens_by_hand(monkeypatch):
    monkeypatch.setattr(metrics, "TEACHER_BEST", 2)
    torch.manual_seed(0)
    z, zt = torch.randn(300, 7, dtype=torch.float64), torch.randn(300, 7, dtype=torch.float64)
    values = torch.rand(300, dtype=torch.float64)
    values[17] = 50.0
    x = Inputs(z, torch.nn.Identity(), torch.zeros(300, dtype=torch.long), teacher=Logits(zt))
    made = metrics.position_statistics(x, Loss(values), "own")
    at = torch.linspace(0, 299, 64).round().long()
    q, p = z[at].softmax(-1), zt[at].softmax(-1)
    wanted = {
        "entropy": -(q * q.log()).sum(-1),
        "own_forward_kl": (p * (p / q).log()).sum(-1),
        "own_reverse_kl": (q * (q / p).log()).sum(-1),
        "own_overlap": q.gather(1, p.topk(2).indices).sum(-1),
    }
    for name, value in wanted.items():
        assert float(made[name].total / made[name].count) == pytest.approx(
            float(value.mean()), rel=1e-5
        )
        assert int(made[name].count) == 64
    top = values.sort(descending=True).values[:3].sum() / values.sum()
    assert float(made["top_share"].total / made["top_share"].count) == pytest.approx(float(top))
    kept = metrics.position_statistics(
        Inputs(z, x.head, x.targets_N, teacher=top_k(zt, 7)), Loss(values), "rows"
    )
    assert isinstance(top_k(zt, 7), TopK)
    assert float(kept["rows_forward_kl"].total) == pytest.approx(
        float(made["own_forward_kl"].total), rel=1e-4
    )
    assert float(kept["rows_overlap"].total) == pytest.approx(float(made["own_overlap"].total))
    padded = torch.cat(
        [zt, torch.full((300, 2), 9.0)], 1
    )  # two tokens that only the teacher's head has, its best
    wide = metrics.position_statistics(
        Inputs(z, x.head, x.targets_N, teacher=Logits(padded)), Loss(values), "own"
    )
    assert float(wide["own_overlap"].total) == 0 and float(wide["own_forward_kl"].total) > 0


@pytest.mark.parametrize(
    ("ids", "share"),
    [([1, 2, 3], 0), ([1, 2, 3, 4, 5], 0), ([1, 2, 3, 4] * 2, 1 / 5), ([7] * 8, 4 / 5)],
)
def test_runs_that_stood_there_before(ids, share):
    assert metrics.repetition(ids) == pytest.approx(share)


def test_nothing_counted_is_nothing_measured():
    assert (
        metrics.position_statistics(
            Inputs(torch.zeros(0, 3), torch.nn.Identity(), torch.zeros(0).long()),
            Loss(torch.zeros(0)),
            "rows",
        )
        == {}
    )


def history(count, **ends):
    """Records whose values go in a line from one end to the other."""
    share = [at / (count - 1) for at in range(count)]
    return [
        {name: a + (b - a) * s for name, (a, b) in ends.items()} | {"loss_tokens": 1} for s in share
    ]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (
            {"entropy": (2.0, 0.0), "loss": (1.0, 3.0)},
            "",
        ),  # falls slowly: the last twenty still have some
        ({"better": (-1.0, -4.0), "worse": (-2.0, -6.0)}, "both sides of the pairs fall"),
        ({"better": (-1.0, -0.5), "worse": (-2.0, -6.0)}, ""),
        ({"better": (-1.0, -1.2), "worse": (-2.0, -2.3)}, ""),
    ],
)
def test_lines_that_end_a_training(ends, said):
    assert re.match(said or "$", metrics.find_alarm(history(200, **ends)))


def test_a_collapse_is_low_entropy_with_a_risen_loss():
    def made(entropy, loss, **more):
        return [{"entropy": 2.0, "loss": 1.0} | more] * 20 + [
            {"entropy": entropy, "loss": loss} | more
        ] * 20

    assert "entropy has fallen from 2 to 0.01 while loss rose from 1 to 3" in metrics.find_alarm(
        made(0.01, 3.0)
    )
    assert metrics.find_alarm(made(0.01, 0.5)) == ""  # it has learnt
    assert metrics.find_alarm(made(1.0, 3.0)) == ""
    assert (
        metrics.find_alarm(made(0.01, 3.0, k1=0.1)) == ""
    )  # a surrogate's value says nothing, its divergence is steady
    assert metrics.find_alarm(made(0.01, 3.0)[:39]) == ""


def test_answers_that_are_gone():
    looked = [{"eval_answered": share} for share in (0.8, 0.6, 0.9, 0.0, 0.0)]
    assert metrics.find_alarm(looked) == ""  # two looks may be bad luck
    assert "no text holds an answer" in metrics.find_alarm([*looked, {"eval_answered": 0.0}])
    assert (
        metrics.find_alarm([{"eval_answered": share} for share in (0.9, 0.2, 0.9, 0, 0, 0)]) == ""
    )  # it never surely could
    step = [{"answered": 0.9}] * 20 + [{"answered": 0.0}] * 20
    assert "answered has fallen" in metrics.find_alarm(step) and metrics.find_alarm(step[:-1]) == ""


@pytest.mark.slow
def test_a_training_that_goes_nan_leaves_its_batch_behind(tiny_checkpoint, tmp_path):
    wild = TrainingSettings(
        num_train_epochs=40,
        learning_rate=1e30,
        max_grad_norm=0,
        lr_scheduler_type="constant",
        warmup_steps=0,
        batch_size=3,
    )
    with pytest.raises(StageError, match=r"at step [23] of 80") as error:
        fit(traces(), tiny_checkpoint, tmp_path / "out", wild)
    (folder,) = (tmp_path / "out" / "training").glob("stopped-*")
    assert str(folder) in error.value.fix
    tensors, told = (
        load_file(folder / "batch.safetensors"),
        json.loads((folder / "batch.json").read_text()),
    )
    assert tensors["0/input_ids"].shape[0] == 3 == len(told["rows"])
    assert (
        "The answer is" in told["rows"][0]["completion"] and "shells" in told["rows"][0]["prompt"]
    )
    assert not (tmp_path / "out" / "fit.json").exists()


@pytest.mark.slow
def test_a_collapse_stops_with_the_step(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(
        metrics, "find_alarm", lambda records: "it snows" if len(records) == 3 else ""
    )
    with pytest.raises(StageError, match="it snows at step 3 of 8"):
        fit(
            traces(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=8, batch_size=2)
        )
    assert (tmp_path / "out" / "training" / "stopped-3" / "batch.json").is_file()


@pytest.mark.slow
def test_steps_are_stored_with_what_was_seen(tiny_checkpoint, teacher, tmp_path):
    config = ObjectiveConfig(
        "jsd", teacher=teacher, on_policy_fraction=0.5, max_new_tokens=8, eval_steps=2, eval_rows=2
    )
    done = fit(
        traces(8),
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=6, batch_size=3),
        config=config,
    )
    records = steps(tmp_path / "out")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6] and done.rows == 6
    for record in records:
        wrote = "length" in record
        assert ("own_reverse_kl" in record) == wrote and ("rows_reverse_kl" in record) != wrote
        assert (
            ("truncated" in record) == wrote == ("repeated" in record) == ("own_overlap" in record)
        )
        assert "entropy" in record and 0 < record["top_share"] <= 1
    assert 0 < sum("length" in record for record in records) < 6
    looked = [record["step"] for record in records if "eval_gap" in record]
    assert looked == [1, 3, 5, 6]  # before the steps 1, 3, 5, and at the end
    look = records[0]
    assert look["eval_gap"] == pytest.approx(
        look["eval_own_reverse_kl"] - look["eval_rows_reverse_kl"]
    )
    assert {
        "eval_right",
        "eval_answered",
        "eval_length",
        "eval_truncated",
        "eval_rows_nll",
    } <= set(look)
    assert {"eval_own_teacher_entropy", "eval_rows_forward_kl"} <= set(look)


@pytest.mark.slow
def test_a_teacher_that_is_the_student_is_no_distance_away(tiny_checkpoint, tmp_path):
    config = ObjectiveConfig("forward_kl", teacher=tiny_checkpoint, max_new_tokens=6)
    fit(
        traces(),
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=1, learning_rate=1e-9),
        config=config,
    )
    (record,) = steps(tmp_path / "out")
    for name in ("rows_forward_kl", "eval_own_reverse_kl", "eval_rows_forward_kl", "eval_gap"):
        assert record[name] == pytest.approx(0, abs=1e-4)
    assert record["eval_own_entropy"] == pytest.approx(record["eval_own_teacher_entropy"], rel=1e-4)


@pytest.mark.slow
def test_looking_changes_nothing(tiny_checkpoint, teacher, tmp_path):
    for name, every in (("often", 1), ("never", 1000)):
        config = ObjectiveConfig(
            "opd", teacher=teacher, on_policy_fraction=1.0, max_new_tokens=6, eval_steps=every
        )
        fit(
            traces(),
            tiny_checkpoint,
            tmp_path / name,
            TrainingSettings(max_steps=4, batch_size=3, threads=1),
            config=config,
        )
    assert weights(tmp_path / "often") == weights(tmp_path / "never")


@pytest.mark.slow
def test_plain_supervised_training_is_not_looked_at(tiny_checkpoint, tmp_path):
    fit(traces(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=2))
    assert not [
        name
        for record in steps(tmp_path / "out")
        for name in record
        if name.startswith("eval_steps")
    ]


@pytest.mark.slow
def test_rewards_are_told(tiny_checkpoint, tmp_path):
    config = ObjectiveConfig(
        "grpo", on_policy_fraction=1.0, num_generations=2, max_new_tokens=6, reward=vowels
    )
    done = fit(
        traces(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=2), config=config
    )
    assert {"reward", "even", "length", "truncated", "clipped", "eval_right"} <= set(done.stats)


def test_which_rows_are_watched():
    rows = list(range(20))
    held = eval_callback.split_eval_rows(_dataset(rows), 5)
    assert [row.trace_index for row in held.eval_rows] == [0, 5, 10, 14, 19]
    assert sorted(row.trace_index for row in [*held.train.item_rows, *held.eval_rows]) == rows
    few = eval_callback.split_eval_rows(_dataset(rows), 0)
    assert len(few.train) == 20 and len(few.eval_rows) == 8
    assert (
        len(eval_callback.split_eval_rows(_dataset((0, 1)), 9).train) == 1
    )  # something is left to learn from


def _row(index):
    from potstill.training.dataset.training_dataset import TokenizedRow

    return TokenizedRow.of(index, (1, 2), (0.0, 1.0), 1)


def _dataset(indices):
    from potstill.training.dataset.training_dataset import TrainingDataset

    return TrainingDataset.from_items([(_row(index),) for index in indices])


def test_records_go_to_who_reports(tiny_checkpoint, tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(
        traces(),
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=3, report_to="tensorboard"),
    )
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    seen = EventAccumulator(str(folder))
    seen.Reload()
    assert [point.step for point in seen.Scalars("train/loss")] == [1, 2, 3]


@pytest.mark.slow
def test_a_resumed_training_reports_each_step_once(tiny_checkpoint, tmp_path, monkeypatch):
    """After a kill at step 5 it goes on from the checkpoint of step 4: no record of a step before that comes again."""
    seen = []

    class Reporter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **more):
            if "loss" in logs:  # the Trainer tells its own summary at the end
                seen.append((state.global_step, logs["loss"]))

    def stop(label, done, total):
        if done == 5:
            raise Stop

    monkeypatch.setattr(trainer, "find_spec", lambda name: True)
    monkeypatch.setattr(
        "transformers.trainer.get_reporting_integration_callbacks", lambda names: [Reporter]
    )
    settings = TrainingSettings(max_steps=8, batch_size=2, save_steps=2, report_to="trackio")
    with pytest.raises(Stop):
        fit(traces(), tiny_checkpoint, tmp_path / "out", settings, progress=stop)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5]
    first, seen[:] = dict(seen), []
    done = fit(traces(), tiny_checkpoint, tmp_path / "out", settings)
    assert [step for step, _ in seen] == [5, 6, 7, 8]  # the fifth was made again
    assert [loss for _, loss in seen] == list(done.losses[4:]) and first[5] == seen[0][1]


def test_a_reporter_that_there_is_not(tiny_checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="report_to"):
        TrainingSettings(report_to="carrier pigeon")
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    with pytest.raises(StageError, match="trackio is not installed"):
        fit(
            traces(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(max_steps=1, report_to="trackio"),
        )
