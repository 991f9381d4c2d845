"""A list of traces as a file: JSON lines as `potstill.data.trace_json` has them, a table, or ids alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Sequence
from itertools import islice
from typing import NamedTuple

from potstill.data.trace_json import to_json
from potstill.store.store import Store
from potstill.viewer.notes import NotesFile
from potstill.viewer.reader import RunReader
from potstill.viewer.selection import Chosen, Selection
from potstill.viewer.trace_lists import (
    MORE_COLUMNS,
    Order,
    describe_entries,
    iterate_entries,
    read_texts,
)

PORTION = 200  # entries that are read at once


class Format(NamedTuple):
    """A kind of file."""

    suffix: str
    content_type: str


FORMATS = {
    "jsonl": Format("jsonl", "application/x-ndjson"),
    "csv": Format("csv", "text/csv"),
    "ids": Format("txt", "text/plain"),
}
_COLUMNS = (
    *(
        "id",
        "arm",
        "operator",
        "status",
        "finish",
        "author",
        "problem",
        "answer",
        "tokens",
        "length",
    ),
    *("steps", "wrong_steps", "first_wrong", "draw", "row", "mark", *MORE_COLUMNS),
)
_FORMULA_SIGNS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
)  # what a spreadsheet takes for the beginning of a formula


def export_entries(reader: RunReader, chosen: Chosen, order: Order, form: str) -> Generator[str]:
    """The file in parts; the store stays open until the last one was read, or the generator is closed."""
    marks = NotesFile(reader.notes_path).marks()
    if form == "csv":
        yield _csv_line([*_COLUMNS, "text"])
    with reader.open_store() as store:
        selection = Selection(store, chosen, marks)
        entries = iterate_entries(selection, order)
        while part := list(islice(entries, PORTION)):
            yield _format_part(selection, part, form)


def _format_part(selection: Selection, seqs: Sequence[int], form: str) -> str:
    # Portions keep memory flat, whatever the list's length.
    items = describe_entries(selection, seqs, MORE_COLUMNS)
    texts: dict[int, str] = {}
    if form == "csv":
        texts = read_texts(selection.store, seqs)
    lines: list[str] = []
    for item in items:
        if form == "ids":
            lines.append(f"{item['id']}\n")
        elif form == "csv":
            values = [item[name] for name in _COLUMNS]
            lines.append(_csv_line([*values, texts[item["key"]]]))
        else:
            lines.append(_trace_line(selection.store, item["id"], item["arm"]))
    return "".join(lines)


def _trace_line(store: Store, trace_id: str, arm: str) -> str:
    trace = store.history.trace(trace_id, arm)
    assert trace is not None  # it was listed
    return to_json(trace) + "\n"


def _csv_line(values: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_csv_cell(value) for value in values])
    return buffer.getvalue()


def _csv_cell(value: object) -> object:
    """A cell that a spreadsheet does not take for a formula: a model may write one."""
    if isinstance(value, str) and value.startswith(_FORMULA_SIGNS):
        return "'" + value
    return "" if value is None else value
