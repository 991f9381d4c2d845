"""The line a step that a training writes while it lasts, and when its checkpoints are due."""

import json
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import rows

from potstill.training.fit import fit
from potstill.training.settings import TrainingSettings
from potstill.training.step_log import StepLog
from potstill.training.trainer import _ProgressAndSaving


class Stop(Exception):
    pass


def record(step: int) -> dict:
    return {"step": step, "loss": 1 / step, "margin": 0.5, "ahead": float("nan"), "seconds": 0.1}


@pytest.mark.parametrize("behind", ["", '{"step": 4, "lo', "[]\n", "\x00\n"])
def test_a_resumed_file_is_cut_to_the_checkpoints_step_and_keeps_its_lines(tmp_path, behind):
    log = StepLog(tmp_path / "training" / "steps.jsonl")
    assert log.begin([]) == []
    for step in (1, 2, 3):
        log.append(record(step))
    whole = log.path.read_text().splitlines(keepends=True)
    log.path.write_text("".join(whole) + behind)

    # A checkpoint sorts the names.
    of_checkpoint = [json.loads(json.dumps(record(step), sort_keys=True)) for step in (1, 2)]
    restored = log.begin(of_checkpoint)
    assert log.path.read_text() == "".join(whole[:2])
    assert [list(one) for one in restored] == [list(record(1))] * 2


@pytest.mark.parametrize("content", [None, "", '{"step": 1, "loss": 7}\n', "nonsense\n"])
def test_where_the_file_does_not_agree_the_checkpoint_counts(tmp_path, content):
    log = StepLog(tmp_path / "steps.jsonl")
    if content is not None:
        log.path.write_text(content)
    log.begin([{"step": 1, "loss": 2.0}])
    assert log.path.read_text() == '{"step": 1, "loss": 2.0}\n'


def saved_steps(seconds_a_step: float, step_count: int = 12, **settings: float) -> list[int]:
    """After which steps a checkpoint is written, which takes 30 seconds."""
    clock = [0.0]
    callback = _ProgressAndSaving(
        TrainingSettings(**settings), step_count, None, now=lambda: clock[0]
    )
    control, saved = SimpleNamespace(), []
    clock[0] += 1000.0  # until the models are loaded
    callback.on_train_begin(None, None, control)
    for step in range(1, step_count + 1):
        clock[0] += seconds_a_step
        callback.on_step_end(None, SimpleNamespace(global_step=step), control)
        if control.should_save:
            clock[0] += 30.0
            callback.on_save(None, None, control)
            saved.append(step)
    return saved


def test_checkpoints_are_never_further_apart_than_they_may_be():
    assert saved_steps(1.0) == []
    assert saved_steps(100.0, save_minutes=5) == [3, 6, 9]
    assert saved_steps(400.0, 4, save_minutes=5) == [1, 2, 3]  # and none after the last step
    assert saved_steps(100.0, save_minutes=5, save_steps=2) == [2, 4, 6, 8, 10]
    assert saved_steps(100.0, save_minutes=5, save_steps=5) == [3, 5, 8, 10]
    assert saved_steps(1e4, save_minutes=0) == []
    assert saved_steps(1e4, save_minutes=5, save_steps=0) == []


def test_how_often_a_checkpoint_is_written_decides_nothing():
    often = TrainingSettings(save_minutes=0.1)
    assert often.to_json() == TrainingSettings().to_json()
    assert often.identity() == TrainingSettings().identity()


@pytest.mark.slow
def test_a_killed_trainings_file_goes_on_as_if_nothing_had_been(tiny_checkpoint, tmp_path):
    """Checkpoints after every step, since each is later than allowed; killed twice."""
    settings = TrainingSettings(max_steps=6, batch_size=4, threads=1, save_minutes=1e-9)
    shown: list[list[str]] = []

    def stop_at(step: int, out):
        def progress(label: str, done: int, total: int) -> None:
            shown.append((out / "training" / "steps.jsonl").read_text().splitlines())
            assert len(shown[-1]) == done
            if done == step:
                raise Stop

        return progress

    whole = fit(rows(), tiny_checkpoint, tmp_path / "whole", settings)
    out = tmp_path / "killed"
    for step in (2, 4):
        with pytest.raises(Stop):
            fit(rows(), tiny_checkpoint, out, settings, progress=stop_at(step, out))
    resumed = fit(rows(), tiny_checkpoint, out, settings)
    assert [len(lines) for lines in shown] == [0, 1, 2, 2, 3, 4]
    assert resumed.losses == whole.losses

    def lines_but_seconds(folder):
        lines = []
        for line in (folder / "steps.jsonl").read_text().splitlines():
            values = json.loads(line)
            del values["seconds"]
            lines.append(json.dumps(values))
        return lines

    assert lines_but_seconds(out) == lines_but_seconds(tmp_path / "whole")
    assert not (out / "training").exists()
