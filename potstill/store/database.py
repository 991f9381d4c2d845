"""The SQLite file under a store: its tables, its version, and every way it can fail, said clearly."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from potstill.errors import StoreError
from potstill.records import SCHEME
from potstill.store.admin import migrations
from potstill.store.admin.migrations import SCHEMA

FILE = "store.sqlite"
BUSY_SECONDS = 10.0
_CHUNK = 500  # keys a SELECT: below SQLite's oldest limit of 999 variables


class DamagedError(StoreError):
    """Pages that can't be read; the others can, so `salvage` steps over them."""


@final
class Database:
    """One SQLite connection that threads share behind a lock; every failure comes out as a StoreError."""

    def __init__(self, path: Path, *, create: bool, readonly: bool) -> None:
        """Open the file, make its tables if it is new and `create`, and refuse one of another version."""
        self.path = path
        self.readonly = readonly
        self._lock = threading.RLock()
        with _explained(path):
            self._connection = _connect(path, readonly)
            try:
                self._prepare(create and not readonly)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, create: bool) -> None:
        tables = {
            name
            for (name,) in self._connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
        }
        if not tables and create:
            # WAL + NORMAL: a killed process loses nothing that was committed; a power cut may lose the last commits,
            # each of them whole; those are drawn again. FULL would wait for the disk at every small ledger entry.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(f"BEGIN IMMEDIATE; {migrations.TABLES}{_meta()} COMMIT;")
        elif "meta" not in tables:
            raise StoreError(
                f"{self.path} is not a potstill store"
                + (f": it holds {', '.join(sorted(tables))}" if tables else ""),
                expected=f"the tables of a potstill store, scheme {SCHEME}, schema {SCHEMA}",
                fix=moved_away(self.path),
            )
        self._update()
        if not self.readonly:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def _update(self) -> None:
        """Refuse another version, but take an older schema that can be brought up to date."""
        found = dict(self._connection.execute("SELECT name, value FROM meta"))
        schema = str(found.get("schema"))
        if found.get("scheme") != SCHEME or not migrations.known(schema):
            raise StoreError(
                f"{self.path} was written by another version of potstill: scheme {found.get('scheme', 'none')}, "
                f"schema {found.get('schema', 'none')}",
                expected=f"scheme {SCHEME}, schema {SCHEMA}",
                fix=moved_away(self.path.parent),
            )
        if schema != SCHEMA:
            (migrations.view if self.readonly else migrations.migrate)(self._connection, schema)

    def read(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        with self._lock, _explained(self.path):
            return self._connection.execute(sql, args).fetchall()

    def among(
        self, sql: str, keys: Sequence[str], before: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a SELECT whose `IN ({})` is filled with any number of keys; `before` binds what stands ahead."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), _CHUNK):
            part = keys[start : start + _CHUNK]
            rows += self.read(sql.format(",".join("?" * len(part))), [*before, *part])
        return rows

    def pages(self, table: str, columns: str, size: int = 1000) -> Iterator[tuple[Any, ...]]:
        """Every row of a table in the order of writing, a page at a time: a large store never lies in memory."""
        last = -1
        while page := self.read(
            f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (last, size),
        ):
            last = page[-1][0]
            yield from (row[1:] for row in page)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end, rolls back on any exception, KeyboardInterrupt included."""
        if self.readonly:
            raise StoreError(
                f"{self.path} was opened for reading only",
                fix="open the store without readonly=True",
            )
        with self._lock, _explained(self.path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection; SQLite then folds the log into the file."""
        with self._lock:
            self._connection.close()


def to_column(text: str) -> str | bytes:
    """A string as a column: as it is, or as bytes where it holds lone surrogates, which SQLite's UTF-8 can't."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_column(value: str | bytes) -> str:
    """The string that `to_column` was given."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def moved_away(path: Path) -> str:
    """The command that keeps something unreadable and makes room for a fresh one."""
    return (
        f'mv "{path}" "{path}.old", then run the same command again; or choose another run folder'
    )


def rescued(folder: Path) -> str:
    """The commands that save what can be read of a damaged store, and go on with it."""
    return (
        f'potstill cache export "{folder}" --out rescued.jsonl, which saves what can be read; then mv "{folder}" '
        f'"{folder}.old", potstill cache import "{folder}" rescued.jsonl --paid, and run the same command again'
    )


def _meta() -> str:
    return f"INSERT INTO meta VALUES ('scheme', '{SCHEME}'), ('schema', '{SCHEMA}');"


def _connect(path: Path, readonly: bool) -> sqlite3.Connection:
    if not readonly:
        return _link(path.as_uri())
    connection = _link(f"{path.as_uri()}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        # An archived run in a folder where SQLite may not even lay its index beside the file: nobody writes there.
        return _link(f"{path.as_uri()}?immutable=1")
    return connection


def _link(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # a bug of ours, not a state of the file
    except sqlite3.DatabaseError as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A text that is no UTF-8 was written over: SQLite has no checksums, and Python's message no code.
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or str(error).startswith(
        "Could not decode"
    ):
        return DamagedError(
            f"{path} is damaged or is not a database: {error}",
            expected="an SQLite file written by potstill",
            fix=moved_away(path) if code == sqlite3.SQLITE_NOTADB else rescued(path.parent),
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(
            f"{path} is locked by another program: {error}",
            expected=f"the file to be free within {BUSY_SECONDS:g} s",
            fix="close the program that has it open (a database browser?), then run the same command again",
        )
    if code in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    ):
        return StoreError(
            f"cannot read or write {path}: {error}",
            expected="a file and a folder that you may write to, on a disk with space left",
            fix=f'free space, or chmod -R u+rw "{path.parent}", or choose another run folder',
        )
    return StoreError(
        f"the store {path} failed: {error}", fix=f'potstill cache verify "{path.parent}"'
    )
