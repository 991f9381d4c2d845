"""A teacher of distributions behind a server: the loss of its weights where k covers, and never above it elsewhere."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from rolling import FIRST, dataset_of, load, rollouts, traces, window
from served_teacher import ServedTokens
from tiny import tiny_checkpoint as make_checkpoint

from potstill import objectives
from potstill.errors import ConfigError, StageError
from potstill.models.model import Completion
from potstill.records import Tokens
from potstill.training.dataset import batching
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, bind
from potstill.training.objective_inputs import ObjectiveInputs, prepare_objective
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.token_teacher import make_token_teacher
from potstill.training.teacher.tokenizer_check import check_served_tokens
from potstill.training.trainer import batch_loss
from potstill.world import build

HERE = Path(build.__file__).parent / "checkpoints"
WHOLE = 1000  # entries: more than the vocabulary has
DISTANCES = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd")


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("teacher"), seed=7)


@pytest.fixture(scope="module")
def served(teacher_path: Path) -> ServedTokens:
    return ServedTokens(teacher_path)


@pytest.fixture(scope="module")
def student(tiny_checkpoint: Path) -> tuple[Any, ChatTemplate]:
    return load(tiny_checkpoint)


def prepared(student: tuple[Any, ChatTemplate], config: ObjectiveConfig) -> ObjectiveInputs:
    """A config's inputs, for the rows or what the student writes."""
    model, template = student
    served_teacher, step_rows = None, None
    if config.is_teacher_served:
        served_teacher = make_token_teacher(config, template, config.teacher)
    if config.writes_rows:
        step_rows = rollouts(template, config, traces())
    return prepare_objective(config, model, served_teacher=served_teacher, step_rows=step_rows)


def loss_on_rows(
    student: tuple[Any, ChatTemplate], inputs: ObjectiveInputs, objective: str, **constants: Any
) -> tuple[float, torch.Tensor]:
    """The mean loss of the rows by an objective, and the gradient of the head."""
    model, template = student
    dataset = inputs.with_reference_values(model, dataset_of(traces(2), template))
    batch = batching.collate(list(dataset))
    loss_of = partial(objectives.find(objective), **constants)
    inputs = dataclasses.replace(inputs, loss=loss_of)
    model.zero_grad()
    loss, _ = batch_loss(model, batch, inputs.normaliser_count(batch), inputs)
    loss.backward()
    return loss.item(), model.get_output_embeddings().weight.grad.clone()


def test_the_loss_is_the_local_one_where_k_covers_and_no_more_elsewhere(
    student: tuple[Any, ChatTemplate], teacher_path: Path, served: ServedTokens
) -> None:
    local = prepared(student, ObjectiveConfig("jsd", teacher=teacher_path))
    covered = prepared(student, ObjectiveConfig("jsd", teacher=served, loss_top_k=WHOLE))
    cut = prepared(student, ObjectiveConfig("jsd", teacher=served, loss_top_k=4))
    for objective in DISTANCES:
        loss, gradient = loss_on_rows(student, local, objective)
        covered_loss, covered_gradient = loss_on_rows(student, covered, objective)
        assert covered_loss == pytest.approx(loss, abs=1e-4) and loss > 1e-3
        torch.testing.assert_close(covered_gradient, gradient, rtol=1e-3, atol=1e-5)
        # Classes that are put together never tell two distributions further apart.
        assert 0 <= loss_on_rows(student, cut, objective)[0] <= loss + 1e-5


def test_at_another_temperature_what_is_inside_k_is_compared(
    student: tuple[Any, ChatTemplate], teacher_path: Path, served: ServedTokens
) -> None:
    local = prepared(student, ObjectiveConfig("jsd", {"temperature": 2.0}, teacher=teacher_path))
    constants = {"temperature": 2.0, "tail": "renormalise"}
    remote = prepared(student, ObjectiveConfig("jsd", constants, teacher=served, loss_top_k=WHOLE))
    loss, _ = loss_on_rows(student, local, "jsd", temperature=2.0)
    assert loss_on_rows(student, remote, "jsd", **constants)[0] == pytest.approx(loss, abs=1e-4)


def test_the_student_s_own_texts_are_asked_as_they_were_sampled(
    student: tuple[Any, ChatTemplate], served: ServedTokens
) -> None:
    config = ObjectiveConfig(
        "reverse_kl", teacher=served, loss_top_k=8, on_policy_fraction=1.0, max_new_tokens=6
    )
    inputs = prepared(student, config)
    model, template = student
    served.asked.clear()
    (batch,) = inputs.step_batches(model, window(template, traces(), 6), FIRST)
    rows = batching.rows_of(batch)
    sent = [[int(word) for word in str(request.prompt).split()] for request in served.asked]
    assert sent == [row.input_ids.tolist() for row in rows]
    assert batch["cached_ids"].shape == (*batch["input_ids"].shape, 8)
    assert not batch["unscored"].any()
    loss, _ = batch_loss(model, batch, inputs.normaliser_count(batch), inputs)
    assert loss.item() > 0


def test_rows_beyond_the_teacher_s_context_are_counted_and_failures_stop(
    student: tuple[Any, ChatTemplate], served: ServedTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ObjectiveConfig(
        "reverse_kl", teacher=served, loss_top_k=8, on_policy_fraction=1.0, max_new_tokens=6
    )
    inputs = prepared(student, config)
    model, template = student
    score = ServedTokens.score_tokens

    def one_too_long(self, requests):
        return [Completion("", "", error="context: too long"), *score(self, requests)[1:]]

    monkeypatch.setattr(ServedTokens, "score_tokens", one_too_long)
    (batch,) = inputs.step_batches(model, window(template, traces(), 6), FIRST)
    assert batch["unscored"][:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert batch["loss_weights"].sum(1)[0] == 0 and torch.isfinite(batch["cached_logp"]).all()

    def failing(self, requests):
        return [Completion("", "", error="server: 500") for _ in requests]

    monkeypatch.setattr(ServedTokens, "score_tokens", failing)
    with pytest.raises(StageError, match="failed on 6 of 6 texts: server: 500"):
        inputs.step_batches(model, window(template, traces(), 6), FIRST)


def test_a_student_of_fewer_tokens_refuses_others(
    student: tuple[Any, ChatTemplate], served: ServedTokens
) -> None:
    _, template = student
    config = ObjectiveConfig("forward_kl", teacher=served, loss_top_k=3)
    teacher = make_token_teacher(config, template, served)
    teacher._token_count = 2
    with pytest.raises(StageError, match="tokenizer has 2"):
        list(teacher.entries(dataset_of(traces(1), template).rows))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "loss_top_k=20 or more"),
        ({"loss_top_k": 8, "constants": {"temperature": 2.0}}, "re-tempered"),
        ({"loss_top_k": 8, "objective": "taid"}, "taid needs the teacher's whole"),
        ({"loss_top_k": 8, "objective": "dkpp"}, "dkpp needs the teacher's whole"),
        ({"loss_top_k": 8, "teacher": HERE / "teacher"}, "of a teacher on a server"),
        ({"loss_top_k": 8, "objective": "opd"}, "loss_top_k is of a teacher's distribution"),
    ],
)
def test_what_a_server_can_not_tell_is_refused_before_anything(keywords, message, served) -> None:
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**{"objective": "forward_kl", "teacher": served, **keywords})


def test_a_stage_binds_a_server_where_k_is_given(served: ServedTokens) -> None:
    config = bind("jsd", {"teacher": served, "loss_top_k": 16}).config
    assert config.teacher is served and config.asks_tokens
    assert config.identity()["loss_top_k"] == 16
    assert "loss_top_k" not in ObjectiveConfig("sft").identity()
    with pytest.raises(ConfigError, match="loss_top_k=20"):
        bind("jsd", {"teacher": served})


class OtherTokenizer(ServedTokens):
    def read_text(self, text):
        return [*super().read_text(text), 1]


class OtherTemplate(ServedTokens):
    def read_prompt(self, prompt):
        return [*super().read_prompt(prompt), 1]


class SaysNothing(ServedTokens):
    def read_text(self, text):
        return None


class CountsAlone(ServedTokens):
    def read_prompt(self, prompt):
        return None

    def write(self, requests):
        count = len(ServedTokens.read_prompt(self, requests[0].prompt))
        return [Completion("x", tokens=Tokens(count + 1, 1))]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (OtherTokenizer, "cuts .* into other tokens"),
        (OtherTemplate, "chat template makes another prompt"),
        (SaysNothing, "does not say how it cuts a text"),
        (CountsAlone, "chat template makes .* tokens of"),
    ],
)
def test_a_server_of_another_tokenizer_or_template_is_refused(
    kind: type[ServedTokens], message: str, tiny_checkpoint: Path, teacher_path: Path
) -> None:
    _, template = load(tiny_checkpoint)
    with pytest.raises(StageError, match=message):
        check_served_tokens(tiny_checkpoint, template, kind(teacher_path))
    check_served_tokens(tiny_checkpoint, template, ServedTokens(teacher_path))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_training_by_a_server_is_a_training_by_weights(
    tmp_path: Path, tiny_checkpoint: Path, teacher_path: Path, served: ServedTokens, share: float
) -> None:
    settings = TrainingSettings(max_steps=4, batch_size=3, learning_rate=1e-3, threads=1)
    config = ObjectiveConfig(
        "jsd", teacher=teacher_path, on_policy_fraction=share, max_new_tokens=8
    )
    remote = dataclasses.replace(config, teacher=served, loss_top_k=WHOLE)
    near = fit(traces(), tiny_checkpoint, tmp_path / "near", settings, config=config)
    far = fit(traces(), tiny_checkpoint, tmp_path / "far", settings, config=remote)
    assert far.losses == pytest.approx(near.losses, abs=1e-4)
