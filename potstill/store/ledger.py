"""What an arm's program did: traces made, traces dropped with the reason, funnel lines, rows that were trained on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Protocol, final

from potstill.data.trace_json import dump, load, made_part, merged, notes_part
from potstill.records import Trace, canonical
from potstill.store.admin import parquet
from potstill.store.database import Database, to_column

_TABLES = ("steps", "drops", "made", "rows")


class Loss(Protocol):
    """A dropped trace: what `traces.session` calls Drop."""

    @property
    def trace(self) -> Trace:
        """What was taken out."""
        ...

    @property
    def operator(self) -> str:
        """The operator that did it."""
        ...

    @property
    def test(self) -> str:
        """The predicate's name."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...


@final
class Ledger:
    """Writes down one arm: a function of the program, not a log, so a new one forgets what the arm's last run wrote."""

    def __init__(self, database: Database, arm: str) -> None:
        """Begin the arm anew; the completions it needs are counted from here on."""
        self._database, self.arm = database, arm
        with database.transaction() as connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE arm = ?", (arm,))
            # What the last run needed stays known under its old generation until `finish`, so that clearing the cache
            # after a crash can't throw away completions that the next run will want.
            connection.execute(
                "INSERT INTO arms VALUES (?, 1, 0) "
                "ON CONFLICT (arm) DO UPDATE SET generation = generation + 1, finished = 0",
                (arm,),
            )

    def made(self, traces: Sequence[Trace]) -> None:
        """New or newly annotated traces; also the blank ones a program starts from, so that every parent resolves."""
        with self._database.transaction() as connection:
            self._enter(connection, traces)

    def dropped(self, drops: Sequence[Loss]) -> None:
        """What was taken out, with operator, predicate and reason."""
        rows = [(self.arm, d.trace.id, d.operator, d.test, to_column(d.reason)) for d in drops]
        with self._database.transaction() as connection:
            self._enter(connection, [d.trace for d in drops])
            connection.executemany(
                "INSERT INTO drops (arm, id, operator, test, reason) VALUES (?, ?, ?, ?, ?)", rows
            )

    def step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """A line of the funnel, in program order."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO steps (arm, operator, label, taken, returned) VALUES (?, ?, ?, ?, ?)",
                (self.arm, operator, label, taken, returned),
            )

    def rows(self, stage: str, traces: Sequence[Trace]) -> None:
        """The rows a stage of this arm trains on, in order."""
        with self._database.transaction() as connection:
            self._enter(connection, traces)
            connection.execute("DELETE FROM rows WHERE arm = ? AND stage = ?", (self.arm, stage))
            numbered = [
                (self.arm, stage, position, trace.id) for position, trace in enumerate(traces)
            ]
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", numbered)

    def finish(self) -> None:
        """The arm's program came to its end; its traces and rows are written as Parquet beside the store.

        Completions that only earlier runs needed are no longer held for it.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM uses WHERE arm = ? AND generation < (SELECT generation FROM arms WHERE arm = ?)",
                (self.arm, self.arm),
            )
            connection.execute("UPDATE arms SET finished = 1 WHERE arm = ?", (self.arm,))
        parquet.write(self._database, self._database.path.parent, self.arm)

    def _enter(self, connection: sqlite3.Connection, traces: Sequence[Trace]) -> None:
        known = self._notes([trace.id for trace in traces])
        for trace in traces:
            known[trace.id] = merged(known.get(trace.id, {}), notes_part(trace))
        distinct = {trace.id: trace for trace in traces}
        connection.executemany(
            "INSERT OR IGNORE INTO traces VALUES (?, ?, ?, ?)",
            [
                (t.id, t.operator, canonical(t.parents), canonical(made_part(t)))
                for t in distinct.values()
            ],
        )
        connection.executemany(
            "INSERT INTO made (arm, id, notes) VALUES (?, ?, ?) "
            "ON CONFLICT (arm, id) DO UPDATE SET notes = excluded.notes",
            [(self.arm, key, dump(known[key])) for key in distinct],
        )

    def _notes(self, ids: Sequence[str]) -> dict[str, dict[str, object]]:
        sql = "SELECT id, notes FROM made WHERE arm = ? AND id IN ({})"
        return {key: load(notes) for key, notes in self._database.among(sql, ids, [self.arm])}
