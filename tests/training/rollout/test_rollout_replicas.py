"""Rollouts that replicas of the student write: what this process would write, with the weights of each step."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import length, rows
from safetensors.torch import load_file

from potstill.errors import ConfigError, StageError
from potstill.models.local import generate
from potstill.models.local.generate import GenerationBatch
from potstill.models.model import Sampling
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout import replicas
from potstill.training.rollout.replicas import split_batch
from potstill.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    max_steps=3, batch_size=4, learning_rate=5e-3, warmup_steps=0, save_steps=0, threads=1
)


def test_a_batch_is_cut_with_the_prompts_of_its_rows() -> None:
    batch = GenerationBatch(
        [[1], [2], [3]], [0, 0, 1, 2, 2], [5, 6, 7, 8, 9], [4] * 5, Sampling(), [0]
    )
    first, second = split_batch(batch, 2)
    assert (first.prompts, first.prompt_of_row, first.seeds) == ([[1]], [0, 0], [5, 6])
    assert (second.prompts, second.prompt_of_row, second.seeds) == (
        [[2], [3]],
        [0, 1, 1],
        [7, 8, 9],
    )
    assert len(split_batch(batch, 9)) == 5 and not split_batch(
        dataclasses.replace(batch, prompt_of_row=[]), 2
    )


def test_writing_together_with_a_teacher_is_refused(tiny_checkpoint: Any, tmp_path: Any) -> None:
    config = ObjectiveConfig(
        "jsd", teacher=tiny_checkpoint, on_policy_fraction=1, rollout_sampling="speculative"
    )
    settings = dataclasses.replace(SETTINGS, rollout_replicas=2)
    with pytest.raises(StageError, match="rollout_replicas write for the student alone"):
        fit(rows(4), tiny_checkpoint, tmp_path / "out", settings, config=config)


def test_several_processes_want_one_cluster(monkeypatch: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="in 2 processes would start 2 Ray clusters"):
        replicas.ReplicaWriter(2, trains_all=True, bf16=False)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_student_is_the_one_of_this_process_bit_for_bit(
    tiny_checkpoint: Any, tmp_path: Any, ray_cluster: Any, monkeypatch: Any
) -> None:
    """Where this process writes the same parts; two of three steps are written with weights that training has moved."""
    config = ObjectiveConfig(
        "grpo",
        {"beta": 0.1},
        on_policy_fraction=1,
        num_generations=3,
        max_new_tokens=8,
        reward=length,
        eval_rows=1,
        eval_steps=2,
    )
    on_cluster = dataclasses.replace(SETTINGS, rollout_replicas=2)
    there = fit(rows(5), tiny_checkpoint, tmp_path / "there", on_cluster, config=config)

    whole = generate.generate_batch

    def in_parts(model: Any, batch: GenerationBatch) -> list[Any]:
        return [row for part in split_batch(batch, 2) for row in whole(model, part)]

    monkeypatch.setattr(generate, "generate_batch", in_parts)
    here = fit(rows(5), tiny_checkpoint, tmp_path / "here", SETTINGS, config=config)
    assert there.losses == here.losses and there.key == here.key
    of_both = [load_file(tmp_path / name / "model.safetensors") for name in ("there", "here")]
    assert all(torch.equal(of_both[0][key], of_both[1][key]) for key in of_both[0])
    began = load_file(tiny_checkpoint / "model.safetensors")
    assert any(not torch.equal(of_both[0][key], began[key]) for key in began)
