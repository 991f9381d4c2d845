"""What a command read from files: which columns as what, and which bad rows it left out.

A bad row is an error that names file and line, or, inside `skipping`, an entry in the list of what was left out.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data import uploads
from potstill.data.urls import Location
from potstill.errors import InputError
from potstill.metadata import Selection

BAD_ROWS_FILE = "bad_rows.jsonl"
COLUMNS_FILE = "columns.json"
SHOWN = 80  # characters of a bad row that are kept, escaped


class Bad(NamedTuple):
    """A row that was left out: its file, where it stands there, why, and how it begins (escaped)."""

    file: str
    where: str
    reason: str
    start: str


@dataclass
class _ReadingLog:
    """What was read inside one `skipping` block."""

    skips: bool
    bad_rows: list[Bad] = field(default_factory=list)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    selections: list[str] = field(default_factory=list)


_LOG: ContextVar[_ReadingLog | None] = ContextVar("what was read", default=None)


@contextmanager
def skipping(on: bool = True) -> Iterator[list[Bad]]:
    """Inside, bad rows are left out of whatever is read and listed here; with `on=False` the first one is an error."""
    log = _ReadingLog(skips=on)
    token = _LOG.set(log)
    try:
        yield log.bad_rows
    finally:
        _LOG.reset(token)


def is_skipping() -> bool:
    """Whether bad rows are left out here."""
    log = _LOG.get()
    return log is not None and log.skips


def skipped() -> list[Bad]:
    """What was left out so far, each once, although a file may be read several times (as problems and as answers)."""
    log = _LOG.get()
    return list(dict.fromkeys(log.bad_rows)) if log else []


def refuse(error: InputError, file: object, where: str, row: object = "") -> None:
    """Raise the error of a row, or list the row where bad ones are skipped."""
    log = _LOG.get()
    if log is None or not log.skips:
        raise error
    reason = error.found.removeprefix(f"{file}").removeprefix(f", {where}").lstrip(",: ")
    log.bad_rows.append(Bad(str(file), where, reason, start_of(row)))


def refuse_row(error: InputError, file: object, where: str, row: object) -> None:
    """As `refuse`, of an error that does not yet say in which file and row it was found."""
    error.found = f"{file}, {where}: {error.found}"
    error.args = (error.render(),)
    refuse(error, file, where, row)


def start_of(row: object) -> str:
    """The first characters of a row in printable ASCII."""
    if isinstance(row, bytes | bytearray):
        return repr(bytes(row[:SHOWN]))[2:-1]
    text = row if isinstance(row, str) else _json_text(row)
    return ascii(text[:SHOWN])[1:-1]


def record_columns(
    source: str, mapping: Mapping[str, str], unread: Sequence[str], notes: Sequence[str] = ()
) -> None:
    """Note which columns of a file were read as what, for `save` and `column_notes`.

    Args:
        source: the file's own name, or hf:NAME.
        mapping: layout and field -> column.
        unread: columns with something in them that nothing was read from.
        notes: how values were understood that can be understood in two ways.
    """
    log = _LOG.get()
    if log is not None and mapping:
        log.columns[source] = {"mapping": dict(mapping), "unread": list(unread)}
        if notes:
            log.columns[source]["notes"] = list(notes)


def record_selection(source: str, selection: Selection) -> None:
    """Note how many problems of a source conditions on their metadata left, for `notes`.

    Where nobody prints these, in Python, a warning says that problems were left out for want of metadata.
    """
    sentence = f"Chosen from {source}: {'; '.join(selection.notes)}."
    log = _LOG.get()
    if log is not None:
        log.selections.append(sentence)
    elif selection.lacking:
        warnings.warn(sentence, stacklevel=2)


def save(folder: Path) -> list[Bad]:
    """Write what was read into a run folder: `columns.json`, and `bad_rows.jsonl` where rows were left out."""
    return _save(folder / BAD_ROWS_FILE, folder / COLUMNS_FILE)


def save_beside(file: Location) -> list[Bad]:
    """Write what was read beside a file made of it: `rows.columns.json`, `rows.bad_rows.jsonl` for `rows.jsonl`."""
    stem = file.name.partition(".")[0] if file.suffix == ".gz" else file.stem
    return _save(
        file.with_name(f"{stem}.{BAD_ROWS_FILE}"), file.with_name(f"{stem}.{COLUMNS_FILE}")
    )


def notes() -> list[str]:
    """Sentences for a summary: how many bad rows were left out, what was chosen, and which columns were read."""
    bad_rows = skipped()
    log = _LOG.get()
    selections = list(dict.fromkeys(log.selections)) if log else []
    if not bad_rows:
        return [*selections, *column_notes()]
    counts = Counter(bad.file for bad in bad_rows)
    parts = [f"{count:,} of {Path(file).name}" for file, count in counts.items()]
    left_out = (
        f"Bad rows left out: {', '.join(parts)}; {BAD_ROWS_FILE} lists them with the reasons."
    )
    return [left_out, *selections, *column_notes()]


def column_notes() -> list[str]:
    """A sentence a file: which of its columns were read as what."""
    log = _LOG.get()
    if log is None:
        return []
    sentences = []
    for source, columns in log.columns.items():
        fields = [f"{name}={column}" for name, column in columns["mapping"].items()]
        parts = [f"Read from {source}: {', '.join(fields)}"]
        if columns["unread"]:
            parts.append(f"columns not read: {', '.join(columns['unread'])}")
        parts += columns.get("notes", ())
        sentences.append("; ".join(parts) + ".")
    return sentences


def _save(bad_rows_path: Location, columns_path: Location) -> list[Bad]:
    """Write both files, or remove those of an earlier run."""
    bad_rows = skipped()
    lines = [json.dumps(bad._asdict()) + "\n" for bad in bad_rows]
    if lines:
        uploads.write_bytes(bad_rows_path, "".join(lines).encode("utf-8"))
    else:
        uploads.delete(bad_rows_path)
    log = _LOG.get()
    if log is not None and log.columns:
        content = json.dumps(log.columns, indent=2) + "\n"
        uploads.write_bytes(columns_path, content.encode("utf-8"))
    else:
        uploads.delete(columns_path)
    return bad_rows


def _json_text(row: Any) -> str:
    try:
        return json.dumps(row, default=str)
    except (ValueError, RecursionError):
        return repr(type(row))
