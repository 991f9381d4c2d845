"""Rows of different length in one flat array, in memory or in a file: a few bytes a token instead of Python objects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
