"""Failed tries, calls that were sent and have not come back, and what everything has cost."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

from potstill.budget.amounts import Intent, Spent
from potstill.models.model import Attempt
from potstill.records import Tokens
from potstill.store.database import Database, from_column, to_column

DIED = "unreachable: the process ended while this call was under way; counted at the most it can have cost"

_COLUMNS = (
    "key, number, role, arm, model, error, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost, "
    "seconds, text, billed, created"
)
_NEXT_NUMBER = "(SELECT coalesce(max(number), 0) + 1 FROM attempts WHERE key = ?)"
_APPEND = f"INSERT INTO attempts ({_COLUMNS}) VALUES (?, {_NEXT_NUMBER}, {', '.join('?' * 13)})"
_ADD = f"INSERT OR IGNORE INTO attempts ({_COLUMNS}) VALUES ({', '.join('?' * 15)})"
_NEXT_NUMBER_OF_ROW = "(SELECT coalesce(max(a.number), 0) + 1 FROM attempts a WHERE a.key = o.key)"
_COMPLETION_TO_ATTEMPT = f"""
    INSERT INTO attempts ({_COLUMNS})
    SELECT key, {_NEXT_NUMBER_OF_ROW}, role, arm, model, error, prompt_tokens, completion_tokens, cached_tokens,
        reasoning_tokens, cost, seconds, text, paid, created FROM completions o WHERE key = ?"""
_INTENTS_TO_ATTEMPTS = f"""
    INSERT INTO attempts ({_COLUMNS})
    SELECT key, {_NEXT_NUMBER_OF_ROW}, role, arm, model, ?, 0, tokens, 0, 0, cost, 0, '', 1, created FROM intents o"""
_SPENT = """
    SELECT role, sum(tokens), sum(cost) FROM (
        SELECT role, prompt_tokens + completion_tokens AS tokens, coalesce(cost, 0) AS cost FROM completions WHERE paid
        UNION ALL SELECT role, prompt_tokens + completion_tokens, coalesce(cost, 0) FROM attempts WHERE billed
        UNION ALL SELECT role, tokens, cost FROM intents)
    GROUP BY role ORDER BY role"""


class StoredAttempt(NamedTuple):
    """An attempt in the store: the key of the completion that it did not become, its number from 1, and for whom."""

    key: str
    number: int
    role: str
    arm: str
    model: str
    attempt: Attempt
    created: float


@final
class Attempts:
    """The tables attempts and intents.

    A completion's own `tries` are written, and its intent is deleted, in the transaction that commits it
    (`Completions.put`); a stored failure that is asked again becomes an attempt there. What is here is the rest:
    `record_intents` before a call is sent, and `adopt_intents` for the calls of a process that died.
    """

    def __init__(self, database: Database) -> None:
        """Read and write through this connection."""
        self._database = database

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Commit, before the calls are sent, what they can cost; a second time under a key replaces the first."""
        now = time.time()
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*intent, now) for intent in intents],
            )

    def add_exported(self, rows: Sequence[StoredAttempt]) -> None:
        """Take attempts from an export; those that are here stay as they are."""
        with self._database.transaction() as connection:
            connection.executemany(_ADD, [_to_row(stored) for stored in rows])

    def withdraw_intents(self, keys: Sequence[str]) -> None:
        """Delete the intents of calls that were never sent."""
        with self._database.transaction() as connection:
            delete_intents(connection, keys)

    def adopt_intents(self) -> int:
        """Count the calls that a dead process left open as attempts at their worst, and return how many.

        Call it before this process's first `record_intents`: a store has one writer, so what is open then is a dead
        process's.
        """
        if not self.open_intents():
            return 0
        with self._database.transaction() as connection:
            # Both or neither: killed between them, the calls would be counted twice or never.
            count = connection.execute(_INTENTS_TO_ATTEMPTS, (DIED,)).rowcount
            connection.execute("DELETE FROM intents")
        return count

    def open_intents(self) -> list[Intent]:
        """The calls that were sent and have not come back, oldest first."""
        # The key decides between intents of one batch, which have one time.
        sql = "SELECT key, role, arm, model, tokens, cost FROM intents ORDER BY created, key"
        return [Intent(*row) for row in self._database.read(sql)]

    def spent_by_role(self) -> dict[str, Spent]:
        """By role, what this store has paid: its own completions, billed attempts, and open calls at their worst.

        Completions that were imported from another store were paid there and do not count.
        """
        rows = self._database.read(_SPENT)
        return {role: Spent(tokens, cost) for role, tokens, cost in rows}

    def wasted_cost(self, arm: str) -> dict[str, float]:
        """By role, the money paid for an arm's attempts."""
        sql = "SELECT role, sum(coalesce(cost, 0)) FROM attempts WHERE arm = ? AND billed GROUP BY role ORDER BY role"
        return dict(self._database.read(sql, (arm,)))

    def by_key(self, keys: Sequence[str]) -> dict[str, list[StoredAttempt]]:
        """The attempts before (or without) these completions, in order."""
        sql = f"SELECT {_COLUMNS} FROM attempts WHERE key IN ({{}}) ORDER BY number"
        attempts: dict[str, list[StoredAttempt]] = {}
        for row in self._database.read_by_keys(sql, keys):
            stored = _from_row(row)
            attempts.setdefault(stored.key, []).append(stored)
        return attempts

    def iterate(self) -> Iterator[StoredAttempt]:
        """Every attempt in the order of writing."""
        return (_from_row(row) for row in self._database.pages("attempts", _COLUMNS))


def append_attempts(
    connection: sqlite3.Connection,
    model: str,
    role: str,
    arm: str,
    tries: Sequence[tuple[str, Attempt]],
) -> None:
    """Append attempts under their keys, inside a transaction."""
    now = time.time()
    rows = []
    for key, attempt in tries:
        # The key stands twice: once as a column, once for the subquery that numbers the attempts of a key.
        rows.append((key, key, role, arm, model, *_attempt_columns(attempt), now))
    if rows:
        connection.executemany(_APPEND, rows)


def completions_to_attempts(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    """Copy the stored completions of these keys, where there are any, to attempts, before others take their place."""
    sql = "SELECT key FROM completions WHERE key IN (SELECT value FROM json_each(?))"
    stored_keys = connection.execute(sql, (json.dumps(list(keys)),)).fetchall()
    # Each gets the next number of its key.
    connection.executemany(_COMPLETION_TO_ATTEMPT, stored_keys)


def delete_intents(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    """Delete the intents of these keys, inside a transaction."""
    # Runs without a budget have no intents: one look saves a statement a key.
    if connection.execute("SELECT 1 FROM intents LIMIT 1").fetchone():
        connection.executemany("DELETE FROM intents WHERE key = ?", [(key,) for key in keys])


def _attempt_columns(attempt: Attempt) -> tuple[Any, ...]:
    """The columns from `error` to `billed`."""
    return (
        to_column(attempt.error),
        *attempt.tokens,
        attempt.cost,
        attempt.seconds,
        to_column(attempt.text),
        attempt.billed,
    )


def _to_row(stored: StoredAttempt) -> tuple[Any, ...]:
    return (
        stored.key,
        stored.number,
        stored.role,
        stored.arm,
        stored.model,
        *_attempt_columns(stored.attempt),
        stored.created,
    )


def _from_row(row: tuple[Any, ...]) -> StoredAttempt:
    key, number, role, arm, model, error = row[:6]
    cost, seconds, text, billed, created = row[10:]
    attempt = Attempt(
        error=from_column(error),
        tokens=Tokens(*row[6:10]),
        cost=cost,
        seconds=seconds,
        text=from_column(text),
        billed=bool(billed),
    )
    return StoredAttempt(key, number, role, arm, model, attempt, created)
