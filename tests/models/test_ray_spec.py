"""`ray:` in front of a spec: what is the cluster's and what the model's, and what is refused."""

from __future__ import annotations

import pytest

from potstill import models
from potstill.errors import ConfigError
from potstill.models.ray_spec import ReplicaSettings, inner_spec, read_replica_settings
from potstill.runs.dataset_card import public_spec
from potstill.runs.sources import checkpoint_of, missing_checkpoint


def test_options_are_the_clusters_or_the_models() -> None:
    spec = "ray:transformers:/m/a%20b?replicas=4&dtype=bfloat16&gpus=0.5&chat=plain&threads=3"
    assert inner_spec(spec) == "transformers:/m/a%20b?dtype=bfloat16&chat=plain"
    assert read_replica_settings(spec, None) == ReplicaSettings(replicas=4, gpus=0.5, threads=3)
    models.check_options(spec)
    assert inner_spec("ray:world:student?replicas=2") == "world:student"
    assert inner_spec("world:student") == "world:student"


def test_vllm_has_as_many_gpus_as_its_weights_are_spread_over() -> None:
    settings = models._replica_settings("ray:vllm:m?replicas=8&tensor_parallel=2")
    assert settings == ReplicaSettings(replicas=8, gpus=2.0)


def test_a_run_may_go_on_with_replicas_and_without() -> None:
    spec = "ray:transformers:m?replicas=4&dtype=bfloat16"
    assert models.identity(spec) == models.identity("transformers:m?dtype=bfloat16")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ray:transformers:m?replica=4", "unknown option 'replica'.*nearest: replicas.*dtype"),
        ("ray:world:student?replica=4", "unknown option 'replica'.*nearest: replicas"),
        ("ray:transformers:m?replicas=0", "replicas: 0 is below 1"),
        ("ray:transformers:m?replicas=many", "replicas"),
        ("ray:transformers:m?gpus=1.5", "1.5 is neither a share of one GPU"),
        ("ray:transformers:m?threads=-1", "threads: -1 is below 0"),
        ("ray:transformers:m?device=cuda", "device"),
        ("ray:openai:gpt?replicas=2", "openai: is none"),
        ("ray:ray:world:student", "ray: is none"),
        ("ray:recorded:f.jsonl", "recorded: is none"),
    ],
)
def test_mistakes_are_named(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        models.check_options(spec)


def test_whoever_reads_a_spec_knows_the_model_behind_it(tiny_checkpoint: object) -> None:
    assert checkpoint_of(f"ray:transformers:{tiny_checkpoint}?replicas=2") == tiny_checkpoint
    assert str(missing_checkpoint("ray:vllm:/nowhere/m?replicas=2")) == "/nowhere/m"
    assert (
        public_spec("ray:transformers:/data/me/qwen?replicas=2")
        == "ray:transformers:qwen?replicas=2"
    )
