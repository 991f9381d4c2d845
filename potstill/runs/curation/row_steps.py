"""What a curation finds out about each row by itself: verdict, filters, overlap with evaluation problems, signature.

Each shard is one task, and writes two files. Tasks run in processes; a process that is killed leaves no half of a file.
"""

from __future__ import annotations

import json
import multiprocessing
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from potstill.data import atomic_write
from potstill.data.rows import is_good, judge_traces
from potstill.records import Problem, Progress, Trace, Verdict
from potstill.runs.curation.settings import CurationSettings
from potstill.runs.curation.work_folder import (
    Shard,
    WorkFolder,
    in_portions,
    read_shard,
)
from potstill.traces import minhash
from potstill.traces.filters import is_finished
from potstill.traces.metadata import where
from potstill.traces.near_duplicates import compared_text, read_content
from potstill.traces.overlap import OverlapIndex
from potstill.verifiers import reading_thoughts

_PORTION = 200  # traces judged and signed at once
ROW = "row"  # the column of a bands file that holds the place in the shard


@dataclass(frozen=True, slots=True)
class _Task:
    """A shard, where its two files go, what to do, and the evaluation problems."""

    shard: Shard
    rows_file: Path
    bands_file: Path
    settings: CurationSettings
    held_out: tuple[Problem, ...]


def check_rows(
    shards: Sequence[Shard],
    settings: CurationSettings,
    held_out: Sequence[Problem],
    work: WorkFolder,
    *,
    processes: int,
    progress: Progress,
) -> None:
    """Write what each row of each shard is, unless it is written; in as many processes."""
    tasks: list[_Task] = []
    for shard in shards:
        if not work.rows_file(shard).is_file():
            files = work.rows_file(shard), work.bands_file(shard)
            tasks.append(_Task(shard, *files, settings, tuple(held_out)))
    total = sum(shard.rows for shard in shards)
    done = total - sum(task.shard.rows for task in tasks)
    progress("rows checked", done, total)
    for row_count in _run_tasks(tasks, processes):
        done += row_count
        progress("rows checked", done, total)


def _run_tasks(tasks: Sequence[_Task], processes: int) -> Iterator[int]:
    """The number of rows of each task when it is done."""
    if min(processes, len(tasks)) <= 1:
        for task in tasks:
            yield _check_shard(task)
        return
    # Fresh processes: a fork would copy the threads' locks of this one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(tasks)), mp_context=context) as pool:
        # Which task is done first changes nothing: each writes files of its own.
        futures = [pool.submit(_check_shard, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            # What has not begun need not begin: the command ends here.
            pool.shutdown(cancel_futures=True)
            raise


def _check_shard(task: _Task) -> int:
    """Write the files of a shard; the file of the rows last, as it says that both are there."""
    settings = task.settings
    checks = _RowChecks(settings, task.held_out)
    bands = _BandWriter(settings)
    with (
        reading_thoughts(settings.answers_in_thoughts),
        atomic_write.writing(task.rows_file) as rows_file,
    ):
        place = 0
        for portion in in_portions(read_shard(task.shard), _PORTION):
            judged = judge_traces(portion) if settings.verify else portion
            for trace in judged:
                finding = checks.check(trace)
                rows_file.write(f"{json.dumps(finding)}\n".encode("ascii"))
                if finding["drop"] is None:
                    bands.add(place, trace)
                place += 1
        if settings.near_duplicates:
            bands.write(task.bands_file)
    return place


class _RowChecks:
    """The tests of a row by itself, in their order."""

    def __init__(self, settings: CurationSettings, held_out: tuple[Problem, ...]) -> None:
        self._settings = settings
        self._conditions = {condition: where(condition) for condition in settings.where}
        self._overlap = None
        if held_out:
            self._overlap = _overlap_index(held_out, settings.overlap_ngram)

    def check(self, trace: Trace) -> dict[str, Any]:
        """What is known of a row: id, end, verdict, the test that it fails, and its overlap where it fails none."""
        # A verdict that the file brought along stays as it is.
        is_judged = self._settings.verify and trace.verdict.verifier
        drop = self._failed_test(trace)
        overlap = None
        if drop is None and self._overlap is not None:
            overlap = self._overlap.find_overlap(trace, in_text=self._settings.overlap_in_texts)
        return {
            "id": trace.id,
            "finish_reason": trace.finish_reason,
            "verdict": list(trace.verdict) if is_judged else None,
            "drop": drop,
            "overlap": None if overlap is None else overlap._asdict(),
        }

    def _failed_test(self, trace: Trace) -> dict[str, str] | None:
        """The first test that a row fails: its step, why in short, and the reason in whole; None for none."""
        if trace.error:
            return _drop("generation", "failed", trace.error)
        if self._settings.keep == "right" and not is_good(trace):
            return _drop_of_verdict(trace.verdict)
        for condition, holds in self._conditions.items():
            answer = holds(trace)
            passed, reason = answer if isinstance(answer, tuple) else (answer, "")
            if not passed:
                return _drop(f"where {condition}", "does not hold", reason)
        if self._settings.finished and not is_finished(trace)[0]:
            end = trace.finish_reason or "unknown"
            return _drop("finished", end, f"it ended with {end}")
        return None


def _drop(step: str, why: str, reason: str) -> dict[str, str]:
    return {"step": step, "why": why, "reason": reason}


def _drop_of_verdict(verdict: Verdict) -> dict[str, str]:
    if verdict.status == "unjudged":
        return _drop("keep right", "labelled wrong", "not judged, and the file labels it wrong")
    reason = f"{verdict.status}: {verdict.reason}" if verdict.reason else verdict.status
    return _drop("keep right", verdict.status, reason)


@lru_cache(maxsize=1)
def _overlap_index(held_out: tuple[Problem, ...], n: int) -> OverlapIndex:
    """Made once in each process."""
    return OverlapIndex(held_out, n)


class _BandWriter:
    """Gathers the signatures of a shard's rows, and writes the keys of their bands."""

    def __init__(self, settings: CurationSettings) -> None:
        self._settings = settings
        self._places = array("q")
        self._pending: list[frozenset[tuple[str, ...]]] = []
        if settings.near_duplicates:
            self._banding = settings.banding
            self._text_of = compared_text(settings.compared)
            self._keys = [array("Q") for _ in range(self._banding.bands)]

    def add(self, place: int, trace: Trace) -> None:
        """Take a row; one whose text has no words takes no part."""
        if not self._settings.near_duplicates:
            return
        # Numbers matter only when two texts are compared.
        content = read_content(self._text_of(trace), self._settings.ngram)
        if content.ngrams:
            self._places.append(place)
            self._pending.append(content.ngrams)
        if len(self._pending) == _PORTION:
            self._sign_pending()

    def write(self, path: Path) -> None:
        """Write a column of keys for each band."""
        import pyarrow
        import pyarrow.parquet

        self._sign_pending()
        columns: dict[str, Any] = {ROW: pyarrow.array(self._places, pyarrow.int64())}
        for band, keys in enumerate(self._keys):
            columns[band_column(band)] = pyarrow.array(keys, pyarrow.uint64())
        with atomic_write.replacing(path) as draft:
            # Hashes can't be compressed.
            table = pyarrow.table(columns)
            pyarrow.parquet.write_table(table, draft, compression="none", use_dictionary=False)

    def _sign_pending(self) -> None:
        keys_of_bands = minhash.band_keys(self._pending, self._banding)
        for keys, more_keys in zip(self._keys, keys_of_bands, strict=True):
            keys.extend(more_keys)
        self._pending.clear()


def band_column(band: int) -> str:
    """The name of a band's column."""
    return f"band_{band}"
