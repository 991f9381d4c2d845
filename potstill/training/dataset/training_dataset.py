"""What a training is given: traces and their tokens together, in a few flat arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, final, overload

import numpy as np
from numpy.typing import ArrayLike

from potstill.records import Trace
from potstill.training.dataset.ragged import RaggedArray
from potstill.training.dataset.rows import TokenizedRow, TokenizedRows

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
        rows = TokenizedRows.from_rows(row for item in items for row in item)
        ends = np.cumsum([len(item) for item in items]).tolist()
        numbers = [range(end - len(item), end) for item, end in zip(items, ends, strict=True)]
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
