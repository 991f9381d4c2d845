"""Verdicts and model scores under content keys: what was judged once is never judged, or scored, differently later."""

from __future__ import annotations

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

    def put(self, values: Mapping[str, str]) -> None:
        """Store these in one transaction; the first value under a key stays, for rows were already chosen by it."""
        with self._database.transaction() as connection:
            rows = [(key, to_column(value)) for key, value in values.items()]
            connection.executemany("INSERT OR IGNORE INTO judgements VALUES (?, ?)", rows)

    def replace(self, values: Mapping[str, str]) -> None:
        """Store these in the place of what was there: for `verify --again` alone, which judges on purpose once more."""
        with self._database.transaction() as connection:
            rows = [(key, to_column(value)) for key, value in values.items()]
            connection.executemany("INSERT OR REPLACE INTO judgements VALUES (?, ?)", rows)
