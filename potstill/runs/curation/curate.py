"""Files of recorded answers become one clean set of rows: judged, filtered, deduplicated, decontaminated, mixed.

Texts lie on the disk throughout, so memory grows by about 100 bytes a row, most of it for near-duplicates. The result
depends on the inputs and the settings alone, not on the number of processes or on kills.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.data import problems, row_files, uploads
from potstill.data.shards import MANIFEST_FILE, PARTIAL_FILE
from potstill.data.trace_json import to_json
from potstill.data.urls import Location, Url
from potstill.errors import ConfigError
from potstill.records import Problem, Progress, no_progress
from potstill.runs import export
from potstill.runs.curation.importing import import_inputs
from potstill.runs.curation.pool_steps import Mix, choose_mix, find_duplicates
from potstill.runs.curation.row_steps import check_rows
from potstill.runs.curation.settings import TRACES, CurationSettings
from potstill.runs.curation.work_folder import (
    Shard,
    ShardedTraces,
    WorkFolder,
    read_json_lines,
)
from potstill.runs.sources import world_problems
from potstill.traces import minhash
from potstill.traces.near_duplicates import describe_duplicate

REPORT_FILE = "curation.json"
DROPPED_FILE = "dropped.jsonl"
WORK_FOLDER = "work"


@dataclass
class StepCounts:
    """A line of the funnel: how many rows came, and why some went.

    Args:
        step: its name.
        came: how many rows.
        went: how many of them, by the reason in short.
        details: what else is to be known of the step.
    """

    step: str
    came: int
    went: Counter[str] = field(default_factory=Counter)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def stayed(self) -> int:
        """How many rows are left."""
        return self.came - self.went.total()

    def to_json(self) -> dict[str, Any]:
        """The line as plain values."""
        return {
            "step": self.step,
            "came": self.came,
            "went": self.went.total(),
            "stayed": self.stayed,
            "why": dict(self.went.most_common()),
            **self.details,
        }


class RowTable:
    """What is known of each row in memory: id, end, and which step dropped it; 13 bytes a row."""

    # Why a row is not in the output.
    STAYS, TEST, DUPLICATE, OVERLAP, SURPLUS = range(5)
    _ID_PREFIX = "trace-"
    _ID_BYTES = 10  # of 20 hexadecimal digits

    def __init__(self) -> None:
        """Begin empty."""
        self.fates = bytearray()
        self.overlaps = bytearray()
        self._ends = bytearray()
        self._end_words: list[str] = []
        self._ids = bytearray()

    def add(self, finding: Mapping[str, Any]) -> None:
        """Take the next row, by what its row file says."""
        # A byte a row for each thing that later steps ask about it.
        self.fates.append(self.STAYS if finding["drop"] is None else self.TEST)
        self.overlaps.append(finding["overlap"] is not None)
        end = finding["finish_reason"]
        if end not in self._end_words:
            self._end_words.append(end)
        self._ends.append(self._end_words.index(end))
        self._ids += bytes.fromhex(finding["id"].removeprefix(self._ID_PREFIX))

    def __len__(self) -> int:
        return len(self.fates)

    def id_of(self, row: int) -> str:
        """The id of a row's trace."""
        start = row * self._ID_BYTES
        return self._ID_PREFIX + self._ids[start : start + self._ID_BYTES].hex()

    def end_of(self, row: int) -> str:
        """The finish reason of a row's trace."""
        return self._end_words[self._ends[row]]

    def staying(self, start: int = 0, stop: int | None = None) -> array[int]:
        """The rows that no step has dropped so far."""
        stop = len(self) if stop is None else stop
        return array("q", (row for row in range(start, stop) if self.fates[row] == self.STAYS))


def curate(
    settings: CurationSettings,
    out: Location,
    *,
    work_path: Path,
    form: row_files.ShardFormat,
    processes: int = 1,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Make one set of rows of all inputs; the report, which is also written beside the rows.

    The rows are shards with a manifest (`shards.json`), what was dropped stands in `dropped.jsonl`, the report in
    `curation.json`. After a kill the same call goes on; after its end it reads its report again.

    Args:
        settings: what is done.
        out: the folder of the result.
        work_path: a folder on this machine for what is done so far; it is deleted at the end.
        form: of the shards.
        processes: how many check rows at once.
        progress: called with a step, and how far it is.

    Raises:
        InputError: an input that can't be read, or of which nothing is left.
        ConfigError: the folders hold another curation.
    """
    # What was finished before, or is under way.
    fingerprint = settings.fingerprint()
    finished = _read_report(out, fingerprint)
    if finished is not None:
        # A kill between the report and the end leaves the work behind.
        if work_path.is_dir():
            WorkFolder(work_path, fingerprint).remove()
        return finished
    _check_output(settings, out, work_path, form)
    held_out = load_held_out(settings)
    work = WorkFolder(work_path, fingerprint)
    shards, inputs = import_inputs(settings, work, progress)
    check_rows(shards, settings, held_out, work, processes=processes, progress=progress)

    table = RowTable()
    funnel = _read_findings(shards, settings, work, table)
    traces = ShardedTraces(shards, work)
    duplicates = _decide_together(
        shards,
        settings,
        traces,
        work,
        table=table,
        funnel=funnel,
        held_out=held_out,
        progress=progress,
    )
    mix = choose_mix(_rows_by_input(shards, table), table.id_of, settings)
    funnel += _drop_surplus(mix, settings, table)

    # Why rows went, then the rows, then the report, which says that all is there.
    dropped = _dropped_lines(shards, inputs, work, table, duplicates)
    row_files.write_file(dropped, out / DROPPED_FILE)
    lines = _output_lines(mix, settings, traces, table, progress)
    written = row_files.write_shards(lines, out, form)
    report: dict[str, Any] = {
        "fingerprint": fingerprint,
        "settings": settings.to_json(),
        "inputs": inputs,
        "steps": [line.to_json() for line in funnel],
        "rows": written.rows,
        "files": written.files,
        "notes": [*mix.notes, *_unfinished_notes(mix, settings, table)],
        "out": str(out),
    }
    content = json.dumps(report, indent=1)
    uploads.write_bytes(out / REPORT_FILE, f"{content}\n".encode("ascii"))
    work.remove()
    as_read: dict[str, Any] = json.loads(content)  # as the next call gets it
    return as_read


def _decide_together(
    shards: Sequence[Shard],
    settings: CurationSettings,
    traces: ShardedTraces,
    work: WorkFolder,
    *,
    table: RowTable,
    funnel: list[StepCounts],
    held_out: Sequence[Problem],
    progress: Progress,
) -> minhash.NearDuplicates:
    """Drop near-duplicates, then overlaps, each among the rows that the earlier steps left; the near-duplicates."""
    duplicates = minhash.NearDuplicates()
    if settings.near_duplicates:
        duplicates = find_duplicates(shards, settings, traces, work, progress)
        funnel.append(_drop_duplicates(duplicates, settings, table))
    if settings.decontaminate:
        funnel.append(_drop_overlaps(shards, settings, work, table, held_out))
    return duplicates


def work_folder_for(out: Location, work: Path | None) -> Path:
    """Where the work before lies: the folder that was named, or one inside the result's.

    Raises:
        ConfigError: none was named, and the result goes to a URL.
    """
    if work is not None:
        return work
    if isinstance(out, Url):
        raise ConfigError(
            f"--out {out} is on no disk of this machine, and the work before needs one",
            expected="a folder on this machine for it",
            fix=f"--work {WORK_FOLDER}",
        )
    return out / WORK_FOLDER


def load_held_out(settings: CurationSettings) -> list[Problem]:
    """The evaluation problems."""
    held_out: list[Problem] = []
    for spec in settings.decontaminate:
        held_out += problems.load(spec, extra={"world": world_problems})
    return held_out


def _read_report(out: Location, fingerprint: str) -> dict[str, Any] | None:
    """The report of the same curation, where it has finished; None where there is none.

    Raises:
        ConfigError: the folder holds the result of another one.
    """
    file = out / REPORT_FILE
    if not file.is_file():
        return None
    report: dict[str, Any] = json.loads(file.read_bytes())
    if report.get("fingerprint") != fingerprint:
        raise ConfigError(
            f"{out} holds the result of another command, or of inputs that have changed since",
            expected="an empty folder, or the same command over the same files",
            fix="another folder with --out",
        )
    return report


def _check_output(
    settings: CurationSettings, out: Location, work_path: Path, form: row_files.ShardFormat
) -> None:
    """Refuse, before anything is read, rows that could not be written in the end."""
    if form.suffix == ".parquet" and settings.layout == TRACES:
        raise ConfigError(
            "traces can't be written as Parquet: their parts have no one type",
            expected="JSON lines, or another layout",
            fix="--format messages --parquet",
        )
    uploads.check_writable(out / REPORT_FILE)
    if not WorkFolder.is_begun(work_path):
        _refuse_other_rows(out, work_path, form)


def _refuse_other_rows(out: Location, work_path: Path, form: row_files.ShardFormat) -> None:
    """Refuse a folder with something in it, before anything is begun: a set of rows there would be replaced."""
    names = [MANIFEST_FILE, PARTIAL_FILE, DROPPED_FILE, form.shard_name(0)]
    if isinstance(out, Path) and out.is_dir():
        names += [path.name for path in out.iterdir() if path != work_path]
    for name in names:
        if (out / name).is_file():
            raise ConfigError(
                f"{out} holds {name} already",
                expected="a new folder",
                fix="another folder with --out",
            )


def _read_findings(
    shards: Sequence[Shard], settings: CurationSettings, work: WorkFolder, table: RowTable
) -> list[StepCounts]:
    """Read what was found out about each row, and count the rows that failed a test, step by step."""
    verdicts: Counter[str] = Counter()
    drops: dict[str, Counter[str]] = {"generation": Counter()}
    if settings.keep == "right":
        drops["keep right"] = Counter()
    for condition in settings.where:
        drops[f"where {condition}"] = Counter()
    if settings.finished:
        drops["finished"] = Counter()
    for shard in shards:
        for finding in read_json_lines(work.rows_file(shard)):
            table.add(finding)
            verdict = finding["verdict"]
            verdicts[verdict[0] if verdict else "unjudged"] += 1
            if finding["drop"] is not None:
                drops[finding["drop"]["step"]][finding["drop"]["why"]] += 1

    # Each test saw the rows that the tests before it had left.
    funnel: list[StepCounts] = []
    came = len(table)
    if settings.verify:
        funnel.append(StepCounts("verify", came, details={"verdicts": dict(verdicts)}))
    for step, reasons in drops.items():
        # No line for failed generations where there are none: most files have none.
        if step != "generation" or reasons:
            funnel.append(StepCounts(step, came, reasons))
            came = funnel[-1].stayed
    return funnel


def _drop_duplicates(
    duplicates: minhash.NearDuplicates, settings: CurationSettings, table: RowTable
) -> StepCounts:
    came = table.fates.count(RowTable.STAYS)
    clusters = set()
    for duplicate in duplicates:
        table.fates[duplicate.row] = RowTable.DUPLICATE
        clusters.add(duplicate.first)
    details: dict[str, Any] = {
        "clusters": len(clusters),
        "pairs_compared": duplicates.compared,
        "recall_at_threshold": round(settings.banding.recall(settings.near_duplicates), 4),
    }
    if settings.same_numbers:
        details["pairs_with_other_numbers"] = duplicates.other_numbers
    went = Counter({"resembles an earlier row": len(duplicates)}) if len(duplicates) else Counter()
    return StepCounts("near-duplicates", came, went, details)


def _drop_overlaps(
    shards: Sequence[Shard],
    settings: CurationSettings,
    work: WorkFolder,
    table: RowTable,
    held_out: Sequence[Problem],
) -> StepCounts:
    line = StepCounts("decontaminate", table.fates.count(RowTable.STAYS))
    overlapped: set[str] = set()
    for shard in shards:
        stop = shard.start + shard.rows
        # Few shards have any: the others are not read again.
        if not any(table.overlaps[shard.start : stop]):
            continue
        for row, finding in enumerate(read_json_lines(work.rows_file(shard)), shard.start):
            if table.overlaps[row] and table.fates[row] == RowTable.STAYS:
                table.fates[row] = RowTable.OVERLAP
                overlap = finding["overlap"]
                line.went[overlap["source"] or "evaluation problems"] += 1
                overlapped.add(f"{overlap['source']}\n{overlap['problem_id']}")
    line.details = {
        "evaluation_problems": len(held_out),
        "of_them_overlapped": len(overlapped),
        "ngram": settings.overlap_ngram,
    }
    return line


def _rows_by_input(shards: Sequence[Shard], table: RowTable) -> list[array[int]]:
    # An input may have lost all of its rows: it still has a place.
    rows: list[array[int]] = []
    for shard in shards:
        while len(rows) <= shard.input:
            rows.append(array("q"))
        rows[shard.input].extend(table.staying(shard.start, shard.start + shard.rows))
    return rows


def _drop_surplus(mix: Mix, settings: CurationSettings, table: RowTable) -> list[StepCounts]:
    for row in mix.surplus:
        table.fates[row] = RowTable.SURPLUS
    if not settings.shares and not settings.rows:
        return []
    line = StepCounts("mix", len(mix.order) + len(mix.surplus))
    if mix.surplus:
        line.went["more than the mix takes"] = len(mix.surplus)
    return [line]


def _dropped_lines(
    shards: Sequence[Shard],
    inputs: Sequence[Mapping[str, Any]],
    work: WorkFolder,
    table: RowTable,
    duplicates: minhash.NearDuplicates,
) -> Iterator[bytes]:
    """A line for each row that went, in the order of the rows: which, at which step, why, and what it resembles."""
    # Near-duplicates come in the order of their rows, as the rows do here.
    remaining_duplicates = iter(duplicates)
    for shard in shards:
        for row, finding in enumerate(read_json_lines(work.rows_file(shard)), shard.start):
            fate = table.fates[row]
            if fate == RowTable.STAYS:
                continue
            entry = {"input": inputs[shard.input]["input"], "row": row, "id": finding["id"]}
            if fate == RowTable.TEST:
                entry |= {"step": finding["drop"]["step"], "reason": finding["drop"]["reason"]}
            elif fate == RowTable.DUPLICATE:
                entry |= _describe_duplicate(next(remaining_duplicates), table)
            elif fate == RowTable.OVERLAP:
                overlap = finding["overlap"]
                entry |= {"step": "decontaminate", "reason": overlap["reason"]}
                entry |= {"problem": overlap["problem_id"], "source": overlap["source"]}
            else:
                entry |= {"step": "mix", "reason": "more than the mix takes"}
            yield f"{json.dumps(entry)}\n".encode("ascii")


def _describe_duplicate(duplicate: minhash.NearDuplicate, table: RowTable) -> dict[str, Any]:
    resembled, first = table.id_of(duplicate.resembles), table.id_of(duplicate.first)
    return {
        "step": "near-duplicates",
        "reason": describe_duplicate(duplicate, resembled, first),
        "resembles": resembled,
        "similarity": round(duplicate.similarity, 4),
        "stays": first,
    }


def _output_lines(
    mix: Mix,
    settings: CurationSettings,
    traces: ShardedTraces,
    table: RowTable,
    progress: Progress,
) -> Iterator[bytes]:
    """The rows of the output as JSON lines."""
    # All rows say how they ended, or none: one that says nothing among others would count as not known.
    with_ends = any(table.end_of(row) != "stop" for row in mix.order)
    for count, row in enumerate(mix.order):
        if count % 1000 == 0:
            progress("rows written", count, len(mix.order))
        trace = traces.judged(row)
        if settings.layout == TRACES:
            yield f"{to_json(trace)}\n".encode("ascii")
        else:
            exported = export.export_row(trace, settings.layout, with_end=with_ends)
            yield f"{json.dumps(exported)}\n".encode("ascii")
    progress("rows written", len(mix.order), len(mix.order))


def _unfinished_notes(mix: Mix, settings: CurationSettings, table: RowTable) -> list[str]:
    """What other trainers make of rows that are not finished; nothing of a trace file, which says it itself."""
    if settings.layout == TRACES:
        return []
    note = export.describe_unfinished(Counter(table.end_of(row) or "unknown" for row in mix.order))
    return [note] if note else []
