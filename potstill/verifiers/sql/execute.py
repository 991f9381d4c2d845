"""The child side of the table verifier: builds the database in memory, runs gold and candidate queries read-only.

sqlite's authorizer lets SELECT, reading and functions through, and nothing else: no ATTACH, PRAGMA, write, extension.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from potstill.verifiers.sql import results, statements

CELLS = 5_000_000  # cells of a result
LENGTH = 10_000_000  # bytes of a value or a statement
HEAP = 512 << 20  # bytes that sqlite may take
EVERY = 10_000  # steps of sqlite's machine between two looks at the clock

Outcome = list[str]
_FORBIDDEN = frozenset(
    {
        "load_extension",
        "readfile",
        "writefile",
        "edit",
        "fts3_tokenizer",
        "random",
        "randomblob",
        "sqlite_log",
    }
)
_SYNTAX = re.compile(r"syntax error|incomplete input|unrecognized token", re.IGNORECASE)
_REFUSED = re.compile(r"not authorized|prohibited", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory|too big|too large|memory", re.IGNORECASE)


class Failed(Exception):
    """A query that did not come to its end: its class and why."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, why


def run(table: str, gold: str, candidate: str, seconds: float) -> Outcome:
    """[class, why]: pass, wrong, time, memory, runtime, syntax, refused, or "gold" where the gold query fails."""
    try:
        wanted, keys, ordered = _gold(table, gold, seconds)
    except Failed as failure:
        return ["gold", f"{failure.kind}: {failure.why}"]
    try:
        statement = _single(candidate)
        found, _ = _rows(table, statement, seconds, len(wanted) + 1)
    except Failed as failure:
        return [failure.kind, failure.why]
    more = len(found) > len(wanted)
    difference = (
        f"more than {len(wanted)} rows"
        if more
        else results.same(wanted, found, keys, ordered=ordered)
    )
    return ["wrong", difference] if difference else ["pass", f"{len(found)} rows"]


@lru_cache(64)
def _gold(table: str, gold: str, seconds: float) -> tuple[list[Any], list[int] | None, bool]:
    """The gold rows, the columns that order them where they are known, and whether order counts."""
    if not statements.reads(gold):
        return _given(gold)
    statement = _single(gold)
    rows, names = _rows(table, statement, seconds, 0)
    terms = statements.order(statement)
    return rows, _keys(terms, names), terms is not None


def _given(gold: str) -> tuple[list[Any], list[int] | None, bool]:
    """A result written out: JSON rows, `{"rows": …, "ordered": true}`, or one value."""
    try:
        data = json.loads(gold)
    except ValueError:
        data = gold.strip()
    ordered = bool(data.get("ordered")) if isinstance(data, dict) else False
    rows = (
        data.get("rows", [])
        if isinstance(data, dict)
        else data
        if isinstance(data, list)
        else [[data]]
    )
    return [tuple(row) if isinstance(row, list) else (row,) for row in rows], None, ordered


def _keys(terms: list[str] | None, names: Sequence[str]) -> list[int] | None:
    """Which columns the terms are; None unless all are columns of the result."""
    lower = [name.lower() for name in names]
    keys = []
    for term in terms or []:
        if term.isdecimal() and 0 < int(term) <= len(names):
            keys.append(int(term) - 1)
        elif lower.count(term) == 1:
            keys.append(lower.index(term))
        else:
            return None
    return keys or None


def _single(sql: str) -> str:
    """The last statement, which must be a query, as must those before it."""
    if len(sql) > statements.LONGEST:
        raise Failed("refused", f"a query of {len(sql)} characters")
    found = statements.split_statements(sql)
    if not found:
        raise Failed("syntax", "no statement")
    other = next((statement for statement in found if not statements.reads(statement)), None)
    if other is not None:
        word = other.split()[0][:20]
        known = word.upper() in _WRITES
        raise Failed("refused" if known else "syntax", f"{word} is no query")
    return found[-1]


_WRITES = frozenset(
    (
        *(
            "INSERT",
            "UPDATE",
            "DELETE",
            "REPLACE",
            "TRUNCATE",
            "DROP",
            "CREATE",
            "ALTER",
            "REINDEX",
            "ANALYZE",
            "VACUUM",
        ),
        *(
            "ATTACH",
            "DETACH",
            "USE",
            "PRAGMA",
            "SET",
            "CALL",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT",
            "CHECKPOINT",
        ),
        *("COPY", "EXPORT", "IMPORT", "INSTALL", "LOAD", "EXPLAIN", "EXECUTE", "PREPARE", "GRANT"),
    )
)


def _rows(table: str, statement: str, seconds: float, most: int) -> tuple[list[Any], list[str]]:
    """Rows (at most so many, 0 is all within CELLS) and the columns' names."""
    try:
        return _sqlite(table, statement, seconds, most)
    except Failed:
        raise
    except MemoryError:
        raise Failed("memory", "out of memory") from None
    except (
        Exception
    ) as error:  # boundary: whatever an engine raises on a hostile query is a class with a reason
        raise Failed(_kind(error), f"{str(error)[:160]}") from None


def _kind(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    if "interrupt" in said.lower():
        return "time"
    for kind, pattern in (("refused", _REFUSED), ("syntax", _SYNTAX), ("memory", _MEMORY)):
        if pattern.search(said):
            return kind
    return "runtime"


def _sqlite(schema: str, statement: str, seconds: float, most: int) -> tuple[list[Any], list[str]]:
    database = _database(schema)
    end = time.process_time() + seconds
    database.set_progress_handler(lambda: time.process_time() > end, EVERY)
    try:
        cursor = database.execute(statement)
        return _fetched(cursor.fetchmany, most, cursor.description)
    finally:
        database.set_progress_handler(None, 0)


def _fetched(
    fetch: Callable[[int], list[Any]], most: int, columns: Any
) -> tuple[list[Any], list[str]]:
    names = [str(column[0]) for column in columns or ()]
    rows: list[Any] = []
    limit = most or CELLS // max(len(names), 1)
    while len(rows) < limit and (part := fetch(min(1_000, limit - len(rows)))):
        rows += part
    if not most and len(rows) >= limit:
        raise Failed("memory", f"more than {limit} rows")
    return rows, names


@lru_cache(8)
def _database(schema: str) -> sqlite3.Connection:
    """The tables in memory, from then on read-only."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LENGTH)
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
    database.execute("PRAGMA temp_store=MEMORY")
    database.execute(f"PRAGMA hard_heap_limit={HEAP}")
    database.set_authorizer(_may_build)
    try:
        _build(schema, database.executescript, database.execute)
    except sqlite3.Error as error:
        raise Failed("runtime", f"the tables can't be made: {error}") from None
    database.set_authorizer(_may_read)
    return database


def _may_build(action: int, *_: Any) -> int:
    """The tables' own text may write tables, but touch no file."""
    files = (
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_CREATE_VTABLE,
    )
    return sqlite3.SQLITE_DENY if action in files else sqlite3.SQLITE_OK


def _may_read(action: int, _: Any, name: Any, *__: Any) -> int:
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(name).lower() not in _FORBIDDEN:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _build(schema: str, script: Callable[[str], Any], insert: Callable[..., Any]) -> None:
    """Tables from SQL, from JSON (name to rows, or name to columns and rows), or from CSV as the table `t`."""
    text = schema.strip()
    if text[:1] in "{[" and text:
        for name, columns, rows in _json_tables(json.loads(text)):
            _create(name, columns, rows, insert)
    elif re.match(
        r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:CREATE|INSERT|BEGIN|DROP|PRAGMA|WITH)\b", text, re.I | re.S
    ):
        script(text)
    elif text:
        lines = list(csv.reader(io.StringIO(text)))
        _create(
            "t", lines[0], [[_cell(cell) for cell in line] for line in lines[1:] if line], insert
        )


def _json_tables(data: Any) -> Iterable[tuple[str, list[str], list[list[Any]]]]:
    tables = {"t": data} if isinstance(data, list) else data.get("tables", data)
    for name, held in tables.items():
        if isinstance(held, str):
            continue  # `"engine": "sqlite"` is no table
        if isinstance(held, dict):
            columns, rows = [str(column) for column in held["columns"]], held["rows"]
        else:
            columns = list(dict.fromkeys(str(key) for row in held for key in row))
            rows = [[row.get(column) for column in columns] for row in held]
        yield str(name), columns, [[_plain(cell) for cell in row] for row in rows]


def _plain(cell: Any) -> Any:
    return json.dumps(cell) if isinstance(cell, dict | list) else cell


def _cell(text: str) -> Any:
    """A CSV cell: a number where it is written as one, NULL where it is empty."""
    number = results.value(text)
    return (
        None
        if text == ""
        else text
        if isinstance(number, str) or str(number) != text.strip()
        else number
    )


def _create(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], execute: Callable[..., Any]
) -> None:
    names = ", ".join(
        f"{_quoted(c)} {_type([row[i] for row in rows])}" for i, c in enumerate(columns)
    )
    execute(f"CREATE TABLE {_quoted(name)} ({names})")
    for row in rows:
        execute(f"INSERT INTO {_quoted(name)} VALUES ({', '.join('?' * len(columns))})", list(row))


def _type(cells: Sequence[Any]) -> str:
    known = [cell for cell in cells if cell is not None]
    if known and all(isinstance(cell, bool | int) for cell in known):
        return "BIGINT"
    return "DOUBLE" if known and all(isinstance(cell, int | float) for cell in known) else "TEXT"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
