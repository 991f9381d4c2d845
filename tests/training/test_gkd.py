"""GKD whole: the teacher writes the rows (TRL's `seq_kd`), the student a share of the steps, and both are compared."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from rolling import load, rollouts, traces, window
from tiny import tiny_checkpoint as make_checkpoint

from potstill.models.local.transformers import TransformersModel
from potstill.records import Stage, Trace
from potstill.traces import keep, ok, sample
from potstill.training.dataset import batching
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, bind
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings


def gkd(problems, teacher, student, *, on_policy_fraction=0.5):
    """A method: `seq_kd=True` is `sample(teacher, ...)`, False the data set's own solutions as rows."""
    chains = keep(ok, sample(teacher, problems, max_new_tokens=60, temperature=1.0))
    yield Stage(
        student, chains, "jsd", beta=0.5, teacher=teacher, on_policy_fraction=on_policy_fraction
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A teacher that has learnt to end what it writes, in words that are not the data set's."""
    folder = tmp_path_factory.mktemp("gkd")
    rows = [replace(row, text=f"It is {row.problem.answer}.") for row in traces(6)]
    start = make_checkpoint(folder / "start", seed=1)
    fit(
        rows,
        start,
        folder / "teacher",
        TrainingSettings(max_steps=60, batch_size=6, learning_rate=1e-2, threads=1),
    )
    return folder / "teacher"


@pytest.mark.slow
def test_rows_are_the_teacher_s_samples_and_the_rest_is_the_student_s(
    taught, tiny_checkpoint, tmp_path
):
    teacher, student = (
        TransformersModel(taught, threads=1),
        TransformersModel(tiny_checkpoint, threads=1),
    )
    [stage] = gkd([Trace(row.problem, row.prompt) for row in traces(6)], teacher, student)
    assert stage.rows and {row.author.model for row in stage.rows} == {teacher.id}
    texts = {row.text for row in stage.rows}
    assert texts.isdisjoint(row.text for row in traces(6))  # not the data set's
    config, _ = bind(stage.objective, {**stage.constants, "max_new_tokens": 8})
    assert config == ObjectiveConfig(
        "jsd", {"beta": 0.5}, teacher=taught, on_policy_fraction=0.5, max_new_tokens=8
    )
    model, template = load(tiny_checkpoint)
    roll = rollouts(template, config, stage.rows)
    planned = window(template, stage.rows, prompts=False)
    kinds = []
    for step in range(12):
        made = roll(model, planned, When(step, 12))
        written = {
            roll.text(row.completion_ids) for batch in made for row in batching.rows_of(batch)
        }
        kinds.append(roll._source(When(step, 12)))
        assert written == texts if kinds[-1] == "rows" else written.isdisjoint(texts)
    assert set(kinds) == {"rows", "fresh"}
    settings = TrainingSettings(max_steps=4, batch_size=3, learning_rate=1e-3, threads=1)
    done = fit(stage.rows, tiny_checkpoint, tmp_path / "out", settings, config=config)
    assert done.stats["jsd"][0] > 0
