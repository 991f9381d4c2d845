"""A teacher that only scores texts: the same training as with its weights, and a refusal where tokens don't match."""

from dataclasses import replace
from pathlib import Path

import pytest
from rolling import FIRST, dataset_of, load, rollouts, traces, weights, window

from potstill.errors import ModelError, StageError
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Completion
from potstill.models.scoring import Passage
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, bind
from potstill.training.objective_inputs import prepare_objective
from potstill.training.rollout import rewards
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.remote import RemoteTeacher
from potstill.world import build

HERE = Path(build.__file__).parent / "checkpoints"


class Behind:
    """What a server looks like: texts in, log-probabilities out, no weights."""

    id = "behind-a-wire"

    def __init__(self, path, spoil=None):
        self._local, self.asked, self._spoil = TransformersModel(path), [], spoil

    def write(self, requests):
        raise AssertionError("a teacher that scores is never asked to write")

    def likelihood(self, pairs):
        self.asked.extend(pairs)
        found = self._local.likelihood(pairs)
        return (
            [self._spoil(at, values) for at, values in enumerate(found)] if self._spoil else found
        )


@pytest.fixture(scope="module")
def stories():
    from potstill.records import Trace
    from potstill.world import story

    problems = story.problems("story", size=6, seed=1, split="train")
    return [Trace(p, p.question, text=p.solution, finish_reason="stop") for p in problems]


def test_scores_of_rows_are_the_teacher_s_own(stories):
    _, template = load(HERE / "student")
    teacher, _ = load(HERE / "teacher")
    rows = dataset_of(stories, template).rows
    wire = RemoteTeacher(Behind(HERE / "teacher"), stories, template)
    for mine, theirs in zip(wire(rows), rewards.score_rows(teacher, rows), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


class Failing(Behind):
    """Says which calls failed, as a model behind a store does."""

    def __init__(self, path, error):
        super().__init__(path)
        self._error = error

    def score(self, requests):
        return [Completion("", "", error=self._error) for _ in requests]


def test_a_teacher_that_fails_stops_the_training_and_a_long_text_does_not(stories):
    _, template = load(HERE / "student")
    rows = dataset_of(stories, template).rows
    failing = Failing(HERE / "teacher", "server: 500 until the deadline")
    with pytest.raises(StageError, match=r"(?s)failed on 6 of 6 texts.*--retry-errors") as stopped:
        RemoteTeacher(failing, stories, template)(rows)
    assert "server: 500" in str(stopped.value)
    long = Failing(HERE / "teacher", "context: 9000 tokens")
    assert RemoteTeacher(long, stories, template)(rows) == [[]] * len(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "rollout"), [("opd", 1.0), ("token_kl", 0.5)])
def test_a_training_by_scores_is_a_training_by_weights(stories, tmp_path, objective, rollout):
    settings = TrainingSettings(max_steps=4, batch_size=3, learning_rate=1e-4, threads=1)
    server = Behind(HERE / "teacher")
    config = ObjectiveConfig(
        objective, teacher=HERE / "teacher", on_policy_fraction=rollout, max_new_tokens=16
    )
    near = fit(stories, HERE / "student", tmp_path / "near", settings, config=config)
    far = fit(
        stories,
        HERE / "student",
        tmp_path / "far",
        settings,
        config=replace(config, teacher=server),
    )
    assert far.losses == pytest.approx(near.losses, rel=1e-3) and server.asked
    assert weights(tmp_path / "far") != weights(HERE / "student")


def test_tokens_that_a_server_cuts_otherwise_are_not_learnt(stories):
    student, template = load(HERE / "student")
    short = Behind(HERE / "teacher", spoil=lambda at, values: values[1:] if at == 1 else values)
    config = ObjectiveConfig("opd", teacher=short, on_policy_fraction=1.0, max_new_tokens=16)
    made = prepare_objective(
        config,
        student,
        step_rows=rollouts(template, config, stories),
        served_teacher=RemoteTeacher(short, stories, template),
    )
    (batch,) = made.step_batches(student, window(template, stories, 6), FIRST)
    assert batch["unscored"][:, 0].tolist() == [0, 1, 0, 0, 0, 0]
    assert (
        batch["loss_weights"].sum(1).tolist()[1] == 0
        and (batch["loss_weights"].sum(1) > 0).sum() == 5
    )
    assert float(made.normaliser_count(batch)) == float(batch["loss_weights"].sum())


def test_a_server_of_other_tokens_is_refused(stories):
    student, template = load(HERE / "student")
    never = Behind(HERE / "teacher", spoil=lambda at, values: [])
    wire = RemoteTeacher(never, stories, template)
    config = ObjectiveConfig("opd", teacher=never, on_policy_fraction=1.0, max_new_tokens=20)
    made = prepare_objective(
        config, student, step_rows=rollouts(template, config, stories), served_teacher=wire
    )
    with pytest.raises(StageError, match="for 6 of 6 rows: it cuts them into other tokens"):
        made.step_batches(student, window(template, stories, 6), FIRST)
    once = Behind(HERE / "teacher", spoil=lambda at, values: values if at else [])
    made = prepare_objective(
        ObjectiveConfig("token_kl", teacher=once),
        student,
        served_teacher=RemoteTeacher(once, stories, template),
    )
    with pytest.raises(StageError, match="for 1 of 6 rows"):
        made.with_reference_values(student, dataset_of(stories, template))


def test_text_that_is_cut_otherwise_again_is_not_asked_for(tiny_checkpoint):
    """Sampled tokens whose text the tokenizer would cut into others: no number could be put beside them."""
    _, template = load(tiny_checkpoint)
    server = Behind(tiny_checkpoint)
    wire = RemoteTeacher(server, traces(1), template)
    (row,) = dataset_of(traces(1), template).rows
    whole = template.tokenizer.encode("shells", add_special_tokens=False)
    apart = [
        token for c in "shells" for token in template.tokenizer.encode(c, add_special_tokens=False)
    ]
    assert len(whole) < len(apart)
    odd, fine = (
        TokenizedRow.of(
            0,
            [*row.prompt_ids, *ids],
            [0.0] * row.prompt_length + [1.0] * len(ids),
            row.prompt_length,
        )
        for ids in (apart, whole)
    )
    elsewhere = TokenizedRow.of(
        0, [5, *row.input_ids[1:]], row.loss_weights, row.prompt_length
    )  # the prompt is not the template's
    assert wire([odd, elsewhere]) == [[], []] and not server.asked
    assert len(wire([fine])[0]) == len(whole) and server.asked == [
        Passage(traces(1)[0].prompt, "shells")
    ]


def test_a_stage_takes_a_scoring_teacher_where_scores_are_enough(tmp_path):
    server = Behind(HERE / "teacher")
    assert bind("opd", {"teacher": server, "on_policy_fraction": 1.0}).config.teacher is server
    with pytest.raises(ModelError, match="no weights"):
        bind("jsd", {"teacher": server})
    assert (
        ObjectiveConfig("opd", teacher=server, on_policy_fraction=1.0).identity()["teacher"]
        == "behind-a-wire"
    )
