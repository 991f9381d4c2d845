"""Verdicts and model scores under content keys: what was judged once is never judged, or scored, differently later."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import final

from potstill.store.database import Database, from_column, to_column


@final
class Verdicts:
    """A table of canonical JSON under content keys; a session of `traces` reads and writes verdicts through it."""

    def __init__(self, database: Database) -> None:
        """Read and write through this connection."""
        self._database = database

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """The values that are there."""
        # Keys hold the verifier's version and the text, so a value never goes stale.
        rows = self._database.read_by_keys(
            "SELECT key, value FROM judgements WHERE key IN ({})", keys
        )
        return {key: from_column(value) for key, value in rows}

    def created(self, key: str) -> float | None:
        """When the value under a key was stored, in seconds since 1970; None where that is not known."""
        rows = self._database.read("SELECT created FROM judgements WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def put(self, values: Mapping[str, str]) -> None:
        """Store these in one transaction; the first value under a key stays, for rows were already chosen by it."""
        with self._database.transaction() as connection:
            sql = "INSERT OR IGNORE INTO judgements VALUES (?, ?, ?)"
            connection.executemany(sql, _rows(values))

    def replace(self, values: Mapping[str, str]) -> None:
        """Store these in the place of what was there: for `verify --again` alone, which judges on purpose once more."""
        with self._database.transaction() as connection:
            sql = "INSERT OR REPLACE INTO judgements VALUES (?, ?, ?)"
            connection.executemany(sql, _rows(values))


def _rows(values: Mapping[str, str]) -> list[tuple[str, str | bytes, float]]:
    now = time.time()
    return [(key, to_column(value), now) for key, value in values.items()]
