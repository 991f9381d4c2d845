"""Constants that move by what a training has seen, and are the same after a kill."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import pairs
from rolling import Stop, stop_at, weights
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import StageError
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.output_dir import WORK_FOLDER
from potstill.training.schedules import ConstantSchedules, When
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import STATE_FILE

SETTINGS = TrainingSettings(
    max_steps=6,
    batch_size=2,
    gradient_accumulation_steps=2,
    learning_rate=3e-3,
    warmup_steps=0,
    threads=1,
    save_steps=2,
    group_by_length=False,
)


def steps(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_distillm2_s_anchors_are_the_gaps_of_the_first_step_and_stay():
    moving = ConstantSchedules(ObjectiveConfig("distillm2", {"anchor": "first"}, teacher="t"))
    assert moving.constants(When(0, 4)) == {}
    for step, gap in enumerate((0.2, 0.3)):
        moving.advance(When(step, 4), {"loss": 1.0, "gap": gap, "gap_student": -gap})
        assert moving.constants(When(step + 1, 4)) == {"anchor": (0.2, -0.2)}
    again = ConstantSchedules(ObjectiveConfig("distillm2", {"anchor": "first"}, teacher="t"))
    again.restore(moving.state())
    assert again.constants(When(2, 4)) == moving.constants(When(2, 4))
    for other in ({}, {"anchor": 0.2}):
        still = ConstantSchedules(ObjectiveConfig("distillm2", other, teacher="t"))
        still.advance(When(0, 4), {"loss": 1.0})
        assert still.constants(When(1, 4)) == {} == still.state()
        with pytest.raises(StageError, match="another schedule"):
            still.restore(moving.state())


@pytest.mark.slow
def test_a_killed_training_keeps_the_anchors_of_its_first_step(tiny_checkpoint, tmp_path):
    teacher = make_checkpoint(tmp_path / "t", seed=1)
    config = ObjectiveConfig("distillm2", {"anchor": "first"}, teacher=teacher, max_new_tokens=8)
    whole = fit(pairs(), tiny_checkpoint, tmp_path / "whole", SETTINGS, config=config)
    with pytest.raises(Stop):
        fit(
            pairs(),
            tiny_checkpoint,
            tmp_path / "killed",
            SETTINGS,
            config=config,
            progress=stop_at(5),
        )
    first = steps(tmp_path / "whole")[0]
    live = torch.load(
        tmp_path / "killed" / WORK_FOLDER / "checkpoint-4" / STATE_FILE, weights_only=True
    )
    assert live["schedules"] == {"anchor": [first["gap"], first["gap_student"]]}
    again = fit(pairs(), tiny_checkpoint, tmp_path / "killed", SETTINGS, config=config)
    assert again.losses == whole.losses and again.stats == whole.stats
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    plain, given = (
        fit(
            pairs(),
            tiny_checkpoint,
            tmp_path / name,
            SETTINGS,
            config=ObjectiveConfig("distillm2", constants, teacher=teacher, max_new_tokens=8),
        )
        for name, constants in (("plain", {}), ("given", {"anchor": live["schedules"]["anchor"]}))
    )
    assert plain.losses[0] == whole.losses[0] and plain.losses != whole.losses
    assert given.losses[0] != whole.losses[0]
