"""TED in two stages: filters alone, stored beside an unmoved student; then the student, who begins with them."""

import dataclasses
import hashlib

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import rows
from rolling import Stop, stop_at
from safetensors.torch import load_file
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError, StageError
from potstill.training import distributed
from potstill.training.checkpoint import load_student
from potstill.training.fit import fit
from potstill.training.objective_config import PROJECTORS, ObjectiveConfig, bind
from potstill.training.objective_inputs import prepare_objective
from potstill.training.output_dir import WORK_FOLDER
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import STATE_FILE

SETTINGS = TrainingSettings(
    max_steps=12,
    batch_size=4,
    learning_rate=1e-3,
    warmup_steps=0,
    threads=1,
    save_steps=4,
    lr_scheduler_type="constant",
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Wider than the student, and deeper."""
    return make_checkpoint(
        tmp_path_factory.mktemp("ted") / "t", seed=1, hidden_size=48, num_hidden_layers=3
    )


@pytest.fixture(scope="module")
def first(tiny_checkpoint, teacher, tmp_path_factory):
    """The folder of the first stage, and its report."""
    folder = tmp_path_factory.mktemp("first") / "out"
    return folder, fit(
        rows(),
        tiny_checkpoint,
        folder,
        SETTINGS,
        config=ObjectiveConfig("ted_filters", teacher=teacher, max_new_tokens=8),
    )


@pytest.mark.slow
def test_the_first_stage_moves_filters_and_no_student(tiny_checkpoint, teacher, first):
    folder, done = first
    before, after = (
        load_file(tiny_checkpoint / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )
    for name in ("student_nll", "teacher_nll"):
        start, end = done.stats[name]
        assert end < 0.98 * start
    fresh = prepare_objective(
        ObjectiveConfig("ted", teacher=teacher, max_new_tokens=8),
        load_student(tiny_checkpoint, SETTINGS),
    ).projectors.state()
    kept = load_file(folder / PROJECTORS)
    assert kept.keys() == fresh.keys() and not any(
        torch.equal(kept[name], fresh[name]) for name in kept
    )


@pytest.mark.slow
def test_a_killed_first_stage_ends_with_the_same_filters(tiny_checkpoint, teacher, first, tmp_path):
    config = ObjectiveConfig("ted_filters", teacher=teacher, max_new_tokens=8)
    with pytest.raises(Stop):
        fit(rows(), tiny_checkpoint, tmp_path / "out", SETTINGS, config=config, progress=stop_at(7))
    assert (
        fit(rows(), tiny_checkpoint, tmp_path / "out", SETTINGS, config=config).losses
        == first[1].losses
    )
    ends = [
        hashlib.sha256((folder / PROJECTORS).read_bytes()).digest()
        for folder in (tmp_path / "out", first[0])
    ]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_the_second_begins_with_them_and_leaves_the_teacher_s(
    tiny_checkpoint, teacher, first, tmp_path
):
    kept = load_file(first[0] / PROJECTORS)
    config = bind("ted", {"teacher": teacher, "filters": str(first[0]), "max_new_tokens": 8}).config
    assert config == ObjectiveConfig(
        "ted", teacher=teacher, options={"filters": first[0]}, max_new_tokens=8
    )
    start = prepare_objective(config, load_student(tiny_checkpoint, SETTINGS)).projectors.state()
    assert all(torch.equal(kept[name], start[name]) for name in kept)
    short = dataclasses.replace(SETTINGS, max_steps=6)
    with pytest.raises(Stop):
        fit(rows(), tiny_checkpoint, tmp_path / "out", short, config=config, progress=stop_at(5))
    end = torch.load(
        tmp_path / "out" / WORK_FOLDER / "checkpoint-4" / STATE_FILE, weights_only=True
    )["projectors"]
    for name in kept:
        assert torch.equal(kept[name], end[name]) == name.startswith("teacher")
    done = fit(rows(), tiny_checkpoint, tmp_path / "out", short, config=config)
    plain = fit(
        rows(),
        tiny_checkpoint,
        tmp_path / "plain",
        short,
        config=ObjectiveConfig("ted", teacher=teacher, max_new_tokens=8),
    )
    assert done.losses[0] != plain.losses[0] and done.key != plain.key
    assert not (tmp_path / "out" / PROJECTORS).exists()


@pytest.mark.slow
def test_what_does_not_fit_is_refused(tiny_checkpoint, teacher, first, tmp_path):
    student = load_student(tiny_checkpoint, SETTINGS)
    with pytest.raises(StageError, match="other layers or widths"):
        prepare_objective(
            ObjectiveConfig(
                "ted", teacher=teacher, options={"filters": first[0], "layers": 1}, max_new_tokens=8
            ),
            student,
        )
    with pytest.raises(ConfigError, match="no trained projections in"):
        ObjectiveConfig(
            "ted", teacher=teacher, options={"filters": tmp_path}, max_new_tokens=8
        ).identity()
    with pytest.raises(StageError, match="trains no student"):
        distributed.check_supported(
            ObjectiveConfig("ted_filters", teacher=teacher, max_new_tokens=8), 2
        )
