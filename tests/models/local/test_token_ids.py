"""A head that is wider than its tokenizer, and an embedding that is narrower."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
import rolling
from tiny import tiny_checkpoint, tiny_tokenizer

from potstill.errors import ModelError
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Request, Sampling
from potstill.training.fit import TrainingSettings, fit
from potstill.training.objective_config import ObjectiveConfig

KNOWN = len(tiny_tokenizer())


def test_what_the_tokenizer_has_no_token_for_is_never_drawn(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "padded", vocab_size=KNOWN + 200)
    model = TransformersModel(path)
    sampling = Sampling(max_new_tokens=40, logprobs=True)
    requests = [Request("hi", sample_index=index, sampling=sampling) for index in range(8)]
    prompts = [model.encoder.encode_prompt("hi")] * len(requests)
    drawn = model._generate_rows(requests, prompts, None)
    assert all(row is not None and max(row.ids) < KNOWN for row in drawn)
    # The log-probabilities are still the model's own, over all of its ids.
    ids, logprobs = drawn[0].ids, drawn[0].logprobs
    [scored] = model._score([(prompts[0] + ids, len(prompts[0]))], with_ranks=False)
    assert logprobs == pytest.approx(scored.logprobs, abs=1e-4)

    student, template = rolling.load(path)
    config = ObjectiveConfig("grpo", on_policy_fraction=1, num_generations=2, max_new_tokens=40)
    rollouts = rolling.rollouts(template, config, rolling.traces(1))
    rows = rollouts.write_completions(student, prompts, range(len(prompts)))
    assert max(token for row in rows for token in row.ids) < KNOWN


def test_ids_beyond_the_embedding_are_a_message_with_both_numbers(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "narrow", vocab_size=60)
    model = TransformersModel(path)
    roads = (
        lambda: model.write([Request("hi")]),
        lambda: model.likelihood([("hi", "5")]),
        lambda: fit(rolling.traces(2), path, tmp_path / "out", TrainingSettings(max_steps=1)),
    )
    for road in roads:
        with pytest.raises(ModelError, match=r"the id \d+, and the model has 60 embeddings"):
            road()


def test_a_rollout_ends_at_any_end_and_its_text_has_none(tiny_checkpoint: Path) -> None:
    student, template = rolling.load(tiny_checkpoint)
    ends = tuple(range(100, 160))
    template = dataclasses.replace(template, end_ids=ends)
    config = ObjectiveConfig("grpo", on_policy_fraction=1, num_generations=2, max_new_tokens=40)
    rollouts = rolling.rollouts(template, config, rolling.traces(1))
    rows = rollouts.write_completions(student, [template.encode_prompt("hi")] * 8, range(8))
    for row in rows:
        assert not set(row.ids[:-1]) & set(ends)
        assert row.stopped == (row.ids[-1] in ends)
    assert any(row.stopped for row in rows)
