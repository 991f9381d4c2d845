"""The SQLite file under a store: its tables, its version, and a clear error for every way it can fail."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from potstill.errors import StoreError
from potstill.records import OLDER_SCHEMES, SCHEME
from potstill.store import lock
from potstill.store.admin import migrations
from potstill.store.admin.migrations import SCHEMA

FILE = "store.sqlite"
BUSY_SECONDS = 10.0
_KEYS_PER_SELECT = 500  # below SQLite's oldest limit of 999 variables
_PAGE_ROWS = 1000


class DamagedError(StoreError):
    """Pages that can't be read; the others can, so `salvage` steps over them."""


@final
class Database:
    """One SQLite connection that threads share behind a lock; every failure comes out as a StoreError."""

    def __init__(self, path: Path, *, create: bool, readonly: bool) -> None:
        """Open the file, make its tables if it is new and `create`, and refuse one of another version."""
        self.path = path
        self.readonly = readonly
        # Re-entrant: what is inside a transaction may read through the same Database.
        self._lock = threading.RLock()
        with _explain_errors(path):
            self._connection = _connect(path, readonly)
            try:
                self._prepare(create and not readonly)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, create: bool) -> None:
        """Make the tables of a new file, or check that these are the tables of a store."""
        # An empty file has no tables: it is new, or its maker was killed before its first commit.
        sql = "SELECT name FROM sqlite_master WHERE type = 'table'"
        tables = {name for (name,) in self._connection.execute(sql)}
        if not tables and create:
            # WAL + NORMAL: a killed process loses nothing that was committed; a power cut may lose the last commits,
            # each of them whole; those are drawn again. FULL would wait for the disk at every small ledger entry.
            self._connection.execute("PRAGMA journal_mode = WAL")
            # One transaction: a process killed here leaves an empty file, which the next one fills.
            version = f"INSERT INTO meta VALUES ('scheme', '{SCHEME}'), ('schema', '{SCHEMA}');"
            self._connection.executescript(f"BEGIN IMMEDIATE; {migrations.TABLES}{version} COMMIT;")
        elif "meta" not in tables:
            contents = f": it holds {', '.join(sorted(tables))}" if tables else ""
            raise StoreError(
                f"{self.path} is not a potstill store{contents}",
                expected=f"the tables of a potstill store, scheme {SCHEME}, schema {SCHEMA}",
                fix=move_away_command(self.path),
            )
        self._check_version()
        if not self.readonly:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def _check_version(self) -> None:
        """Refuse another version; an older schema is brought up to date for a writer, or opened for reading only."""
        meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        scheme, schema = str(meta.get("scheme", "none")), str(meta.get("schema", "none"))
        self.scheme = scheme
        if scheme not in (SCHEME, *OLDER_SCHEMES) or not migrations.is_readable(schema):
            raise StoreError(
                f"{self.path} was written by another version of potstill: scheme {scheme}, schema {schema}",
                expected=f"scheme {SCHEME}, schema {SCHEMA}",
                fix=move_away_command(self.path.parent),
            )
        if (scheme, schema) == (SCHEME, SCHEMA):
            return
        if not self.readonly and scheme == SCHEME and migrations.can_upgrade(schema):
            migrations.upgrade(self._connection, schema)
            return
        if not self.readonly:
            raise StoreError(
                f"{self.path} was written by an older version of potstill: scheme {scheme}, "
                f"schema {schema}, which is only read",
                expected=f"scheme {SCHEME}, schema {SCHEMA} to write into",
                fix=rescue_command(self.path.parent),
            )
        if schema != SCHEMA:
            migrations.create_views(self._connection, schema)

    def read(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        with self._lock, _explain_errors(self.path):
            return self._connection.execute(sql, args).fetchall()

    def read_by_keys(
        self, sql: str, keys: Sequence[str], args: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a SELECT whose `IN ({})` is filled with any number of keys.

        Args:
            sql: with one `IN ({})`.
            keys: to fill it with; as many SELECTs as they need.
            args: values of the placeholders that stand before it.
        """
        # A SELECT a part. Rows come in no order that a caller may rely on.
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), _KEYS_PER_SELECT):
            part = keys[start : start + _KEYS_PER_SELECT]
            placeholders = ",".join("?" * len(part))
            rows += self.read(sql.format(placeholders), [*args, *part])
        return rows

    def pages(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        """Every row of a table in the order of writing, read in pages: a large store never lies in memory."""
        sql = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?"
        # By rowid and not by OFFSET: a page costs the same wherever it lies, and rows may be added meanwhile.
        last_rowid = -1
        while page := self.read(sql, (last_rowid, _PAGE_ROWS)):
            last_rowid = page[-1][0]
            for _, *values in page:
                yield tuple(values)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end, rolls back on any exception, KeyboardInterrupt included."""
        if self.readonly:
            raise StoreError(
                f"{self.path} was opened for reading only",
                fix="open the store without readonly=True",
            )
        with self.attached_transaction():
            yield self._connection

    def attach(self, uri: str, name: str) -> None:
        """Let statements name the tables of another SQLite file, as NAME.TABLE.

        It may hold what SQLite makes of JSON: texts with lone surrogates, which are no UTF-8.

        Args:
            uri: of the file, with the mode in which it is opened.
            name: of its tables.
        """
        with self._lock:
            self._connection.execute(f"ATTACH ? AS {name}", (uri,))
            self._connection.text_factory = _decode_text

    def create_function(self, name: str, arguments: int, function: Callable[..., Any]) -> None:
        """Let statements call a function of Python's, whose value its arguments decide."""
        with self._lock:
            self._connection.create_function(name, arguments, function, deterministic=True)

    @contextmanager
    def attached_transaction(self) -> Iterator[None]:
        """One view of the store, and all or nothing in what is attached, which a reader of the store may write to."""
        with self._lock, _explain_errors(self.path):
            try:
                # IMMEDIATE takes the right to write now, not at the first write, when another may have it.
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, on a full disk for instance.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all statements of the block see the file, and what is attached, as they were at the first of them."""
        with self._lock, _explain_errors(self.path):
            if self._connection.in_transaction:  # inside another one, which goes on
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

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


def _decode_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def from_column(value: str | bytes) -> str:
    """The string that `to_column` was given."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def move_away_command(path: Path) -> str:
    """The command that keeps something unreadable and makes room for a fresh one."""
    return (
        f'mv "{path}" "{path}.old", then run the same command again; or choose another run folder'
    )


def rescue_command(folder: Path) -> str:
    """The commands that save what can be read of a damaged store, and go on with it."""
    return (
        f'potstill cache export "{folder}" --out rescued.jsonl, which saves what can be read; then mv "{folder}" '
        f'"{folder}.old", potstill cache import "{folder}" rescued.jsonl --paid, and run the same command again'
    )


def _connect(path: Path, readonly: bool) -> sqlite3.Connection:
    if not readonly:
        return _connect_uri(path.as_uri())
    log = path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not has_log and not lock.has_writer(path.with_name(lock.FILE)):
        # Everything is in the file, and nobody writes: immutable, SQLite lays no log and no index beside it, which
        # would change an archived run and fail in a folder that may not be written to.
        return _connect_uri(f"{path.as_uri()}?immutable=1")
    connection = _connect_uri(f"{path.as_uri()}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        return _connect_to_copy(path, log)
    return connection


def _connect_to_copy(path: Path, log: Path) -> sqlite3.Connection:
    """A connection to a copy of a killed run's store, in a folder where SQLite may not write the index of the log."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        copy = Path(folder) / path.name
        try:
            shutil.copyfile(path, copy)
            shutil.copyfile(log, copy.with_name(log.name))
        except OSError as error:
            raise lock.unwritable_folder_error(path.parent, error) from error
        # Fold the log into the copy; its file lives on, without a name, until the connection is closed.
        writer = _connect_uri(copy.as_uri())
        writer.execute("PRAGMA journal_mode = DELETE")
        writer.close()
        return _connect_uri(f"{copy.as_uri()}?immutable=1")


def _connect_uri(uri: str) -> sqlite3.Connection:
    # No isolation level: transactions begin where `Database.transaction` says, never by themselves. Threads share the
    # connection under the Database's lock.
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into a StoreError that says what to do."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # a bug of ours, not a state of the file
    except sqlite3.DatabaseError as error:
        raise _store_error(path, error) from error


def _store_error(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A text that is no UTF-8 was written over: SQLite has no checksums, and Python's message no code.
    is_undecodable = str(error).startswith("Could not decode")
    if code == sqlite3.SQLITE_NOTADB:
        return _damaged_error(path, error, fix=move_away_command(path))
    if code == sqlite3.SQLITE_CORRUPT or is_undecodable:
        return _damaged_error(path, error, fix=rescue_command(path.parent))
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


def _damaged_error(path: Path, error: sqlite3.DatabaseError, *, fix: str) -> DamagedError:
    return DamagedError(
        f"{path} is damaged or is not a database: {error}",
        expected="an SQLite file written by potstill",
        fix=fix,
    )
