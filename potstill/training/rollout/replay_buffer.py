"""What the student wrote before, kept for later steps; a checkpoint holds it whole."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from potstill.training.dataset.tokenize import Row


@final
class Buffer:
    """The newest rows, up to a capacity; the oldest go first (DistiLLM's replay buffer)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: deque[Row] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether it holds its capacity."""
        return len(self._rows) == self.capacity

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows in."""
        self._rows.extend(rows)

    def take(self, count: int, seed: int) -> list[Row]:
        """Rows at random by the seed alone, different ones while there are enough; they stay in."""
        dice = random.Random(seed)
        rows = list(self._rows)
        return dice.sample(rows, count) if count <= len(rows) else dice.choices(rows, k=count)

    def state(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {"rows": [packed(row) for row in self._rows]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._rows = deque((unpacked(kept) for kept in state["rows"]), maxlen=self.capacity)


def packed(row: Row) -> dict[str, Any]:
    """A row as a checkpoint holds it."""
    return {
        "trace": row.trace,
        "prompt": row.prompt,
        "ids": torch.tensor(row.ids),
        "weights": torch.tensor(row.weights, dtype=torch.float64),
        "columns": {name: torch.as_tensor(values) for name, values in row.columns.items()},
    }


def unpacked(kept: Mapping[str, Any]) -> Row:
    """The row that was packed."""
    columns = {name: values.tolist() for name, values in kept["columns"].items()}
    return Row(
        kept["trace"],
        tuple(kept["ids"].tolist()),
        tuple(kept["weights"].tolist()),
        kept["prompt"],
        columns,
    )
