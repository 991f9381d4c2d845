"""Reading what the ledgers wrote: an arm's funnel and drops, its traces, and where any row came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

from potstill.data.trace_json import from_record
from potstill.records import Trace
from potstill.store.database import Database, from_column


class Step(NamedTuple):
    """A line of the funnel: how many traces a bulk call took and returned."""

    operator: str
    label: str
    taken: int
    returned: int


class Dropped(NamedTuple):
    """A dropped trace by its id: by which operator and predicate, and why."""

    id: str
    operator: str
    test: str
    reason: str


@final
class History:
    """The reading side of every arm's ledger."""

    def __init__(self, database: Database) -> None:
        """Read through this connection."""
        self._database = database

    def arms(self) -> dict[str, bool]:
        """The arms that were begun, in that order, and whether each came to its end."""
        return {
            arm: bool(done)
            for arm, done in self._database.read("SELECT arm, finished FROM arms ORDER BY rowid")
        }

    def steps(self, arm: str) -> list[Step]:
        """The arm's funnel in program order."""
        sql = "SELECT operator, label, taken, returned FROM steps WHERE arm = ? ORDER BY seq"
        return [Step(*row) for row in self._database.read(sql, (arm,))]

    def drops(self, arm: str) -> list[Dropped]:
        """What the arm dropped, in that order."""
        sql = "SELECT id, operator, test, reason FROM drops WHERE arm = ? ORDER BY seq"
        return [
            Dropped(key, operator, test, from_column(reason))
            for key, operator, test, reason in self._database.read(sql, (arm,))
        ]

    def count(self, arm: str) -> int:
        """How many traces the arm made, blank ones included."""
        return int(self._database.read("SELECT count(*) FROM made WHERE arm = ?", (arm,))[0][0])

    def trace(self, id: str, arm: str = "") -> Trace | None:
        """One trace, with the annotations of `arm` if it is given; None where no arm made it."""
        return next(self._traces([id], arm), None)

    def traces(self, arm: str, operator: str = "") -> Iterator[Trace]:
        """The arm's traces in the order they were made, those of one operator if it is named; a page at a time."""
        # NOT INDEXED: by the index over arms, each page would read and sort the whole arm again.
        sql = (
            "SELECT m.seq, t.record, m.notes FROM made m NOT INDEXED JOIN traces t ON t.id = m.id "
            "WHERE m.arm = ? AND ? IN ('', t.operator) AND m.seq > ? ORDER BY m.seq LIMIT 500"
        )
        last = -1
        while page := self._database.read(sql, (arm, operator, last)):
            last = page[-1][0]
            yield from (
                from_record({**json.loads(record), **json.loads(notes)})
                for _, record, notes in page
            )

    def some(self, ids: Sequence[str], arm: str) -> Iterator[Trace]:
        """Those of these traces that are stored, in this order, with the arm's annotations."""
        return self._traces(ids, arm)

    def rows(self, arm: str) -> dict[str, list[str]]:
        """The ids of the rows that each of the arm's stages trained on, in order, by stage id."""
        stages: dict[str, list[str]] = {}
        sql = "SELECT stage, id FROM rows WHERE arm = ? ORDER BY rowid"
        for stage, key in self._database.read(sql, (arm,)):
            stages.setdefault(stage, []).append(key)
        return stages

    def ancestry(self, id: str, arm: str = "") -> list[Trace]:
        """The trace and everything it came from, nearest first; what the store doesn't have is left out."""
        seen: dict[str, None] = {id: None}
        found: list[Trace] = []
        front = [id]
        while front:
            level = list(self._traces(front, arm))
            found += level
            front = [p for p in dict.fromkeys(p for t in level for p in t.parents) if p not in seen]
            seen.update(dict.fromkeys(front))
        return found

    def missing(self) -> list[tuple[str, str]]:
        """Pairs (trace id, parent id) whose parent no ledger ever saw."""
        sql = (
            "SELECT t.id, p.value FROM traces t, json_each(t.parents) p LEFT JOIN traces o ON o.id = p.value "
            "WHERE o.id IS NULL ORDER BY t.rowid, p.key"
        )
        return [(child, parent) for child, parent in self._database.read(sql)]

    def _traces(self, ids: Iterable[str], arm: str) -> Iterator[Trace]:
        wanted = list(ids)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            records: dict[str, dict[str, Any]] = {
                key: json.loads(record)
                for key, record in self._database.among(
                    "SELECT id, record FROM traces WHERE id IN ({})", part
                )
            }
            sql = "SELECT id, notes FROM made WHERE arm = ? AND id IN ({})"
            notes = {key: json.loads(text) for key, text in self._database.among(sql, part, [arm])}
            yield from (
                from_record({**records[key], **notes.get(key, {})})
                for key in part
                if key in records
            )
