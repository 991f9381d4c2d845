"""Reading around damage: every completion of a store that can still be read, and how many can't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from potstill.store.database import DamagedError, Database

PAGE = 1000
_BEYOND = 100_000  # rowids that are tried one by one where nothing says how far the table goes
_INDEX = "main.completions INDEXED BY sqlite_autoindex_completions_1"


def rows(database: Database, columns: str) -> Iterator[tuple[Any, ...]]:
    """Every readable row of the completions in the order of writing.

    A page that can't be read is stepped over: first the rows before it, then row by row to where reading succeeds.
    """
    last, size, end = -1, PAGE, None
    sql = f"SELECT rowid, {columns} FROM completions WHERE rowid > ? ORDER BY rowid LIMIT ?"
    while end is None or last < end:
        try:
            page = database.read(sql, (last, size))
        except DamagedError:
            if size > 1:
                size = max(1, size // 10)
                continue
            end = _end(database, last) if end is None else end
            after = _after(database, columns, last, end)
            yield from _singly(database, columns, last + 1, after)
            last, size = after - 1, PAGE
            continue
        if not page:
            return
        last = page[-1][0]
        yield from (row[1:] for row in page)


def count(database: Database) -> int | None:
    """How many completions there are by the index of keys, which other pages hold; None where that can't be read."""
    try:
        return len(database.read(f"SELECT rowid FROM {_INDEX} ORDER BY key"))
    except DamagedError:
        return None


def _after(database: Database, columns: str, last: int, end: int) -> int:
    """A rowid beyond the damage that follows `last`, from which reading succeeds; past the end where there is none."""
    sql = f"SELECT {columns} FROM completions WHERE rowid >= ? ORDER BY rowid LIMIT 1"
    step = 1
    while (tried := last + 1 + step) <= end:
        try:
            database.read(sql, (tried,))
            return tried
        except DamagedError:
            step *= 2
    return end + 1


def _singly(database: Database, columns: str, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
    for rowid in range(start, stop):
        try:
            yield from database.read(f"SELECT {columns} FROM completions WHERE rowid = ?", (rowid,))
        except DamagedError:
            continue  # counted by who knows how many there are


def _end(database: Database, last: int) -> int:
    """The last rowid, from the table or from the index of keys."""
    for sql in (
        "SELECT max(rowid) FROM main.completions",
        f"SELECT rowid FROM {_INDEX} ORDER BY key",
    ):
        try:
            return max((rowid or 0 for (rowid,) in database.read(sql)), default=0)
        except DamagedError:
            continue
    return last + _BEYOND
