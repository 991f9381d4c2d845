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
    "weights, gradients and optimizer in float32 (4 + 4 + 8 bytes a trained parameter, 4 a frozen one), the weights a "
    "second time (a stored student is read back and compared), 0.5 GB for the process, and the activations of one "
    "micro-batch: tokens x layers x (14 x hidden + 5 x intermediate) x 4 bytes, half of that in bf16; with gradient "
    "checkpointing the inputs of all layers and the activations of one"
)
# Measured as the peak of whole trainings on a CPU (docs/LOG.md); attention and logits are computed in pieces.
PROCESS_BYTES = 500 << 20  # Python, torch, and the logits of one chunk
HIDDEN_FLOATS, INTERMEDIATE_FLOATS = 14, 5  # kept for the backward pass, a token and layer
FLOAT32 = 4  # bytes
MUON_STATE = 4  # bytes a parameter: momentum
ADAMW_STATE = 8  # bytes a parameter: two moments
SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size")  # of a config
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
        read_back: bytes of the weights that are read again when the student is stored.
        steps: optimizer steps.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    read_back: int
    steps: int

    @property
    def memory(self) -> int:
        """All bytes together."""
        states = self.weights + self.gradients + self.optimizer
        return PROCESS_BYTES + states + self.activations + self.read_back


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
        activations=_activation_bytes(_read_sizes(folder), settings, batch_rows * row_length),
        read_back=FLOAT32 * stored,
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
    if settings.max_train_samples:
        row_count = min(row_count, settings.max_train_samples)
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
    sizes = {name: int(getattr(values, name, None) or 0) for name in SIZES}
    if not sizes["intermediate_size"]:
        sizes["intermediate_size"] = 4 * sizes["hidden_size"]  # GPT-2's default, and its kin's
    return sizes


def _activation_bytes(sizes: Mapping[str, int], settings: TrainingSettings, tokens: float) -> int:
    layers, hidden = sizes["num_hidden_layers"], sizes["hidden_size"]
    layer_floats = HIDDEN_FLOATS * hidden + INTERMEDIATE_FLOATS * sizes["intermediate_size"]
    floats = layers * layer_floats
    if settings.gradient_checkpointing:
        floats = layers * hidden + layer_floats
    total = FLOAT32 * tokens * floats
    return round(total / 2 if settings.bf16 else total)
