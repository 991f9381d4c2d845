"""The tables of a store, and what becomes of older schemas.

A reader sees one as today's by views in memory, and its file stays as it is. A writer brings the newest of them up to
today's, if only columns were added that may be empty; into the others nothing more is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

SCHEMA = "4"

_ATTEMPTS = """(
    key TEXT NOT NULL, number INTEGER NOT NULL, role TEXT NOT NULL, arm TEXT NOT NULL, model TEXT NOT NULL,
    error NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, cost REAL, seconds REAL NOT NULL, text NOT NULL, billed INTEGER NOT NULL,
    created REAL NOT NULL, UNIQUE (key, number))"""
_INTENTS = """(
    key TEXT PRIMARY KEY, role TEXT NOT NULL, arm TEXT NOT NULL, model TEXT NOT NULL, tokens INTEGER NOT NULL,
    cost REAL NOT NULL, created REAL NOT NULL) WITHOUT ROWID"""
# The columns of completions that an older schema did not have, and what a reader of it sees in them.
_NEW_COLUMNS = {
    "logprobs": "NOT NULL DEFAULT x''",
    "cost": "REAL",
    "served": "NOT NULL DEFAULT ''",
    "tries": "INTEGER NOT NULL DEFAULT 0",
    "paid": "INTEGER NOT NULL DEFAULT 1",
    "sum": "INTEGER",
    "stop_string": "NOT NULL DEFAULT ''",
}
_NEW_IN_3 = "'' AS stop_string"
_ROWS_WITH_LABEL = (
    "CREATE TEMP VIEW rows AS "
    "SELECT rowid AS rowid, arm, '' AS label, stage, position, id FROM main.rows"
)
# When a step of a funnel ended, and when a verdict was given: NULL where an older version wrote it.
_WITHOUT_TIMES = (
    "CREATE TEMP VIEW steps AS SELECT seq AS rowid, seq, arm, operator, label, taken, returned, NULL AS created "
    "FROM main.steps",
    "CREATE TEMP VIEW judgements AS "
    "SELECT rowid AS rowid, key, value, NULL AS created FROM main.judgements",
)
_NEW_IN_2 = "x'' AS logprobs, NULL AS cost, '' AS served, 0 AS tries, 1 AS paid, NULL AS sum"

# What makes the tables of an older schema look like today's. An unqualified name finds the temporary schema first, so
# a reader of an old file sees the new tables and needs no right to write.
_VIEWS: Mapping[str, tuple[str, ...]] = {
    "1": (
        "CREATE TEMP VIEW completions AS "
        f"SELECT rowid AS rowid, *, {_NEW_IN_2}, {_NEW_IN_3} FROM main.completions",
        _ROWS_WITH_LABEL,
        f"CREATE TEMP TABLE attempts {_ATTEMPTS}",
        f"CREATE TEMP TABLE intents {_INTENTS}",
        *_WITHOUT_TIMES,
    ),
    "2": (
        "CREATE TEMP VIEW completions AS "
        f"SELECT rowid AS rowid, *, {_NEW_IN_3} FROM main.completions",
        _ROWS_WITH_LABEL,
        *_WITHOUT_TIMES,
    ),
    "3": _WITHOUT_TIMES,
}

# What makes today's tables of an older schema's, for a writer.
_UPGRADES: Mapping[str, tuple[str, ...]] = {
    "3": (
        "ALTER TABLE steps ADD COLUMN created REAL",
        "ALTER TABLE judgements ADD COLUMN created REAL",
    ),
}

TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE completions (
    key TEXT PRIMARY KEY, role TEXT NOT NULL, arm TEXT NOT NULL, model TEXT NOT NULL, payload TEXT NOT NULL,
    draw INTEGER NOT NULL, text NOT NULL, finish TEXT NOT NULL, error NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, seconds REAL NOT NULL, created REAL NOT NULL,
    {", ".join(f"{name} {kind}" for name, kind in _NEW_COLUMNS.items())});
CREATE TABLE attempts {_ATTEMPTS};
CREATE TABLE intents {_INTENTS};
CREATE TABLE uses (
    arm TEXT, role TEXT, key TEXT, generation INTEGER NOT NULL, PRIMARY KEY (arm, role, key)) WITHOUT ROWID;
CREATE INDEX uses_by_key ON uses (key);
CREATE TABLE judgements (key TEXT PRIMARY KEY, value NOT NULL, created REAL);
CREATE TABLE arms (arm TEXT PRIMARY KEY, generation INTEGER NOT NULL, finished INTEGER NOT NULL);
CREATE TABLE traces (id TEXT PRIMARY KEY, operator TEXT NOT NULL, parents TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE made (seq INTEGER PRIMARY KEY, arm TEXT NOT NULL, id TEXT NOT NULL, notes TEXT NOT NULL, UNIQUE (arm, id));
CREATE TABLE drops (
    seq INTEGER PRIMARY KEY, arm TEXT NOT NULL, id TEXT NOT NULL, operator TEXT NOT NULL, test TEXT NOT NULL,
    reason NOT NULL);
CREATE INDEX drops_by_arm ON drops (arm);
CREATE TABLE steps (
    seq INTEGER PRIMARY KEY, arm TEXT NOT NULL, operator TEXT NOT NULL, label TEXT NOT NULL, taken INTEGER NOT NULL,
    returned INTEGER NOT NULL, created REAL);
CREATE TABLE rows (
    arm TEXT, label TEXT, stage TEXT, position INTEGER, id TEXT NOT NULL, PRIMARY KEY (arm, label, stage, position));
CREATE TABLE students (
    stage TEXT PRIMARY KEY, model TEXT NOT NULL, folder TEXT NOT NULL, settings TEXT NOT NULL, report TEXT NOT NULL,
    created REAL NOT NULL);
"""


def is_readable(schema: str) -> bool:
    """Whether a store of this schema can be read: today's, or one with views that show it as today's."""
    return schema == SCHEMA or schema in _VIEWS


def can_upgrade(schema: str) -> bool:
    """Whether a writer may bring a store of this schema up to today's."""
    return schema in _UPGRADES


def upgrade(connection: sqlite3.Connection, schema: str) -> None:
    """Bring a store up to today's schema: all or nothing, and quick, since no row is written."""
    statements = [*_UPGRADES[schema], f"UPDATE meta SET value = '{SCHEMA}' WHERE name = 'schema'"]
    connection.executescript(f"BEGIN IMMEDIATE; {'; '.join(statements)}; COMMIT;")


def create_views(connection: sqlite3.Connection, schema: str) -> None:
    """Let a reader see an older store as today's; the file stays as it is."""
    connection.execute("PRAGMA temp_store = MEMORY")
    for statement in _VIEWS[schema]:
        connection.execute(statement)
