"""Reading what the ledgers wrote: an arm's funnel and drops, its traces, and the ancestry of any row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, final

from potstill.data.trace_json import from_record
from potstill.records import Trace
from potstill.store.database import Database, from_column, to_column

_TRACES_PER_READ = 500
_TRACE_ID = re.compile(r"trace-[0-9a-f]{20}")


class Step(NamedTuple):
    """A line of the funnel: how many traces a bulk call took and returned."""

    operator: str
    label: str
    taken: int
    returned: int


class StageRows(NamedTuple):
    """A stage of an arm: its name or number, the id under which its student is known, the ids of its rows."""

    label: str
    stage: str
    row_ids: list[str]


class DropRecord(NamedTuple):
    """A dropped trace by its id: by which operator and predicate, and why."""

    id: str
    operator: str
    test: str
    reason: str

    @property
    def general_reason(self) -> str:
        """The reason without the ids of single traces in it."""
        return generalise_reason(self.reason)


class DropCount(NamedTuple):
    """How often a test dropped traces, and how many these are: one trace may be dropped twice."""

    operator: str
    test: str
    reason: str
    drops: int
    traces: int


def generalise_reason(reason: str) -> str:
    """A reason without the ids of single traces in it."""
    return _TRACE_ID.sub("another trace", reason)


def _generalise_column(reason: str | bytes) -> str | bytes:
    return to_column(generalise_reason(from_column(reason)))


@final
class History:
    """The reading side of every arm's ledger."""

    def __init__(self, database: Database) -> None:
        """Read through this connection."""
        self._database = database

    def arms(self) -> dict[str, bool]:
        """The arms that were begun, in that order, and whether each came to its end."""
        rows = self._database.read("SELECT arm, finished FROM arms ORDER BY rowid")
        return {arm: bool(is_finished) for arm, is_finished in rows}

    def steps(self, arm: str) -> list[Step]:
        """The arm's funnel in program order."""
        sql = "SELECT operator, label, taken, returned FROM steps WHERE arm = ? ORDER BY seq"
        return [Step(*row) for row in self._database.read(sql, (arm,))]

    def step_times(self, arm: str) -> list[float | None]:
        """When each step of the arm's funnel ended, in program order; None where an older version wrote it."""
        sql = "SELECT created FROM steps WHERE arm = ? ORDER BY seq"
        return [created for (created,) in self._database.read(sql, (arm,))]

    def drops(self, arm: str) -> list[DropRecord]:
        """What the arm dropped, in that order."""
        sql = "SELECT id, operator, test, reason FROM drops WHERE arm = ? ORDER BY seq"
        drops = []
        for trace_id, operator, test, reason in self._database.read(sql, (arm,)):
            drops.append(DropRecord(trace_id, operator, test, from_column(reason)))
        return drops

    def count_drops_by_reason(self, arm: str) -> list[DropCount]:
        """What the arm dropped, by operator, test and reason without ids; the most frequent first."""
        # Most reasons hold no id, and those are grouped without a call into Python.
        self._database.create_function("general_reason", 1, _generalise_column)
        sql = """SELECT operator, test,
                CASE WHEN instr(reason, 'trace-') THEN general_reason(reason) ELSE reason END,
                count(*) AS drops, count(DISTINCT id)
            FROM drops WHERE arm = ? GROUP BY 1, 2, 3"""
        counts = []
        for operator, test, reason, drops, traces in self._database.read(sql, (arm,)):
            counts.append(DropCount(operator, test, from_column(reason), drops, traces))
        return sorted(counts, key=lambda count: (-count.drops, *count[:3]))

    def count_drops_by_test(self, arm: str) -> list[DropCount]:
        """What the arm dropped, by operator and test."""
        sql = """SELECT operator, test, '', count(*), count(DISTINCT id) FROM drops WHERE arm = ?
            GROUP BY operator, test"""
        return [DropCount(*row) for row in self._database.read(sql, (arm,))]

    def count_traces(self, arm: str) -> int:
        """How many traces the arm made, blank ones included."""
        return int(self._database.read("SELECT count(*) FROM made WHERE arm = ?", (arm,))[0][0])

    def trace(self, id: str, arm: str = "") -> Trace | None:
        """One trace, with the annotations of `arm` if it is given; None where no arm made it."""
        return next(self.traces_by_id([id], arm), None)

    def traces(self, arm: str, operator: str = "") -> Iterator[Trace]:
        """The arm's traces in the order they were made, those of one operator if it is named; a page at a time."""
        # NOT INDEXED: by the index over arms, each page would read and sort the whole arm again.
        sql = (
            "SELECT m.seq, t.record, m.notes FROM made m NOT INDEXED JOIN traces t ON t.id = m.id "
            "WHERE m.arm = ? AND ? IN ('', t.operator) AND m.seq > ? ORDER BY m.seq LIMIT 500"
        )
        # Pages by sequence number, so that a large arm never lies in memory, and writing may go on beside it.
        last_seq = -1
        while page := self._database.read(sql, (arm, operator, last_seq)):
            last_seq = page[-1][0]
            for _, record, notes in page:
                yield from_record({**json.loads(record), **json.loads(notes)})

    def stages(self, arm: str) -> list[StageRows]:
        """The arm's stages in the order in which its method yielded them, with the ids of their rows in order."""
        stages: dict[tuple[str, str], StageRows] = {}
        sql = "SELECT label, stage, id FROM rows WHERE arm = ? ORDER BY rowid"
        for label, stage, trace_id in self._database.read(sql, (arm,)):
            if (label, stage) not in stages:
                # Older stores have no labels: a stage goes by its number.
                stages[label, stage] = StageRows(label or str(len(stages) + 1), stage, [])
            stages[label, stage].row_ids.append(trace_id)
        return list(stages.values())

    def row_ids(self, arm: str) -> dict[str, list[str]]:
        """The ids of the rows that each of the arm's stages trained on, in order, by stage id."""
        return {stage.stage: stage.row_ids for stage in self.stages(arm)}

    def ancestry(self, id: str, arm: str = "") -> list[Trace]:
        """The trace and everything it came from, nearest first; what the store doesn't have is left out."""
        # Breadth first, a SELECT a generation. A trace with two children in the family is listed once.
        family: list[Trace] = []
        visited = {id}
        generation = [id]
        while generation:
            traces = list(self.traces_by_id(generation, arm))
            family += traces
            generation = []
            for trace in traces:
                for parent_id in trace.parents:
                    if parent_id not in visited:
                        visited.add(parent_id)
                        generation.append(parent_id)
        return family

    def missing_parents(self) -> list[tuple[str, str]]:
        """Pairs (trace id, parent id) whose parent no ledger ever saw."""
        sql = (
            "SELECT t.id, p.value FROM traces t, json_each(t.parents) p LEFT JOIN traces o ON o.id = p.value "
            "WHERE o.id IS NULL ORDER BY t.rowid, p.key"
        )
        return [(child_id, parent_id) for child_id, parent_id in self._database.read(sql)]

    def traces_by_id(self, ids: Iterable[str], arm: str) -> Iterator[Trace]:
        """Those of these traces that are stored, in this order, with the arm's annotations."""
        all_ids = list(ids)
        for start in range(0, len(all_ids), _TRACES_PER_READ):
            part = all_ids[start : start + _TRACES_PER_READ]
            records: dict[str, dict[str, Any]] = {}
            for trace_id, record in self._database.read_by_keys(
                "SELECT id, record FROM traces WHERE id IN ({})", part
            ):
                records[trace_id] = json.loads(record)
            for trace_id, notes in self._database.read_by_keys(
                "SELECT id, notes FROM made WHERE arm = ? AND id IN ({})", part, [arm]
            ):
                if trace_id in records:
                    records[trace_id].update(json.loads(notes))
            # In the order that was asked for: SELECT ... IN gives them in another.
            for trace_id in part:
                if trace_id in records:
                    yield from_record(records[trace_id])
