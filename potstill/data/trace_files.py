"""Trace files: one trace a line, as `trace_json` writes it. `potstill import` makes them; they are read as any rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from potstill.data import atomic_write, files
from potstill.data.columns import Row, is_trace_record
from potstill.data.trace_checks import check_trace
from potstill.data.trace_json import from_record, to_json
from potstill.errors import InputError, StoreError
from potstill.records import Trace


def write_traces(traces: Iterable[Trace], path: Path) -> None:
    """A trace file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write.writing(path) as file:
        for trace in traces:
            file.write(f"{to_json(trace)}\n".encode("ascii"))


def load_traces(path: Path) -> list[Trace]:
    """The traces of a trace file; InputError with the line where one is no trace."""
    traces = []
    for place, row in files.read_rows(str(path), "a trace file, as potstill import writes it"):
        try:
            traces.append(trace_of_record(row))
        except InputError as error:
            files.refuse_row(error, path, place, row)
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
