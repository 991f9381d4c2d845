"""What the student wrote before, to be trained on in later steps; a checkpoint holds all of it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from potstill.training.dataset.training_dataset import TokenizedRow


@final
class ReplayBuffer:
    """The newest rows, up to a capacity; the oldest go first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: deque[TokenizedRow] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether it holds its capacity."""
        return len(self._rows) == self.capacity

    def add(self, rows: Sequence[TokenizedRow]) -> None:
        """Put rows in."""
        self._rows.extend(rows)

    def sample(self, count: int, seed: int) -> list[TokenizedRow]:
        """Rows at random by the seed alone, different ones while there are enough; they stay in."""
        generator = random.Random(seed)
        rows = list(self._rows)
        if count <= len(rows):
            return generator.sample(rows, count)
        return generator.choices(rows, k=count)

    def state(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {"rows": [row_to_state(row) for row in self._rows]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._rows = deque(map(row_from_state, state["rows"]), maxlen=self.capacity)


def row_to_state(row: TokenizedRow) -> dict[str, Any]:
    """A row as a checkpoint holds it."""
    return {
        "trace_index": row.trace_index,
        "prompt_length": row.prompt_length,
        "input_ids": torch.tensor(row.input_ids),
        "loss_weights": torch.tensor(row.loss_weights),
        "columns": {name: torch.tensor(values) for name, values in row.columns.items()},
    }


def row_from_state(state: Mapping[str, Any]) -> TokenizedRow:
    """The row that `row_to_state` made a state of."""
    return TokenizedRow.of(**state)
