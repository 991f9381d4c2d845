"""Trace files: one trace a line, as `trace_json` writes it. `potstill import` makes them; they are read as any rows.

A list of traces holds all texts in memory, about 4.5 KB a trace of 2 KB. `TraceFile` is the same sequence with 8 bytes
a trace: each is read from the file when it is asked for.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import final, overload

from potstill.data import files, row_files
from potstill.data.columns import Row, is_trace_record
from potstill.data.trace_checks import check_trace
from potstill.data.trace_json import from_record, to_json
from potstill.data.urls import Location, local_path
from potstill.errors import InputError, StoreError
from potstill.records import Trace


def write_traces(traces: Iterable[Trace], location: Location) -> None:
    """A trace file, whole or not at all."""
    row_files.write_file(trace_lines(traces), location)


def trace_lines(traces: Iterable[Trace]) -> Iterator[bytes]:
    """Traces as the lines of a trace file."""
    for trace in traces:
        yield f"{to_json(trace)}\n".encode("ascii")


@final
class LineFile:
    """The lines of a file by their place, read when they are asked for; 8 bytes of memory a line.

    No file stays open: there may be more of these than a process may have open files.

    Args:
        path: not packed; it must not change while this is used.
    """

    def __init__(self, path: Path) -> None:
        """Find where the lines begin."""
        self.path = path
        self._offsets = array("q", [0])
        with path.open("rb") as file:
            for line in file:
                self._offsets.append(self._offsets[-1] + len(line))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        place = range(len(self))[index]
        start, stop = self._offsets[place], self._offsets[place + 1]
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, stop - start, start)
        finally:
            os.close(descriptor)


@final
class TraceFile(Sequence[Trace]):
    """The traces of a trace file, read when they are asked for: what operators take where a list would not fit.

    Args:
        path: a file of one trace a line, not packed; it must not change while this is used.
    """

    def __init__(self, path: str | Path) -> None:
        """Find where the traces begin."""
        self.path = local_path(path)
        try:
            self._lines = LineFile(self.path)
        except OSError as error:
            raise InputError(
                f"{path} can't be read: {error.strerror}", expected="a trace file"
            ) from error

    def __repr__(self) -> str:
        return f"TraceFile({str(self.path)!r}) of {len(self):,}"

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trace]: ...
    def __getitem__(self, index: int | slice) -> Trace | list[Trace]:
        """A trace, or the traces of a slice as a list; InputError where a line is none."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return _trace_of_line(self._lines[place], self.path, place)

    def __iter__(self) -> Iterator[Trace]:
        """The traces in the order of the file, read with a handle of its own."""
        with self.path.open("rb") as file:
            for place, line in enumerate(islice(file, len(self))):
                yield _trace_of_line(line, self.path, place)


def _trace_of_line(line: bytes, path: Path, place: int) -> Trace:
    where = f"line {place + 1}"
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"{path}, {where}: not JSON: {error}", expected="a trace a line"
        ) from error
    try:
        if not isinstance(record, dict):
            raise InputError(
                f"no trace but a JSON {type(record).__name__}", expected="a trace a line"
            )
        return trace_of_record(record)
    except InputError as error:
        error.found = f"{path}, {where}: {error.found}"
        error.args = (error.render(),)
        raise


def load_traces(location: Location) -> list[Trace]:
    """The traces of a trace file or a set of them; InputError with the line where one is no trace."""
    traces = []
    for place, row in files.read_rows(str(location), "a trace file, as potstill import writes it"):
        try:
            traces.append(trace_of_record(row))
        except InputError as error:
            files.refuse_row(error, location, place, row)
    return traces


def trace_of_record(row: Row) -> Trace:
    """The trace of a row of a trace file."""
    fix = "write the file again: potstill import FILE --out traces.jsonl"
    if not is_trace_record(row):
        raise InputError("no trace", expected="rows of a trace file", fix=fix)
    try:
        trace = from_record(row)
    except StoreError as error:
        raise InputError(error.found, expected=error.expected, fix=fix) from error
    check_trace(trace)
    return trace
