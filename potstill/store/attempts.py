"""Tries that did not become a completion, calls that have left and not come back, and what everything has cost."""

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
_NUMBER = "(SELECT coalesce(max(number), 0) + 1 FROM attempts WHERE key = ?)"
_INSERT = f"INSERT INTO attempts ({_COLUMNS}) VALUES (?, {_NUMBER}, {', '.join('?' * 13)})"
_ADD = f"INSERT OR IGNORE INTO attempts ({_COLUMNS}) VALUES ({', '.join('?' * 15)})"
_NEXT = "(SELECT coalesce(max(a.number), 0) + 1 FROM attempts a WHERE a.key = o.key)"
_REPLACED = f"""
    INSERT INTO attempts ({_COLUMNS})
    SELECT key, {_NEXT}, role, arm, model, error, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens,
        cost, seconds, text, paid, created FROM completions o WHERE key = ?"""
_DIED = f"""
    INSERT INTO attempts ({_COLUMNS})
    SELECT key, {_NEXT}, role, arm, model, ?, 0, tokens, 0, 0, cost, 0, '', 1, created FROM intents o"""
_SPENT = """
    SELECT role, sum(tokens), sum(cost) FROM (
        SELECT role, prompt_tokens + completion_tokens AS tokens, coalesce(cost, 0) AS cost FROM completions WHERE paid
        UNION ALL SELECT role, prompt_tokens + completion_tokens, coalesce(cost, 0) FROM attempts WHERE billed
        UNION ALL SELECT role, tokens, cost FROM intents)
    GROUP BY role ORDER BY role"""


class Tried(NamedTuple):
    """A stored attempt: the key of the completion that it did not become, its number from 1, and for whom it was."""

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

    A completion's own `tries` are written, and its intent is taken away, in the transaction that commits it
    (`Completions.put`); a stored failure that is asked again becomes an attempt there. What is here is the rest:
    `intend` before a call leaves, `lost` for calls that end without a completion, and `adopt` for a dead process's.
    """

    def __init__(self, database: Database) -> None:
        """Read and write through this connection."""
        self._database = database

    def intend(self, intents: Sequence[Intent]) -> None:
        """Keep, before the calls leave, what they can cost; a second time under a key replaces the first."""
        now = time.time()
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*intent, now) for intent in intents],
            )

    def lost(self, model: str, role: str, arm: str, tries: Sequence[tuple[str, Attempt]]) -> None:
        """Keep tries, by key, whose completion will not come in this run; their intents are settled by that."""
        with self._database.transaction() as connection:
            write(connection, model, role, arm, tries)
            settled(connection, [key for key, _ in tries])

    def add(self, rows: Sequence[Tried]) -> None:
        """Take attempts from an export; those that are here stay as they are."""
        with self._database.transaction() as connection:
            connection.executemany(_ADD, [_row(tried) for tried in rows])

    def withdraw(self, keys: Sequence[str]) -> None:
        """Take away the intents of calls that never left."""
        with self._database.transaction() as connection:
            settled(connection, keys)

    def adopt(self) -> int:
        """Count the calls that a dead process left open as attempts at their worst, and return how many.

        Call it before this process's first `intend`: a store has one writer, so what is open then is a dead one's.
        """
        if not self.intents():
            return 0
        with self._database.transaction() as connection:
            count = connection.execute(_DIED, (DIED,)).rowcount
            connection.execute("DELETE FROM intents")
        return count

    def intents(self) -> list[Intent]:
        """The calls that are open, oldest first."""
        sql = "SELECT key, role, arm, model, tokens, cost FROM intents ORDER BY created, key"
        return [Intent(*row) for row in self._database.read(sql)]

    def spent(self) -> dict[str, Spent]:
        """By role, what this store has paid: its own completions, billed attempts, and open calls at their worst.

        Completions that were imported from another store were paid there and do not count.
        """
        return {role: Spent(tokens, cost) for role, tokens, cost in self._database.read(_SPENT)}

    def wasted(self, arm: str) -> dict[str, float]:
        """By role, the money paid for an arm's attempts."""
        sql = "SELECT role, sum(coalesce(cost, 0)) FROM attempts WHERE arm = ? AND billed GROUP BY role ORDER BY role"
        return {row[0]: row[1] for row in self._database.read(sql, (arm,))}

    def of(self, keys: Sequence[str]) -> dict[str, list[Tried]]:
        """The attempts before (or without) these completions, in order."""
        found: dict[str, list[Tried]] = {}
        for row in self._database.among(
            f"SELECT {_COLUMNS} FROM attempts WHERE key IN ({{}}) ORDER BY number", keys
        ):
            found.setdefault(row[0], []).append(_tried(row))
        return found

    def all(self) -> Iterator[Tried]:
        """Every attempt in the order of writing."""
        return (_tried(row) for row in self._database.pages("attempts", _COLUMNS))


def write(
    connection: sqlite3.Connection,
    model: str,
    role: str,
    arm: str,
    tries: Sequence[tuple[str, Attempt]],
) -> None:
    """Append attempts under their keys, inside a transaction."""
    now = time.time()
    rows = [
        (
            key,
            key,
            role,
            arm,
            model,
            to_column(t.error),
            *t.tokens,
            t.cost,
            t.seconds,
            to_column(t.text),
            t.billed,
            now,
        )
        for key, t in tries
    ]
    if rows:
        connection.executemany(_INSERT, rows)


def replaced(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    """Turn the stored completions of these keys, where there are any, into attempts, before others take their place."""
    sql = "SELECT key FROM completions WHERE key IN (SELECT value FROM json_each(?))"
    connection.executemany(_REPLACED, connection.execute(sql, (json.dumps(list(keys)),)).fetchall())


def settled(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    """Take away the intents of these keys, inside a transaction."""
    if connection.execute("SELECT 1 FROM intents LIMIT 1").fetchone():
        connection.executemany("DELETE FROM intents WHERE key = ?", [(key,) for key in keys])


def _row(tried: Tried) -> tuple[Any, ...]:
    one = tried.attempt
    texts = (to_column(one.error), to_column(one.text))
    return (
        *tried[:5],
        texts[0],
        *one.tokens,
        one.cost,
        one.seconds,
        texts[1],
        one.billed,
        tried.created,
    )


def _tried(row: tuple[Any, ...]) -> Tried:
    attempt = Attempt(
        from_column(row[5]),
        Tokens(*row[6:10]),
        row[10],
        row[11],
        from_column(row[12]),
        bool(row[13]),
    )
    key, number, role, arm, model = row[:5]
    return Tried(key, number, role, arm, model, attempt, row[14])
