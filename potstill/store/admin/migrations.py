"""From one version of a store's tables to the next: in place for a writer, by views in memory for a reader."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

SCHEMA = "2"

_ATTEMPTS = """(
    key TEXT NOT NULL, number INTEGER NOT NULL, role TEXT NOT NULL, arm TEXT NOT NULL, model TEXT NOT NULL,
    error NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, cost REAL, seconds REAL NOT NULL, text NOT NULL, billed INTEGER NOT NULL,
    created REAL NOT NULL, UNIQUE (key, number))"""
_INTENTS = """(
    key TEXT PRIMARY KEY, role TEXT NOT NULL, arm TEXT NOT NULL, model TEXT NOT NULL, tokens INTEGER NOT NULL,
    cost REAL NOT NULL, created REAL NOT NULL) WITHOUT ROWID"""
# What schema 2 has that schema 1 had not: for each table its new columns, and for each new table its columns.
_ADDED = {
    "logprobs": "NOT NULL DEFAULT x''",
    "cost": "REAL",
    "served": "NOT NULL DEFAULT ''",
    "tries": "INTEGER NOT NULL DEFAULT 0",
    "paid": "INTEGER NOT NULL DEFAULT 1",
    "sum": "INTEGER",
}
_DEFAULTS = "x'' AS logprobs, NULL AS cost, '' AS served, 0 AS tries, 1 AS paid, NULL AS sum"

_WRITE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "1": (
        "2",
        (
            *(f"ALTER TABLE completions ADD COLUMN {name} {kind}" for name, kind in _ADDED.items()),
            f"CREATE TABLE attempts {_ATTEMPTS}",
            f"CREATE TABLE intents {_INTENTS}",
        ),
    ),
}
# An unqualified name finds the temporary schema first, so a reader of an old file sees the new tables and needs no
# right to write.
_READ: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "1": (
        "2",
        (
            f"CREATE TEMP VIEW completions AS SELECT rowid AS rowid, *, {_DEFAULTS} FROM main.completions",
            f"CREATE TEMP TABLE attempts {_ATTEMPTS}",
            f"CREATE TEMP TABLE intents {_INTENTS}",
        ),
    ),
}

TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE completions (
    key TEXT PRIMARY KEY, role TEXT NOT NULL, arm TEXT NOT NULL, model TEXT NOT NULL, payload TEXT NOT NULL,
    draw INTEGER NOT NULL, text NOT NULL, finish TEXT NOT NULL, error NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, seconds REAL NOT NULL, created REAL NOT NULL,
    {", ".join(f"{name} {kind}" for name, kind in _ADDED.items())});
CREATE TABLE attempts {_ATTEMPTS};
CREATE TABLE intents {_INTENTS};
CREATE TABLE uses (
    arm TEXT, role TEXT, key TEXT, generation INTEGER NOT NULL, PRIMARY KEY (arm, role, key)) WITHOUT ROWID;
CREATE INDEX uses_by_key ON uses (key);
CREATE TABLE judgements (key TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE arms (arm TEXT PRIMARY KEY, generation INTEGER NOT NULL, finished INTEGER NOT NULL);
CREATE TABLE traces (id TEXT PRIMARY KEY, operator TEXT NOT NULL, parents TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE made (seq INTEGER PRIMARY KEY, arm TEXT NOT NULL, id TEXT NOT NULL, notes TEXT NOT NULL, UNIQUE (arm, id));
CREATE TABLE drops (
    seq INTEGER PRIMARY KEY, arm TEXT NOT NULL, id TEXT NOT NULL, operator TEXT NOT NULL, test TEXT NOT NULL,
    reason NOT NULL);
CREATE INDEX drops_by_arm ON drops (arm);
CREATE TABLE steps (
    seq INTEGER PRIMARY KEY, arm TEXT NOT NULL, operator TEXT NOT NULL, label TEXT NOT NULL, taken INTEGER NOT NULL,
    returned INTEGER NOT NULL);
CREATE TABLE rows (arm TEXT, stage TEXT, position INTEGER, id TEXT NOT NULL, PRIMARY KEY (arm, stage, position));
CREATE TABLE students (
    stage TEXT PRIMARY KEY, model TEXT NOT NULL, folder TEXT NOT NULL, settings TEXT NOT NULL, report TEXT NOT NULL,
    created REAL NOT NULL);
"""


def known(schema: str) -> bool:
    """Whether a store of this schema can be used: today's, or one from which steps lead to it."""
    return schema == SCHEMA or schema in _WRITE


def migrate(connection: sqlite3.Connection, schema: str) -> None:
    """Bring a store of an older schema to today's: one transaction, so a kill leaves the old store or the new one."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        while schema != SCHEMA:
            schema, statements = _WRITE[schema]
            for statement in statements:
                connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (SCHEMA,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def view(connection: sqlite3.Connection, schema: str) -> None:
    """Let a reader see an older store as today's; the file stays as it is."""
    connection.execute("PRAGMA temp_store = MEMORY")
    while schema != SCHEMA:
        schema, statements = _READ[schema]
        for statement in statements:
            connection.execute(statement)
