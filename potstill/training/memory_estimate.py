"""How large a training is, before it runs: parameters, memory, steps. Reads headers and config.json; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import ModelError
from potstill.models.local import checkpoint
from potstill.training.settings import TrainingSettings

FORMULA = (
    "weights, gradients and optimizer in float32 (4 + 4 + 8 bytes a trained parameter, 4 a frozen one), activations of "
    "one micro-batch: tokens x (layers x (34 x hidden + 10 x heads x length) + 8 x vocabulary) bytes, twice that "
    "without bf16, the layers' part a tenth with gradient checkpointing"
)
_HEADER = 1 << 26  # bytes of a safetensors header at most


class Size(NamedTuple):
    """A training's size; bytes are those of `FORMULA`."""

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    steps: int

    @property
    def memory(self) -> int:
        """All bytes together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def size(folder: Path, training: TrainingSettings, rows: float, tokens: float) -> Size:
    """The size of training this checkpoint on so many rows of so many tokens each, prompt included."""
    matrices = shapes(folder)
    parameters = sum(math.prod(shape) for shape in matrices.values())
    trained = adapters(matrices, training.lora.r) if training.lora else parameters
    per_batch = training.batch_tokens or training.batch_size * tokens
    in_batch = max(1.0, per_batch / max(1.0, tokens))
    steps = training.max_steps or math.ceil(
        training.num_train_epochs * rows / (in_batch * training.gradient_accumulation_steps)
    )
    states = 4 if training.optimizer == "muon" else 8  # momentum alone, or two moments
    return Size(
        parameters,
        trained,
        4 * (parameters + (trained if training.lora else 0)),
        4 * trained,
        states * trained,
        _activations(checkpoint.read_config(folder), training, in_batch * tokens, tokens),
        steps,
    )


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's tensors, from the headers of its safetensors files."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(min(length, _HEADER)))
                found |= {
                    n: tuple(map(int, t["shape"])) for n, t in header.items() if n != "__metadata__"
                }
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ModelError(
                    f"{path} is no safetensors file ({error})",
                    expected=checkpoint.EXPECTED_CHECKPOINT,
                ) from error
    return found


def adapters(matrices: Mapping[str, tuple[int, ...]], rank: int) -> int:
    """Parameters of low-rank adapters on every matrix inside the layers."""
    return sum(rank * sum(s) for name, s in matrices.items() if len(s) == 2 and ".layers." in name)


def _activations(
    config: Mapping[str, Any], training: TrainingSettings, tokens: float, length: float
) -> int:
    hidden, layers = (int(config.get(name) or 0) for name in ("hidden_size", "num_hidden_layers"))
    heads, vocabulary = (
        int(config.get(name) or 0) for name in ("num_attention_heads", "vocab_size")
    )
    inside = layers * (34 * hidden + 10 * heads * length)
    inside = inside / 10 if training.gradient_checkpointing else inside
    return round(tokens * (inside + 8 * vocabulary) * (1 if training.bf16 else 2))
