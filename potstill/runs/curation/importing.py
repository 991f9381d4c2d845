"""The inputs of a curation as trace files: read once, in shards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.data import atomic_write, files
from potstill.data.rows import stream_traces
from potstill.data.trace_files import write_traces
from potstill.errors import InputError
from potstill.records import Progress, Trace
from potstill.runs.curation.settings import CurationSettings
from potstill.runs.curation.work_folder import SHARD_ROWS, Shard, WorkFolder

_SUMMARY_FILE = "import.json"


def import_inputs(
    settings: CurationSettings, work: WorkFolder, progress: Progress
) -> tuple[list[Shard], list[dict[str, Any]]]:
    """Write each input's traces into shards, unless they are there; the shards, and how each input was read.

    Raises:
        InputError: a bad row, where bad ones are not left out; an input without traces.
    """
    shards: list[Shard] = []
    summaries: list[dict[str, Any]] = []
    for index, spec in enumerate(settings.inputs):
        # The folder is there once the whole input is in it.
        folder = work.input_folder(index)
        if not folder.is_dir():
            _import_input(settings, spec, work, index, progress)
        summary = json.loads((folder / _SUMMARY_FILE).read_text("utf-8"))
        summaries.append(summary)
        for number, rows in enumerate(summary["shards"]):
            start = shards[-1].start + shards[-1].rows if shards else 0
            path = folder / f"{number:05}.jsonl"
            shards.append(Shard(len(shards), index, start, rows, path))
    return shards, summaries


def _import_input(
    settings: CurationSettings, spec: str, work: WorkFolder, index: int, progress: Progress
) -> None:
    with atomic_write.building_folder(work.input_folder(index)) as draft:
        # None: another process of the same command has imported it meanwhile.
        if draft is not None:
            _write_input(settings, spec, draft, progress)


def _write_input(settings: CurationSettings, spec: str, draft: Path, progress: Progress) -> None:
    counts: list[int] = []
    with (
        files.skipping(files.is_skipping()) as bad_rows,
        stream_traces(
            spec,
            mapping=settings.mapping,
            kind=settings.kind,
            limit=settings.limit,
            progress=lambda label, done, total: progress(f"{spec}: {label}", done, total),
            # What a kill leaves of the scratch files goes with the draft.
            scratch=draft,
        ) as stream,
    ):
        # The traces pass through one by one: a shard is never in memory.
        shards = itertools.groupby(
            enumerate(_report_traces(stream.traces, spec, progress)),
            key=lambda numbered: numbered[0] // SHARD_ROWS,
        )
        for number, numbered_traces in shards:
            counts.append(_write_shard(numbered_traces, draft / f"{number:05}.jsonl"))
        if not counts:
            raise InputError(
                f"{spec} holds no recorded answers",
                expected="rows with answers",
                fix="leave it out, or give another file",
            )
        summary = {
            "input": files.source_name(spec),
            "rows": stream.rows,
            "traces": sum(counts),
            "bad": [bad._asdict() for bad in bad_rows],
            "mapping": stream.mapping,
            "unread": list(stream.unread),
            "notes": stream.notes,
            "shards": counts,
        }
    atomic_write.write_text(draft / _SUMMARY_FILE, json.dumps(summary))


def _write_shard(numbered_traces: Iterator[tuple[int, Trace]], path: Path) -> int:
    """Write the traces of a shard one after another; how many they were."""
    written = itertools.count()

    def counted_traces() -> Iterator[Trace]:
        for _, trace in numbered_traces:
            next(written)
            yield trace

    write_traces(counted_traces(), path)
    return next(written)


def _report_traces(traces: Iterator[Trace], spec: str, progress: Progress) -> Iterator[Trace]:
    for count, trace in enumerate(traces):
        if count % 1000 == 0:
            progress(f"{spec}: traces", count, 0)
        yield trace
