"""What the student wrote before, kept for later steps; a checkpoint holds it whole."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from potstill.training.dataset.rows import TokenizedRow


@final
class Buffer:
    """The newest rows, up to a capacity; the oldest go first (DistiLLM's replay buffer)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: deque[TokenizedRow] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether it holds its capacity."""
        return len(self._rows) == self.capacity

    def add(self, rows: Sequence[TokenizedRow]) -> None:
        """Put rows in."""
        self._rows.extend(rows)

    def take(self, count: int, seed: int) -> list[TokenizedRow]:
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


def packed(row: TokenizedRow) -> dict[str, Any]:
    """A row as a checkpoint holds it."""
    return {
        "trace_index": row.trace_index,
        "prompt_length": row.prompt_length,
        "input_ids": torch.tensor(row.input_ids),
        "loss_weights": torch.tensor(row.loss_weights),
        "columns": {name: torch.tensor(values) for name, values in row.columns.items()},
    }


def unpacked(kept: Mapping[str, Any]) -> TokenizedRow:
    """The row that was packed."""
    return TokenizedRow.of(**kept)
