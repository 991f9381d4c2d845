"""Tokenized rows: token ids and loss weights as arrays, and whatever else an objective reads of a row as columns.

Shapes: T tokens of a row, R rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.training.dataset.ragged import (
    MAX_BYTES_IN_MEMORY,
    RaggedArray,
    RaggedBuilder,
    offsets_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedRow:
    """A trace as token ids, with the weight that each token has in the loss.

    Args:
        trace_index: place of the trace among those that were tokenized.
        input_ids: [T] int32.
        loss_weights: weight of each token as a *target*, [T] float32; 0 where it is not learnt.
        prompt_length: how many of the tokens are the prompt.
        columns: more about the row by name, each an array: of [T] values, or of a length of its own.
    """

    trace_index: int
    input_ids: NDArray[np.int32]
    loss_weights: NDArray[np.float32]
    prompt_length: int
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        trace_index: int,
        input_ids: ArrayLike,
        loss_weights: ArrayLike,
        prompt_length: int,
        columns: Mapping[str, Any] | None = None,
    ) -> TokenizedRow:
        """A row of any sequences of numbers."""
        return cls(
            trace_index,
            np.asarray(input_ids, np.int32),
            np.asarray(loss_weights, np.float32),
            prompt_length,
            {name: as_column(values) for name, values in (columns or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def prompt_ids(self) -> list[int]:
        """The prompt's token ids."""
        ids: list[int] = self.input_ids[: self.prompt_length].tolist()
        return ids

    @property
    def completion_ids(self) -> list[int]:
        """The token ids behind the prompt."""
        ids: list[int] = self.input_ids[self.prompt_length :].tolist()
        return ids

    @property
    def is_learnt(self) -> NDArray[np.bool_]:
        """Which tokens have a loss, [T]."""
        return self.loss_weights > 0

    def with_columns(self, **columns: Any) -> TokenizedRow:
        """The row with more columns."""
        added = {name: as_column(values) for name, values in columns.items()}
        return replace(self, columns={**self.columns, **added})

    def without_columns(self) -> TokenizedRow:
        """Tokens and loss weights alone."""
        return replace(self, columns={})

    def masked(self) -> TokenizedRow:
        """The row with a loss on none of its tokens."""
        return replace(self, loss_weights=np.zeros_like(self.loss_weights))

    def same_tokens(self, other: TokenizedRow) -> bool:
        """Whether both rows have the same token ids."""
        return np.array_equal(self.input_ids, other.input_ids)


def as_column(values: Any) -> NDArray[Any]:
    """Values as an array of at most 32 bits a number: half precision stays, doubles and long integers shrink."""
    column = np.asarray(values)
    if column.dtype == np.float64:
        return column.astype(np.float32)
    return column.astype(np.int32) if column.dtype == np.int64 else column


@final
class TokenizedRows(Sequence[TokenizedRow]):
    """Many rows in a few flat arrays, 8 bytes a token and 16 a row; a row is made when it is asked for.

    Args:
        trace_index: [R] int32.
        prompt_lengths: [R] int32.
        columns: by name; a row without a column has an empty one.
    """

    def __init__(
        self,
        trace_index: NDArray[np.int32],
        input_ids: RaggedArray,
        loss_weights: RaggedArray,
        prompt_lengths: NDArray[np.int32],
        columns: Mapping[str, RaggedArray] | None = None,
    ) -> None:
        self.trace_index, self.prompt_lengths = trace_index, prompt_lengths
        self.input_ids, self.loss_weights = input_ids, loss_weights
        self.columns: Mapping[str, RaggedArray] = columns or {}

    @classmethod
    def from_rows(cls, rows: Iterable[TokenizedRow], folder: Path | None = None) -> TokenizedRows:
        """Pack rows with their columns; ids and weights too large for memory go to a file in `folder`."""
        builder, columns = RowsBuilder(folder), dict[str, dict[int, NDArray[Any]]]()
        for number, row in enumerate(rows):
            builder.append(row)
            for name, values in row.columns.items():
                columns.setdefault(name, {})[number] = values
        packed = builder.build()
        for name, by_row in columns.items():
            packed = packed.with_column(name, by_row)
        return packed

    def __len__(self) -> int:
        return len(self.trace_index)

    @overload
    def __getitem__(self, at: int) -> TokenizedRow: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[TokenizedRow]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        columns = {name: column[at] for name, column in self.columns.items()}
        return TokenizedRow(
            int(self.trace_index[at]),
            self.input_ids[at],
            self.loss_weights[at],
            int(self.prompt_lengths[at]),
            {name: values for name, values in columns.items() if len(values)},
        )

    def with_column(self, name: str, by_row: Mapping[int, ArrayLike]) -> TokenizedRows:
        """The rows with one more column, given by row number; what is there already is shared, not copied."""
        arrays, lengths = [], np.zeros(len(self), np.int64)
        for row in sorted(by_row):
            arrays.append(as_column(by_row[row]))
            lengths[row] = len(arrays[-1])
        values = np.concatenate(arrays) if arrays else np.zeros(0, np.float32)
        offsets = offsets_of(lengths)
        if np.array_equal(offsets, self.input_ids.offsets):
            offsets = self.input_ids.offsets
        columns = {**self.columns, name: RaggedArray(values, offsets)}
        return TokenizedRows(
            self.trace_index, self.input_ids, self.loss_weights, self.prompt_lengths, columns
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        ragged = [self.input_ids, self.loss_weights, *self.columns.values()]
        offsets = {id(array.offsets): array.offsets.nbytes for array in ragged}
        values = sum(array.values.nbytes for array in ragged)
        return values + sum(offsets.values()) + self.trace_index.nbytes + self.prompt_lengths.nbytes


@final
class RowsBuilder:
    """Packs rows one by one, without their columns; large arrays go to a file in `folder`."""

    def __init__(self, folder: Path | None = None, *, max_bytes: int = MAX_BYTES_IN_MEMORY) -> None:
        self._input_ids = RaggedBuilder(np.int32, folder=folder, max_bytes=max_bytes)
        self._loss_weights = RaggedBuilder(np.float32, folder=folder, max_bytes=max_bytes)
        self._trace_index: list[int] = []
        self._prompt_lengths: list[int] = []

    def append(self, row: TokenizedRow) -> None:
        """Add a row."""
        self._input_ids.append(row.input_ids)
        self._loss_weights.append(row.loss_weights)
        self._trace_index.append(row.trace_index)
        self._prompt_lengths.append(row.prompt_length)

    def build(self) -> TokenizedRows:
        """All rows; the builder is not used again."""
        input_ids, loss_weights = self._input_ids.build(), self._loss_weights.build()
        return TokenizedRows(
            np.array(self._trace_index, np.int32),
            input_ids,
            RaggedArray(loss_weights.values, input_ids.offsets),  # one array of offsets for both
            np.array(self._prompt_lengths, np.int32),
        )
