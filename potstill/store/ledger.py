"""What an arm's program did: traces made, traces dropped with the reason, funnel lines, rows that were trained on."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol, final

from potstill.data.trace_json import (
    annotation_record,
    dump_json,
    identity_record,
    load_json,
    merge_annotations,
)
from potstill.records import Trace, canonical
from potstill.store.admin import parquet
from potstill.store.database import Database, to_column

_TABLES = ("steps", "drops", "made", "rows")


class DroppedTrace(Protocol):
    """A dropped trace with the reason: what `traces.session` calls Drop."""

    @property
    def trace(self) -> Trace:
        """The trace that was dropped."""
        ...

    @property
    def operator(self) -> str:
        """The operator that dropped it."""
        ...

    @property
    def test(self) -> str:
        """The predicate's name."""
        ...

    @property
    def reason(self) -> str:
        """Why it was dropped."""
        ...


@final
class Ledger:
    """Writes down what one arm's program did; a new ledger of the arm forgets what its last run wrote.

    It is a function of the program, not a log: the same program writes the same ledger, however often it was killed. A
    step that comes again keeps the time at which it first ended.
    """

    def __init__(self, database: Database, arm: str) -> None:
        """Begin the arm anew; the completions it needs are counted from here on."""
        self._database, self.arm = database, arm
        with database.transaction() as connection:
            self._earlier_times = _read_step_times(connection, arm)
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE arm = ?", (arm,))
            # What the last run needed stays known under its old generation until `finish`, so that clearing the cache
            # after a crash can't throw away completions that the next run will want.
            connection.execute(
                "INSERT INTO arms VALUES (?, 1, 0) "
                "ON CONFLICT (arm) DO UPDATE SET generation = generation + 1, finished = 0",
                (arm,),
            )

    def add_traces(self, traces: Sequence[Trace]) -> None:
        """Write down new or newly annotated traces; the blank ones a program starts from too, as parents."""
        with self._database.transaction() as connection:
            self._insert_traces(connection, traces)

    def add_drops(self, drops: Sequence[DroppedTrace]) -> None:
        """Write down what was dropped, with operator, predicate and reason."""
        rows = []
        for drop in drops:
            reason = to_column(drop.reason)
            rows.append((self.arm, drop.trace.id, drop.operator, drop.test, reason))
        with self._database.transaction() as connection:
            self._insert_traces(connection, [drop.trace for drop in drops])
            connection.executemany(
                "INSERT INTO drops (arm, id, operator, test, reason) VALUES (?, ?, ?, ?, ?)", rows
            )

    def add_step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """Write a line of the funnel, in program order."""
        step = (operator, label, taken, returned)
        with self._database.transaction() as connection:
            # Threads of `each` may end their steps at once: inside the transaction each takes a time of its own.
            times = self._earlier_times.get(step)
            created = times.popleft() if times else time.time()
            connection.execute(
                "INSERT INTO steps (arm, operator, label, taken, returned, created) VALUES (?, ?, ?, ?, ?, ?)",
                (self.arm, *step, created),
            )

    def rows(self, stage: str, traces: Sequence[Trace], *, label: str = "") -> None:
        """Write down the rows a stage of this arm trains on, in order.

        Args:
            stage: the id under which its student is known.
            traces: the rows.
            label: the stage's name or number in the arm; two stages of one student have two.
        """
        with self._database.transaction() as connection:
            self._insert_traces(connection, traces)
            # A stage that comes twice in one run has the rows of the last time.
            connection.execute(
                "DELETE FROM rows WHERE arm = ? AND label = ? AND stage = ?",
                (self.arm, label, stage),
            )
            placed_ids = []
            for position, trace in enumerate(traces):
                placed_ids.append((self.arm, label, stage, position, trace.id))
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", placed_ids)

    def finish(self) -> None:
        """Mark that the arm's program came to its end, and write its traces and rows as Parquet beside the store.

        Completions that only earlier runs needed are no longer held for it.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM uses WHERE arm = ? AND generation < (SELECT generation FROM arms WHERE arm = ?)",
                (self.arm, self.arm),
            )
            connection.execute("UPDATE arms SET finished = 1 WHERE arm = ?", (self.arm,))
        # After the commit: a process killed here has a finished arm, and Parquet files can be written again any time.
        parquet.write_arm_files(self._database, self._database.path.parent, self.arm)

    def _insert_traces(self, connection: sqlite3.Connection, traces: Sequence[Trace]) -> None:
        """Insert traces that are new, and merge the annotations of all into what the arm has noted of them."""
        # A trace is stored once for all arms; what an arm says of it (verdict, scores, weight) is stored an arm.
        distinct = {trace.id: trace for trace in traces}
        connection.executemany(
            "INSERT OR IGNORE INTO traces VALUES (?, ?, ?, ?)",
            [
                (
                    trace.id,
                    trace.operator,
                    canonical(trace.parents),
                    canonical(identity_record(trace)),
                )
                for trace in distinct.values()
            ],
        )
        # Annotations only ever add up: a call that gives no verdict must not erase an earlier one.
        notes = self._read_notes(list(distinct))
        for trace in traces:
            notes[trace.id] = merge_annotations(notes.get(trace.id, {}), annotation_record(trace))
        connection.executemany(
            "INSERT INTO made (arm, id, notes) VALUES (?, ?, ?) "
            "ON CONFLICT (arm, id) DO UPDATE SET notes = excluded.notes",
            [(self.arm, trace_id, dump_json(notes[trace_id])) for trace_id in distinct],
        )

    def _read_notes(self, ids: Sequence[str]) -> dict[str, dict[str, object]]:
        sql = "SELECT id, notes FROM made WHERE arm = ? AND id IN ({})"
        rows = self._database.read_by_keys(sql, ids, [self.arm])
        return {trace_id: load_json(notes) for trace_id, notes in rows}


def _read_step_times(
    connection: sqlite3.Connection, arm: str
) -> dict[tuple[str, str, int, int], deque[float]]:
    """When the steps of an arm's last run ended, in order, by what a step says; older schemas have no times."""
    sql = """SELECT operator, label, taken, returned, created FROM steps
        WHERE arm = ? AND created IS NOT NULL ORDER BY seq"""
    times: dict[tuple[str, str, int, int], deque[float]] = {}
    for operator, label, taken, returned, created in connection.execute(sql, (arm,)):
        times.setdefault((operator, label, taken, returned), deque()).append(created)
    return times
