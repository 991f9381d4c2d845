"""Completions as JSON lines, out of a store and into another; out of a damaged one as far as it can be read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from potstill.data import uploads
from potstill.data.urls import Location
from potstill.errors import InputError, StoreError
from potstill.records import OLDER_SCHEMES, SCHEME, canonical
from potstill.store.admin import salvage
from potstill.store.admin.exported_rows import (
    ExportedRow,
    format_attempt,
    format_completion,
    parse_row,
)
from potstill.store.admin.migrations import SCHEMA, is_readable
from potstill.store.attempts import StoredAttempt
from potstill.store.completions import StoredCompletion
from potstill.store.database import DamagedError
from potstill.store.store import Store

_ROWS_PER_TRANSACTION = 500
_DIGESTS = "digests"  # in the header: every line has one
_EXPORT_AGAIN = "export again, then import again: what was taken already is skipped"


class ExportCounts(NamedTuple):
    """How many completions were written, and how many are lost to damage; None where nothing says how many there were.

    A lost one could not be read, or is not what was written any more.
    """

    completions: int
    lost: int | None


class ImportCounts(NamedTuple):
    """How many completions of an export were new, and how many were here already."""

    new: int
    known: int


def export_completions(store: Store, path: Location) -> ExportCounts:
    """Write every completion that can be read as JSONL, a header line with the version first; whole or not at all."""
    exported = 0
    with uploads.replacing(path) as draft, draft.open("wb") as file:
        # A file of another version is refused by its first line, not by the first row that happens to differ.
        header = {"potstill": "completions", "scheme": SCHEME, "schema": SCHEMA, _DIGESTS: True}
        file.write(_encode_line(canonical(header)))
        for completion in store.completions.iterate_readable():
            if not describe_damage(completion):
                file.write(_encode_line(format_completion(completion)))
                exported += 1
        for attempt in _readable_attempts(store):
            file.write(_encode_line(format_attempt(attempt)))
    # How many there should have been, by the index of keys, which lies on other pages than the rows.
    total = salvage.count_completions(store.database)
    return ExportCounts(exported, lost=None if total is None else total - exported)


def import_completions(store: Store, path: Location, *, paid: bool = False) -> ImportCounts:
    """Take the completions of an export, whose lines must be as they were written; what is here stays as it is.

    With `paid` what the exporting store had paid for, attempts too, counts as paid here: it is the same run, rescued.
    """
    # A transaction a part: an import that is stopped goes on where it was, and memory stays flat.
    read_count = new_count = 0
    for rows in _split_rows(_read_rows(path), _ROWS_PER_TRANSACTION):
        completions, attempts = [], []
        for row in rows:
            if isinstance(row, StoredCompletion):
                completions.append(row._replace(paid=paid and row.paid))
            else:
                attempts.append(row)
        new_count += store.completions.add_exported(completions)
        read_count += len(completions)
        if paid:
            store.attempts.add_exported(attempts)
    return ImportCounts(new=new_count, known=read_count - new_count)


def describe_damage(stored: StoredCompletion) -> str:
    """What is wrong with a stored completion, or ""."""
    if not stored.is_sound:
        return f"completion {stored.key}: its text is not the one that was written"
    try:
        key = stored.recompute_key()
    except (ValueError, KeyError, TypeError) as error:
        return f"completion {stored.key}: its payload can't be read: {error}"
    if key != stored.key:
        return f"completion {stored.key}: its payload has the key {key}"
    return ""


def _readable_attempts(store: Store) -> Iterator[StoredAttempt]:
    """The attempts, as far as they can be read."""
    try:
        yield from store.attempts.iterate()
    except DamagedError:
        return  # the completions are what an export is for


def _encode_line(line: str) -> bytes:
    return f"{line}\n".encode("ascii")


def _read_rows(path: Location) -> Iterator[ExportedRow]:
    with io.TextIOWrapper(path.open("rb"), encoding="ascii", errors="surrogateescape") as file:
        header = _read_header(path, file.readline())
        has_digests = bool(header.get(_DIGESTS))
        for number, line in enumerate(file, start=2):
            try:
                row = parse_row(line, scheme=str(header["scheme"]), has_digests=has_digests)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(
                    f"{path}, line {number} is no line of an export: {type(error).__name__}: {error}",
                    expected="a line as potstill cache export wrote it",
                    fix=_EXPORT_AGAIN,
                ) from error
            yield row.to_current_scheme() if isinstance(row, StoredCompletion) else row


def _read_header(path: Location, line: str) -> dict[str, Any]:
    """The first line of an export; refuses one of another version."""
    try:
        header = json.loads(line)
        kind, scheme, schema = header["potstill"], header["scheme"], header["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not an export of a potstill store",
            expected="a JSONL file that starts with scheme and schema",
            fix="potstill cache export",
        ) from error
    is_known = scheme in (SCHEME, *OLDER_SCHEMES)
    if kind != "completions" or not is_known or not is_readable(str(schema)):
        raise StoreError(
            f"{path} was written by another version of potstill: scheme {scheme}, schema {schema}",
            expected=f"completions of scheme {SCHEME}, schema {SCHEMA}",
            fix="export with this version of potstill",
        )
    return dict(header)


def _split_rows(rows: Iterator[ExportedRow], size: int) -> Iterator[Sequence[ExportedRow]]:
    part: list[ExportedRow] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
