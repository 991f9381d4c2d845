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
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from potstill.verifiers.sql import results, statements

NO_ROWS = "0 rows: the gold query returns nothing"
MAX_CELLS = 5_000_000  # of a result
MAX_BYTES = 10_000_000  # of a value or a statement
HEAP_BYTES = 512 << 20  # that sqlite may take
STEPS_PER_CLOCK = 10_000  # steps of sqlite's machine between two looks at the clock
MAX_DEPTH = 200  # of an expression
SHOWN_ROWS = 50  # of a result that is looked at
SHOWN_CHARACTERS = 200  # of a cell that is looked at

Outcome = list[str]
"""[class, reason]: pass, wrong, time, memory, runtime, syntax, refused, or "gold" where the gold query fails."""

_FORBIDDEN_FUNCTIONS = frozenset(
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
# Statements that are known and no queries; anything else that begins otherwise is a syntax error.
# fmt: off
_WRITING_STATEMENTS = frozenset({
    "INSERT", "UPDATE", "DELETE", "REPLACE", "TRUNCATE",
    "DROP", "CREATE", "ALTER", "REINDEX", "ANALYZE", "VACUUM",
    "ATTACH", "DETACH", "USE", "PRAGMA", "SET", "CALL",
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "CHECKPOINT",
    "COPY", "EXPORT", "IMPORT", "INSTALL", "LOAD", "EXPLAIN", "EXECUTE", "PREPARE", "GRANT",
})
# fmt: on
_REFUSED_MESSAGE = re.compile(r"not authorized|prohibited", re.IGNORECASE)
_SYNTAX_MESSAGE = re.compile(r"syntax error|incomplete input|unrecognized token", re.IGNORECASE)
_MEMORY_MESSAGE = re.compile(r"out of memory|too big|too large|memory", re.IGNORECASE)
_SQL_SCRIPT = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:CREATE|INSERT|BEGIN|DROP|PRAGMA|WITH)\b",
    re.IGNORECASE | re.DOTALL,
)


class QueryFailed(Exception):
    """A query that did not come to its end: its class and why."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


class GoldResult(NamedTuple):
    """The gold rows, the columns where a query gave them, those that order them, and whether order counts."""

    rows: list[Any]
    columns: list[str] | None
    order_columns: list[int] | None
    ordered: bool


def compare_queries(table: str, gold: str, candidate: str, seconds: float) -> Outcome:
    """Run both queries and compare their rows.

    Args:
        table: the database, as SQL, JSON or CSV.
        gold: the gold query, or its result as JSON.
        candidate: the query that is judged.
        seconds: of computing that each query may take.
    """
    try:
        expected = _gold_result(table, gold, seconds)
    except QueryFailed as failure:
        return ["gold", f"{failure.outcome}: {failure.reason}"]
    try:
        statement = _single_query(candidate)
        rows, columns = _run_query(table, statement, seconds, max_rows=len(expected.rows) + 1)
    except QueryFailed as failure:
        return [failure.outcome, failure.reason]
    if not expected.rows and not rows:
        return _compare_empty(expected.columns, columns)
    if len(rows) > len(expected.rows):
        return ["wrong", f"more than {len(expected.rows)} rows"]
    difference = results.find_difference(
        expected.rows, rows, expected.order_columns, ordered=expected.ordered
    )
    return ["wrong", difference] if difference else ["pass", f"{len(rows)} rows"]


def show_rows(table: str, query: str, seconds: float) -> Outcome:
    """Run a query, and write its rows down: ["pass", the columns' names and the rows, a line each], or how it failed.

    Args:
        table: the database, as SQL, JSON or CSV.
        query: what is asked.
        seconds: of computing that it may take.
    """
    try:
        statement = _single_query(query)
        rows, columns = _run_query(table, statement, seconds, max_rows=SHOWN_ROWS + 1)
    except QueryFailed as failure:
        return [failure.outcome, failure.reason]
    lines = [" | ".join(columns)]
    for row in rows[:SHOWN_ROWS]:
        cells = [str(cell).replace("\n", " ")[:SHOWN_CHARACTERS] for cell in row]
        lines.append(" | ".join(cells))
    if len(rows) > SHOWN_ROWS:
        lines.append(f"(more than {SHOWN_ROWS} rows)")
    return ["pass", "\n".join(lines)]


def _compare_empty(gold_columns: list[str] | None, columns: list[str]) -> Outcome:
    """Two results without rows: any query without rows would be right if their columns did not count."""
    if gold_columns is None:
        return ["pass", NO_ROWS]
    if [name.lower() for name in columns] == [name.lower() for name in gold_columns]:
        return ["pass", NO_ROWS]
    found, expected = ", ".join(columns), ", ".join(gold_columns)
    return ["wrong", f"no rows of the columns ({found}), not ({expected})"]


# A worker judges many candidates of one problem: gold rows and databases stay.
@lru_cache(64)
def _gold_result(table: str, gold: str, seconds: float) -> GoldResult:
    if not statements.begins_as_query(gold):
        return _written_result(gold)
    statement = _single_query(gold)
    rows, columns = _run_query(table, statement, seconds, max_rows=0)
    terms = statements.order_terms(statement)
    return GoldResult(rows, columns, _order_columns(terms or [], columns), terms is not None)


def _written_result(gold: str) -> GoldResult:
    """A result written out: JSON rows, `{"rows": …, "ordered": true}`, or one value."""
    rows, ordered = parse_written_rows(gold)
    tuples = [tuple(row) if isinstance(row, list) else (row,) for row in rows]
    return GoldResult(tuples, None, None, ordered)


def parse_written_rows(gold: str) -> tuple[list[Any], bool]:
    """Return the rows of a result written out, and whether their order counts."""
    try:
        data = json.loads(gold)
    except ValueError:
        data = gold.strip()
    if isinstance(data, dict):
        return data.get("rows", []), bool(data.get("ordered"))
    if isinstance(data, list):
        return data, False
    return [[data]], False


def _order_columns(terms: list[str], columns: Sequence[str]) -> list[int] | None:
    """Which columns the terms of an ORDER BY are; None unless all are columns of the result."""
    names = [name.lower() for name in columns]
    indices: list[int] = []
    for term in terms:
        if term.isdecimal() and 0 < int(term) <= len(names):
            indices.append(int(term) - 1)
        elif names.count(term) == 1:
            indices.append(names.index(term))
        else:
            return None
    return indices or None


def _single_query(sql: str) -> str:
    """The last statement, which must be a query, as must those before it."""
    if len(sql) > statements.MAX_CHARACTERS:
        raise QueryFailed("refused", f"a query of {len(sql)} characters")
    parts = statements.split_statements(sql)
    if not parts:
        raise QueryFailed("syntax", "no statement")
    for statement in parts:
        if not statements.begins_as_query(statement):
            word = statement.split()[0][:20]
            if word.upper() in _WRITING_STATEMENTS:
                raise QueryFailed("refused", f"{word} is no query")
            raise QueryFailed("syntax", f"{word} is no query")
    return parts[-1]


def _run_query(
    table: str, statement: str, seconds: float, *, max_rows: int
) -> tuple[list[Any], list[str]]:
    """Rows and the columns' names; 0 as `max_rows` is all within MAX_CELLS."""
    try:
        database = _open_database(table)
        # sqlite calls the handler between its steps, and interrupts the query when it returns true.
        end = time.process_time() + seconds
        database.set_progress_handler(lambda: time.process_time() > end, STEPS_PER_CLOCK)
        try:
            return _fetch_rows(database.execute(statement), max_rows)
        finally:
            database.set_progress_handler(None, 0)
    except QueryFailed:
        raise
    except MemoryError:
        raise QueryFailed("memory", "out of memory") from None
    except Exception as error:
        # Boundary: whatever sqlite raises on a hostile query is a class with a reason.
        raise QueryFailed(_outcome_of_error(error), f"{str(error)[:160]}") from None


def _outcome_of_error(error: Exception) -> str:
    message = f"{type(error).__name__}: {error}"
    if "interrupt" in message.lower():
        return "time"
    if _REFUSED_MESSAGE.search(message):
        return "refused"
    if _SYNTAX_MESSAGE.search(message):
        return "syntax"
    if _MEMORY_MESSAGE.search(message):
        return "memory"
    return "runtime"


def _fetch_rows(cursor: sqlite3.Cursor, max_rows: int) -> tuple[list[Any], list[str]]:
    # In portions, so that a result that never ends stops at its limit.
    columns = [str(column[0]) for column in cursor.description or ()]
    limit = max_rows or MAX_CELLS // max(len(columns), 1)
    rows: list[Any] = []
    while len(rows) < limit:
        part = cursor.fetchmany(min(1_000, limit - len(rows)))
        if not part:
            break
        rows += part
    if not max_rows and len(rows) >= limit:
        raise QueryFailed("memory", f"more than {limit} rows")
    return rows, columns


@lru_cache(8)
def _open_database(table: str) -> sqlite3.Connection:
    """The tables in memory, from then on read-only."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, MAX_DEPTH)
    database.execute("PRAGMA temp_store=MEMORY")
    database.execute(f"PRAGMA hard_heap_limit={HEAP_BYTES}")
    # Building and reading are allowed different things.
    database.set_authorizer(_authorize_building)
    try:
        _build_tables(table, database)
    except sqlite3.Error as error:
        raise QueryFailed("runtime", f"the tables can't be made: {error}") from None
    database.set_authorizer(_authorize_reading)
    return database


def _authorize_building(action: int, *_: Any) -> int:
    """The tables' own text may write tables, but touch no file."""
    files = (
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_CREATE_VTABLE,
    )
    return sqlite3.SQLITE_DENY if action in files else sqlite3.SQLITE_OK


def _authorize_reading(action: int, _: Any, name: Any, *__: Any) -> int:
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(name).lower() not in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _build_tables(table: str, database: sqlite3.Connection) -> None:
    """Tables from SQL, from JSON (name to rows, or name to columns and rows), or from CSV as the table `t`."""
    if _SQL_SCRIPT.match(table.strip()):
        database.executescript(table.strip())
        return
    for name, columns, rows in tables_of_data(table):
        _create_table(database, name, columns, rows)


def tables_of_data(text: str) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """The name, columns and rows of each table that JSON or CSV holds; nothing for SQL."""
    text = text.strip()
    if text.startswith(("{", "[")):
        yield from _tables_of_json(json.loads(text))
    elif text and not _SQL_SCRIPT.match(text):
        header, *lines = csv.reader(io.StringIO(text))
        yield "t", header, [list(map(_parse_cell, line)) for line in lines if line]


def _tables_of_json(data: Any) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """The name, columns and rows of each table."""
    tables = {"t": data} if isinstance(data, list) else data.get("tables", data)
    for name, content in tables.items():
        if isinstance(content, str):
            continue  # `"engine": "sqlite"` is no table
        if isinstance(content, dict):
            columns, rows = [str(column) for column in content["columns"]], content["rows"]
        else:
            columns = _columns_of_records(content)
            rows = [[record.get(column) for column in columns] for record in content]
        cells: list[list[Any]] = []
        for row in rows:
            cells.append([_plain_cell(cell) for cell in row])
        yield str(name), columns, cells


def _columns_of_records(records: list[dict[str, Any]]) -> list[str]:
    """Every key of the records, in the order in which they first come."""
    columns: dict[str, None] = {}
    for record in records:
        columns.update(dict.fromkeys(map(str, record)))
    return list(columns)


def _plain_cell(cell: Any) -> Any:
    """A nested value as JSON text."""
    return json.dumps(cell) if isinstance(cell, dict | list) else cell


def _parse_cell(text: str) -> Any:
    """A CSV cell: a number where it is written as one, NULL where it is empty."""
    if text == "":
        return None
    value = results.normalise_cell(text)
    if isinstance(value, str) or str(value) != text.strip():
        return text
    return value


def _create_table(
    database: sqlite3.Connection,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> None:
    database.execute(table_definition(name, columns, rows))
    placeholders = ", ".join("?" * len(columns))
    for row in rows:
        database.execute(f"INSERT INTO {_quote(name)} VALUES ({placeholders})", list(row))


def table_definition(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The CREATE TABLE of a table, with types that fit its cells."""
    definitions: list[str] = []
    for index, column in enumerate(columns):
        definitions.append(f"{_quote(column)} {_column_type([row[index] for row in rows])}")
    return f"CREATE TABLE {_quote(name)} ({', '.join(definitions)})"


def _column_type(cells: Sequence[Any]) -> str:
    present = [cell for cell in cells if cell is not None]
    if present and all(isinstance(cell, bool | int) for cell in present):
        return "BIGINT"
    if present and all(isinstance(cell, int | float) for cell in present):
        return "DOUBLE"
    return "TEXT"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
