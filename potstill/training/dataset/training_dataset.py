"""The training dataset: traces with their tokenized rows, and how rows of different length lie in a few flat arrays.

From the inside out: a `RaggedArray` holds rows of numbers, `TokenizedRows` the tokens, loss weights and columns of many
rows, and a `TrainingDataset` groups these into the items that an objective trains on. A row costs a few bytes a token,
and no Python objects until it is asked for. Shapes: T tokens of a row, R rows.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeAlias, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.records import Trace

MAX_BYTES_IN_MEMORY = 1 << 30  # a larger array is written to a file and memory-mapped


@final
class RaggedArray(Sequence[NDArray[Any]]):
    """Rows of different length that lie one after another; a row is a view of its part.

    Args:
        values: the values of all rows, [N, ...].
        offsets: where each row begins and the last one ends, [R + 1].
    """

    __slots__ = ("offsets", "values")

    def __init__(self, values: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self.values, self.offsets = values, offsets

    @classmethod
    def from_rows(cls, rows: Iterable[ArrayLike], dtype: Any = None) -> RaggedArray:
        """Copy rows into one array; without a dtype that of the first row is taken."""
        arrays = [np.asarray(row, dtype) for row in rows]
        values = np.concatenate(arrays) if arrays else np.zeros(0, dtype or np.float32)
        return cls(values, offsets_of([len(array) for array in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[NDArray[Any]]: ...
    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each row, [R]."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of values and offsets, in memory or in the file."""
        return self.values.nbytes + self.offsets.nbytes


def offsets_of(lengths: ArrayLike) -> NDArray[np.int64]:
    """Where rows of these lengths begin, and the end of the last one."""
    ends = np.cumsum(np.asarray(lengths, np.int64))
    offsets = np.zeros(len(ends) + 1, np.int64)
    offsets[1:] = ends
    return offsets


@final
class RaggedBuilder:
    """Appends rows one by one; past `max_bytes` they go to a file without a name, which ends with the process.

    Args:
        dtype: of the values.
        folder: where the file lies; None is the system's folder for temporary files.
        max_bytes: how much stays in memory.
    """

    def __init__(
        self, dtype: Any, *, folder: Path | None = None, max_bytes: int = MAX_BYTES_IN_MEMORY
    ) -> None:
        self._dtype, self._folder, self._max_bytes = np.dtype(dtype), folder, max_bytes
        self._lengths: list[int] = []
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None

    def append(self, row: ArrayLike) -> None:
        """Add a row."""
        values = np.asarray(row, self._dtype)
        self._lengths.append(len(values))
        if self._file is not None:
            self._file.write(values.tobytes())
            return
        self._buffer += values.tobytes()
        if len(self._buffer) > self._max_bytes:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  open while mapped
            self._file.write(self._buffer)
            self._buffer = bytearray()

    def build(self) -> RaggedArray:
        """All rows; the builder is not used again."""
        offsets = offsets_of(self._lengths)
        if self._file is None:
            return RaggedArray(np.frombuffer(self._buffer, self._dtype), offsets)
        self._file.flush()
        shape = (int(offsets[-1]),)
        return RaggedArray(np.memmap(self._file, self._dtype, mode="r", shape=shape), offsets)


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
        builder = RowsBuilder(folder)
        columns: dict[str, dict[int, NDArray[Any]]] = {}  # by name and row
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
        # A row without a column has an empty one.
        columns = {}
        for name, column in self.columns.items():
            values = column[at]
            if len(values):
                columns[name] = values
        return TokenizedRow(
            trace_index=int(self.trace_index[at]),
            input_ids=self.input_ids[at],
            loss_weights=self.loss_weights[at],
            prompt_length=int(self.prompt_lengths[at]),
            columns=columns,
        )

    def with_column(self, name: str, by_row: Mapping[int, ArrayLike]) -> TokenizedRows:
        """The rows with one more column, given by row number; what is there already is shared, not copied."""
        arrays = []
        lengths = np.zeros(len(self), np.int64)
        for row in sorted(by_row):
            array = as_column(by_row[row])
            arrays.append(array)
            lengths[row] = len(array)
        values = np.concatenate(arrays) if arrays else np.zeros(0, np.float32)
        # A column of one value a token shares the tokens' offsets.
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
        values = sum(array.values.nbytes for array in ragged)
        # Offsets that several arrays share count once.
        distinct_offsets = {id(array.offsets): array.offsets.nbytes for array in ragged}
        offsets = sum(distinct_offsets.values())
        return values + offsets + self.trace_index.nbytes + self.prompt_lengths.nbytes


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


Item: TypeAlias = tuple[
    TokenizedRow, ...
]  # one row, (better, worse), or all rationales of a prompt


@final
class TrainingDataset(Sequence[Item]):
    """Traces with their tokenized rows, grouped into the items that must share a micro-batch.

    It never changes: `select`, `with_items` and `with_column` return another one that shares the arrays.

    Args:
        traces: those that were tokenized; a row names its trace by its place here.
        rows: tokens of the traces and, for pairs, of their rivals.
        items: for each item the numbers of its rows.
        skipped: how many traces were left out, by reason.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        rows: TokenizedRows,
        items: RaggedArray,
        skipped: Mapping[str, int],
    ) -> None:
        self.traces, self.rows, self.items, self.skipped = traces, rows, items, skipped

    @classmethod
    def of_rows(
        cls,
        traces: Sequence[Trace],
        rows: TokenizedRows,
        skipped: Mapping[str, int] = {},
    ) -> TrainingDataset:
        """Each row an item of its own."""
        numbers = np.arange(len(rows), dtype=np.int32)
        items = RaggedArray(numbers, np.arange(len(rows) + 1, dtype=np.int64))
        return cls(traces, rows, items, skipped)

    @classmethod
    def from_items(
        cls, items: Sequence[Item], traces: Sequence[Trace] = (), skipped: Mapping[str, int] = {}
    ) -> TrainingDataset:
        """Pack items that are at hand as rows."""
        item_rows: list[TokenizedRow] = []
        numbers: list[range] = []
        for item in items:
            first = len(item_rows)
            item_rows.extend(item)
            numbers.append(range(first, len(item_rows)))
        rows = TokenizedRows.from_rows(item_rows)
        return cls.of_rows(traces, rows, skipped).with_items(numbers)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, item: int) -> Item: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Item]: ...
    def __getitem__(self, item: int | slice) -> Item | Sequence[Item]:
        if isinstance(item, slice):
            return [self[at] for at in range(*item.indices(len(self)))]
        return tuple(self.rows[int(row)] for row in self.items[item])

    @property
    def row_numbers(self) -> list[int]:
        """Numbers of the rows that are trained on, item by item."""
        return [int(row) for item in self.items for row in item]

    @property
    def item_rows(self) -> list[TokenizedRow]:
        """The rows that are trained on, item by item."""
        return [self.rows[row] for row in self.row_numbers]

    @property
    def item_lengths(self) -> list[int]:
        """Tokens that each item takes in a micro-batch: those of its longest row, times its rows."""
        lengths = self.rows.input_ids.lengths
        return [int(lengths[item].max()) * len(item) for item in self.items]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, the traces' own text left out."""
        return self.rows.nbytes + self.items.nbytes

    def with_items(self, items: Iterable[Sequence[int]]) -> TrainingDataset:
        """The same rows grouped in another way; rows that no item names are not trained on."""
        grouped = RaggedArray.from_rows(items, np.int32)
        return TrainingDataset(self.traces, self.rows, grouped, self.skipped)

    def select(self, items: Iterable[int]) -> TrainingDataset:
        """Some of the items, in the order given."""
        return self.with_items([self.items[item].tolist() for item in items])

    def with_column(self, name: str, values: Sequence[ArrayLike]) -> TrainingDataset:
        """A column of the rows that are trained on, given in the order of `item_rows`."""
        by_row = dict(zip(self.row_numbers, values, strict=True))
        widened = self.rows.with_column(name, by_row)
        return TrainingDataset(self.traces, widened, self.items, self.skipped)

    def with_skipped(self, skipped: Mapping[str, int]) -> TrainingDataset:
        """More traces counted as left out, by reason."""
        counts = dict(Counter(self.skipped) + Counter(skipped))
        return TrainingDataset(self.traces, self.rows, self.items, counts)
