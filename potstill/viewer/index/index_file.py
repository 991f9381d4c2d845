"""The index's SQLite file: where it lies, its tables, and when it is thrown away.

It is named by the run's path and lies in the user's cache. It belongs to one store: where the store's file or this
format is another, the tables are emptied and filled anew. Statements name its tables as `view.…`: it is attached to the
connection that reads the store.

Tables, from the store's point of view:

- `entries`: a row of the ledger `made`, so a trace that two arms made stands twice. It holds what lists are sorted by;
  `call` is the place of the completion that it came from, 0 where there is none, and null until that was looked up.
- `groups`: the combinations of what lists are filtered and counted by (arm, operator, verdict, …). There are some
  hundreds of them, and an entry names one by its number: counts of every facet come from one count by group.
- `ids`, `problems`: a number for each trace and each problem.
- `drops`, `placed`, `scores`, `descents`: what a trace may have none or several of.
- `words`: the full text of traces by their numbers.
- `calls`: the completions by what their author is in a trace. `minutes`: the same, added up by minute.
- `served`: what a server last called each model.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import final

from potstill.data.user_cache import cache_folder
from potstill.errors import StoreError
from potstill.store import database
from potstill.store.database import Database

FORMAT = "3"  # of the tables below; another one is thrown away

GROUP_COLUMNS = (
    "arm",
    "operator",
    "status",
    "finish",
    "model",
    "saw_gold",
    "is_prefixed",
    "failure",
    "kind",
    "source",
)

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE arms (
    arm TEXT PRIMARY KEY, generation INTEGER NOT NULL, is_finished INTEGER NOT NULL, is_complete INTEGER NOT NULL,
    last_seq INTEGER NOT NULL, last_drop INTEGER NOT NULL);
CREATE TABLE ids (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE problems (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, version INTEGER NOT NULL, question TEXT, answer TEXT, kind TEXT,
    source TEXT, metadata TEXT, length INTEGER, UNIQUE (id, version));
CREATE TABLE groups (
    number INTEGER PRIMARY KEY, arm TEXT, operator TEXT, status TEXT, finish TEXT, model TEXT, saw_gold INTEGER,
    is_prefixed INTEGER, failure TEXT, kind TEXT, source TEXT,
    UNIQUE (arm, operator, status, finish, model, saw_gold, is_prefixed, failure, kind, source));
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, trace INTEGER NOT NULL, "group" INTEGER NOT NULL, problem INTEGER NOT NULL,
    tokens INTEGER, prompt_tokens INTEGER, reasoning_tokens INTEGER, length INTEGER, draw INTEGER, weight REAL,
    steps INTEGER, wrong_steps INTEGER, first_wrong INTEGER, prompt TEXT, answer TEXT, reason TEXT, root TEXT,
    checksum INTEGER NOT NULL, call INTEGER, seconds REAL, cost REAL, created REAL);
CREATE INDEX entries_by_group ON entries ("group", seq);
CREATE INDEX entries_by_trace ON entries (trace);
CREATE INDEX entries_by_problem ON entries (problem, "group", seq);
CREATE INDEX entries_without_call ON entries (seq) WHERE call IS NULL;
CREATE INDEX entries_by_prompt ON entries (prompt) WHERE prompt IS NOT NULL;
CREATE TABLE scores (name TEXT, seq INTEGER, value REAL, text TEXT, PRIMARY KEY (name, seq)) WITHOUT ROWID;
CREATE INDEX scores_by_seq ON scores (seq);
CREATE TABLE drops (
    place INTEGER PRIMARY KEY, arm TEXT NOT NULL, seq INTEGER, test TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX drops_by_seq ON drops (seq);
CREATE INDEX drops_by_test ON drops (test, seq);
CREATE INDEX drops_by_reason ON drops (reason, seq);
CREATE TABLE placed (
    arm TEXT, stage TEXT, position INTEGER, label TEXT, seq INTEGER,
    PRIMARY KEY (arm, stage, label, position)) WITHOUT ROWID;
CREATE INDEX placed_by_seq ON placed (seq);
CREATE TABLE descents (parent INTEGER, child INTEGER, PRIMARY KEY (parent, child)) WITHOUT ROWID;
CREATE TABLE calls (
    place INTEGER PRIMARY KEY, key TEXT NOT NULL, prompt TEXT NOT NULL, draw INTEGER NOT NULL, model TEXT NOT NULL,
    seconds REAL, cost REAL, created REAL);
CREATE INDEX calls_by_author ON calls (prompt, draw, model);
CREATE INDEX calls_by_seconds ON calls (model, seconds);
CREATE TABLE minutes (
    minute INTEGER, arm TEXT, role TEXT, model TEXT, calls INTEGER, errors INTEGER, prompt_tokens INTEGER,
    completion_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER, cost REAL, seconds REAL,
    paid_tokens INTEGER, paid_cost REAL,
    PRIMARY KEY (minute, arm, role, model)) WITHOUT ROWID;
CREATE TABLE served (model TEXT PRIMARY KEY, name NOT NULL) WITHOUT ROWID;
"""
WORDS_TABLE = """
CREATE VIRTUAL TABLE words USING fts5(text, question, content='', tokenize='unicode61');
"""
TABLE_NAMES = (
    *("meta", "arms", "ids", "problems", "groups", "entries", "scores", "drops", "placed"),
    *("descents", "calls", "minutes", "served", "words"),
)


def default_index_folder() -> Path:
    """Where indexes lie: in the user's cache, or in the folder of temporary files where that can't be written."""
    folder = cache_folder() / "view"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"potstill-view-{os.getuid()}"
        folder.mkdir(exist_ok=True, mode=0o700)
    return folder


@final
class IndexFile:
    """The index file of one run.

    Args:
        run: the run folder.
        folder: where index files lie.
    """

    def __init__(self, run: Path, folder: Path) -> None:
        self._run = run
        # Of the resolved path: a run is one run, by whatever link it was opened. Names need not be UTF-8.
        name = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]
        self.path = folder / f"{name}.sqlite"
        self._lock = threading.Lock()
        self._is_checked = False
        self._mark = 0

    def attach(self, store: Database) -> None:
        """Attach the index to a connection of the store, as `view`; it is made first where there is none that fits."""
        with self._lock:
            # The cache may be emptied while the viewer runs.
            if not self._is_checked or not self.path.exists():
                self._prepare()
                self._is_checked = True
        # The store stays read-only: the mode is that of the attached file alone. Without it SQLite would make an
        # empty file where the index has just been deleted.
        store.attach(f"{self.path.absolute().as_uri()}?mode=rw", "view")

    def progress_mark(self) -> int:
        """A number that grows with every portion that is added to the index."""
        return self._mark

    def has_grown(self) -> None:
        """Note that a portion was added."""
        self._mark += 1

    def _prepare(self) -> None:
        """Make the file, or empty one that belongs to another store or has another format."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._make_tables()
        except sqlite3.DatabaseError:
            # Damaged, or no index at all: it holds nothing that is not in the store.
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            try:
                self._make_tables()
            except sqlite3.DatabaseError as error:
                raise StoreError(
                    f"the viewer's index {self.path} can't be written: {error}",
                    expected="a cache folder on a disk with space left",
                    fix="set XDG_CACHE_HOME to a folder that you may write to",
                ) from error

    def _make_tables(self) -> None:
        identity = self._identity()
        connection = sqlite3.connect(self.path, timeout=database.BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Two viewers of one run may start at once: the second waits here, and finds the tables made.
            connection.execute("BEGIN IMMEDIATE")
            if _read_identity(connection) != identity:
                for name in TABLE_NAMES:
                    connection.execute(f"DROP TABLE IF EXISTS {name}")
                for statement in TABLES.strip().removesuffix(";").split(";\n"):
                    connection.execute(statement)
                if has_full_text(connection):
                    connection.execute(WORDS_TABLE)
                connection.execute("INSERT INTO meta VALUES ('identity', ?)", (identity,))
            connection.execute("COMMIT")
        finally:
            connection.close()
        # It holds the run's texts, whatever the umask is.
        self.path.chmod(0o600)

    def _identity(self) -> str:
        """What the index belongs to: the format, and the file of the store."""
        # The inode, not the size or the time: a store grows, and the index follows it.
        status = (self._run / database.FILE).stat()
        return f"{FORMAT} {status.st_dev} {status.st_ino}"


def has_full_text(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite has FTS5; without it search is for literal texts alone."""
    options = {name for (name,) in connection.execute("PRAGMA compile_options")}
    return "ENABLE_FTS5" in options


def _read_identity(connection: sqlite3.Connection) -> str:
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'meta'"
    if connection.execute(sql).fetchone() is None:
        return ""
    row = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
    return str(row[0]) if row else ""
