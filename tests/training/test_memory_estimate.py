"""The size of a training from headers alone equals what the loaded model has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from potstill.errors import ModelError
from potstill.training.memory_estimate import (
    PROCESS_BYTES,
    count_adapter_parameters,
    estimate_size,
    read_shapes,
)
from potstill.training.settings import LoraSettings, TrainingSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny import tiny_checkpoint

    where = tmp_path_factory.mktemp("size") / "tiny"
    tiny_checkpoint(where, positions=128)
    return where


def test_parameters_are_those_of_the_loaded_model(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert estimate_size(folder, TrainingSettings(), 10, 50).parameters == sum(
        p.numel() for p in model.parameters()
    )


def test_adapters_are_those_that_peft_makes(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    assert count_adapter_parameters(read_shapes(folder), 4) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )


def test_memory_and_steps(folder: Path) -> None:
    whole = estimate_size(
        folder,
        TrainingSettings(num_train_epochs=3, batch_size=8, gradient_accumulation_steps=2),
        100,
        50,
    )
    assert whole.steps == math.ceil(3 * math.ceil(100 / 8) / 2)
    assert (whole.weights, whole.gradients, whole.optimizer) == tuple(
        whole.parameters * b for b in (4, 4, 8)
    )
    states = whole.weights + whole.gradients + whole.optimizer
    assert whole.memory == PROCESS_BYTES + states + whole.activations + whole.read_back
    assert estimate_size(folder, TrainingSettings(max_steps=7), 100, 50).steps == 7
    # Seven epochs of one row are seven steps, however large a batch may be.
    assert estimate_size(folder, TrainingSettings(num_train_epochs=7), 1, 50).steps == 7
    by_tokens = estimate_size(
        folder, TrainingSettings(num_train_epochs=1, batch_size=0, batch_tokens=500), 100, 50
    )
    assert by_tokens.steps == 10
    lora = estimate_size(folder, TrainingSettings(lora=LoraSettings(r=4)), 100, 50)
    assert lora.optimizer == 8 * lora.trained < whole.optimizer
    saving = estimate_size(
        folder, TrainingSettings(gradient_checkpointing=True), 100, 50
    ).activations
    assert saving < estimate_size(folder, TrainingSettings(), 100, 50).activations


@pytest.mark.parametrize(
    ("settings", "tokens", "measured"),
    [
        ({"batch_size": 4}, 310, 808),
        ({"batch_size": 16}, 310, 1409),
        ({"batch_size": 16}, 1220, 3712),
        ({"batch_size": 16, "gradient_checkpointing": True}, 310, 1007),
    ],
)
def test_it_is_what_trainings_took(tmp_path: Path, settings, tokens: int, measured: int) -> None:
    """Peaks in MiB of trainings of a Llama of 6.8 million parameters on a CPU, as docs/LOG.md tells."""
    config = {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 768}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = {"w": {"shape": [6_819_072]}}
    header = json.dumps(shapes).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    size = estimate_size(tmp_path, TrainingSettings(**settings), 100, tokens)
    assert size.memory / 2**20 == pytest.approx(measured, rel=0.3)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0nojson")
    with pytest.raises(ModelError, match="no safetensors file"):
        read_shapes(tmp_path)
