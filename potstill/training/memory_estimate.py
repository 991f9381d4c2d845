"""How large a training is, before it runs: parameters, memory, steps. Reads headers and config.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from potstill.errors import ModelError
from potstill.models.local import checkpoint
from potstill.training.settings import TrainingSettings

FORMULA = (
    "weights, gradients and optimizer in float32 (4 + 4 + 8 bytes a trained parameter, 4 a frozen one), activations of "
    "one micro-batch: tokens x (layers x (34 x hidden + 10 x heads x length) + 8 x vocabulary) bytes, twice that "
    "without bf16, the layers' part a tenth with gradient checkpointing"
)
FLOAT32 = 4  # bytes
MUON_STATE = 4  # bytes a parameter: momentum
ADAMW_STATE = 8  # bytes a parameter: two moments
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")  # of a config
MAX_HEADER = 1 << 26  # bytes of a safetensors header


class TrainingSize(NamedTuple):
    """A training's size; bytes are those of `FORMULA`.

    Args:
        parameters: of the model, adapters left out.
        trained: how many parameters are trained.
        weights: bytes of the weights, adapters included.
        gradients: bytes.
        optimizer: bytes of the optimizer's state.
        activations: bytes of one micro-batch.
        steps: optimizer steps.
    """

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


def estimate_size(
    folder: Path, settings: TrainingSettings, row_count: float, row_length: float
) -> TrainingSize:
    """Estimate the size of training this checkpoint on so many rows of so many tokens each, prompt included."""
    shapes = read_shapes(folder)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    trained, stored = parameters, parameters
    if settings.lora:
        trained = count_adapter_parameters(shapes, settings.lora.r)
        stored = parameters + trained

    batch_rows = rows_per_batch(settings, row_length)
    steps, _ = count_steps(settings, row_count, row_length)
    state_bytes = MUON_STATE if settings.optimizer == "muon" else ADAMW_STATE
    return TrainingSize(
        parameters=parameters,
        trained=trained,
        weights=FLOAT32 * stored,
        gradients=FLOAT32 * trained,
        optimizer=state_bytes * trained,
        activations=_activation_bytes(
            _read_sizes(folder), settings, batch_rows * row_length, row_length
        ),
        steps=steps,
    )


def rows_per_batch(settings: TrainingSettings, row_length: float) -> float:
    """Rows of a micro-batch."""
    batch_tokens = settings.batch_tokens or settings.batch_size * row_length
    return max(1.0, batch_tokens / max(1.0, row_length))


def count_steps(
    settings: TrainingSettings, row_count: float, row_length: float
) -> tuple[int, float]:
    """The steps of a training, and the rows of each."""
    batch_rows = rows_per_batch(settings, row_length)
    # No micro-batch spans two epochs: the last of each may be smaller.
    batches = settings.num_train_epochs * math.ceil(row_count / batch_rows)
    steps = settings.max_steps or math.ceil(batches / settings.gradient_accumulation_steps)
    step_rows = min(batch_rows, row_count) * settings.gradient_accumulation_steps
    return steps, step_rows


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's tensors, from the headers of its safetensors files."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                header_length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(header_length, MAX_HEADER)))
            for name, tensor in header.items():
                if name != "__metadata__":
                    shapes[name] = tuple(map(int, tensor["shape"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"{path} is no safetensors file ({error})",
                expected=checkpoint.EXPECTED_CHECKPOINT,
            ) from error
    return shapes


def count_adapter_parameters(shapes: Mapping[str, tuple[int, ...]], rank: int) -> int:
    """Parameters of low-rank adapters on every matrix inside the layers."""
    count = 0
    for name, shape in shapes.items():
        if len(shape) == 2 and ".layers." in name:
            count += rank * sum(shape)
    return count


def _read_sizes(folder: Path) -> dict[str, int]:
    """The SIZES of a checkpoint; its class knows other names and defaults. 0 where nobody here does."""
    values: Any = SimpleNamespace(**checkpoint.read_config(folder))
    is_whole = all(hasattr(values, name) for name in SIZES)
    if not is_whole and find_spec("transformers"):
        values = checkpoint.load_config(folder).get_text_config()
    return {name: int(getattr(values, name, None) or 0) for name in SIZES}


def _activation_bytes(
    sizes: Mapping[str, int], settings: TrainingSettings, tokens: float, row_length: float
) -> int:
    layers, hidden = sizes["num_hidden_layers"], sizes["hidden_size"]
    heads, vocabulary = sizes["num_attention_heads"], sizes["vocab_size"]
    of_layers = layers * (34 * hidden + 10 * heads * row_length)
    if settings.gradient_checkpointing:
        of_layers /= 10
    total = tokens * (of_layers + 8 * vocabulary)
    return round(total if settings.bf16 else 2 * total)
