"""Reading around damage: every completion of a store that can still be read, and how many can't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from potstill.store.database import DamagedError, Database

PAGE = 1000
_SEARCH_BEYOND = (
    100_000  # rowids that are tried one by one where nothing says how far the table goes
)
_KEY_INDEX = "main.completions INDEXED BY sqlite_autoindex_completions_1"


def readable_rows(database: Database, columns: str) -> Iterator[tuple[Any, ...]]:
    """Every readable row of the completions in the order of writing.

    A page that can't be read is stepped over: first the rows before it, then row by row to where reading succeeds.
    """
    last, size = -1, PAGE
    end: int | None = None  # the last rowid, looked up at the first damage
    sql = f"SELECT rowid, {columns} FROM completions WHERE rowid > ? ORDER BY rowid LIMIT ?"
    while end is None or last < end:
        try:
            page = database.read(sql, (last, size))
        except DamagedError:
            if size > 1:
                # Fewer rows at once: those before the damage are still read by this statement.
                size = max(1, size // 10)
                continue
            if end is None:
                end = _last_rowid(database, last)
            resume = _first_readable(database, columns, last, end)
            yield from _read_singly(database, columns, last + 1, resume)
            last, size = resume - 1, PAGE
            continue
        if not page:
            return
        last = page[-1][0]
        for _, *values in page:
            yield tuple(values)


def count_completions(database: Database) -> int | None:
    """How many completions there are by the index of keys, which other pages hold; None where that can't be read."""
    try:
        return len(database.read(f"SELECT rowid FROM {_KEY_INDEX} ORDER BY key"))
    except DamagedError:
        return None


def _first_readable(database: Database, columns: str, last: int, end: int) -> int:
    """A rowid beyond the damage that follows `last`, from which reading succeeds; past the end where there is none."""
    sql = f"SELECT {columns} FROM completions WHERE rowid >= ? ORDER BY rowid LIMIT 1"
    # Twice as far each time: what is stepped over too many is read singly afterwards.
    step = 1
    while last + 1 + step <= end:
        rowid = last + 1 + step
        try:
            database.read(sql, (rowid,))
            return rowid
        except DamagedError:
            step *= 2
    return end + 1


def _read_singly(
    database: Database, columns: str, start: int, stop: int
) -> Iterator[tuple[Any, ...]]:
    for rowid in range(start, stop):
        try:
            yield from database.read(f"SELECT {columns} FROM completions WHERE rowid = ?", (rowid,))
        except DamagedError:
            continue  # lost; `count_completions` tells how many there should be


def _last_rowid(database: Database, last: int) -> int:
    """The last rowid, from the table or from the index of keys; a guess beyond `last` where neither can be read."""
    for sql in (
        "SELECT max(rowid) FROM main.completions",
        f"SELECT rowid FROM {_KEY_INDEX} ORDER BY key",
    ):
        try:
            rowids = [rowid or 0 for (rowid,) in database.read(sql)]
        except DamagedError:
            continue
        return max(rowids, default=0)
    return last + _SEARCH_BEYOND
