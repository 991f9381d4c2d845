"""An arm's traces and rows as Parquet, for other tools: written from the ledger when the arm ends.

SQLite stays the ledger. A file is written whole or not at all, in row groups, so that memory stays flat; its metadata
say of which state of the ledger it is, so a file that fits is not written twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data.atomic_write import writing
from potstill.errors import InputError
from potstill.records import SCHEME, Message, Prompt, Trace, canonical, split_reasoning
from potstill.store.database import Database
from potstill.store.history import History
from potstill.store.lock import unwritable_folder_error

ROW_GROUP = 1000  # rows in memory while a file is written or checked
STATE_KEY = "potstill.ledger"  # the metadata that name the ledger's state
_SURROGATES = re.compile("[\ud800-\udfff]")
_FIX = "potstill cache parquet RUN writes the Parquet files of a run again from its store"


class PlacedTrace(NamedTuple):
    """A trace, and where it stands among the rows of a stage; "" and -1 where it is no row."""

    trace: Trace
    stage: str = ""
    position: int = -1


class ArmFile(NamedTuple):
    """One of an arm's two files, "traces" or "rows": where it lies, and the state of the ledger it should show."""

    arm: str
    kind: str
    path: Path
    ledger_state: str


def write_arm_files(
    database: Database, folder: Path, arm: str, *, read_whole: bool = False
) -> list[Path]:
    """Write an arm's traces and rows where they are missing, broken or of another state; the files that were written.

    An arm without rows has no file of rows: what an earlier run left is deleted.

    Args:
        database: of the store.
        folder: the run folder.
        arm: whose files.
        read_whole: read every page of a file before it counts as sound; else its end, which was written last.
    """
    # Written again only where the state differs: a fast-forwarded run leaves its files, and their times, alone.
    history = History(database)
    written = []
    for file in _arm_files(database, folder, arm):
        if not file.ledger_state:
            file.path.unlink(missing_ok=True)
        elif _find_fault(file, read_whole=read_whole):
            if file.kind == "rows":
                _write_file(file, _placed_rows(history, arm))
            else:
                _write_file(file, map(PlacedTrace, history.traces(arm)))
            written.append(file.path)
    return written


def rewrite_files(database: Database, folder: Path) -> list[Path]:
    """Write again what is broken, missing or of another state, of all arms that came to their end."""
    written = []
    for arm in _finished_arms(database):
        written += write_arm_files(database, folder, arm, read_whole=True)
    return written


def find_faults(database: Database, folder: Path) -> list[str]:
    """What is wrong with the Parquet files of the arms that came to their end, one sentence each; reads every file.

    A file that is not there is no damage: nothing is lost with it.
    """
    faults = []
    for arm in _finished_arms(database):
        for file in _arm_files(database, folder, arm):
            if file.ledger_state and file.path.exists():
                faults.append(_find_fault(file, read_whole=True))
    return [fault for fault in faults if fault]


def _finished_arms(database: Database) -> list[str]:
    return [arm for arm, is_finished in History(database).arms().items() if is_finished]


def _find_fault(file: ArmFile, *, read_whole: bool) -> str:
    """Why a file is not what the ledger says, or ""."""
    if not file.path.exists():
        return f"{file.path} is missing"
    try:
        with _open_parquet(file.path) as parquet_file:
            metadata = parquet_file.schema_arrow.metadata or {}
            state = metadata.get(STATE_KEY.encode(), b"").decode("utf-8", "replace")
            if state != file.ledger_state:
                return f"{file.path} is of another state than the ledger of arm {file.arm}"
            if read_whole:
                for group in range(parquet_file.num_row_groups):
                    parquet_file.read_row_group(group)
    except InputError as error:
        return error.found
    return ""


def _arm_files(database: Database, folder: Path, arm: str) -> list[ArmFile]:
    """Both files of an arm; a state is "" where there is nothing to write."""
    traces_state = _hash_table(
        database,
        "SELECT seq, id, notes FROM made NOT INDEXED WHERE arm = ? AND seq > ? ORDER BY seq",
        arm,
    )
    rows_state = _hash_table(
        database,
        "SELECT rowid, stage, position, id FROM rows NOT INDEXED WHERE arm = ? AND rowid > ? ORDER BY rowid",
        arm,
    )
    # Rows show verdicts and scores too, so they are of the state of both.
    if rows_state:
        rows_state = f"{rows_state} {traces_state}"
    file_name = re.sub(r"[^\w .=+-]", "_", arm) + ".parquet"
    return [
        ArmFile(arm, "traces", folder / "traces" / file_name, traces_state),
        ArmFile(arm, "rows", folder / "rows" / file_name, rows_state),
    ]


def _hash_table(database: Database, sql: str, arm: str) -> str:
    """Number and hash of the rows that a paged SELECT gives; "" where there are none."""
    # Over what the file shows, not over the file: the same ledger has the same state on any machine.
    digest = hashlib.sha256(SCHEME.encode())
    last_rowid, count = -1, 0
    while page := database.read(f"{sql} LIMIT {ROW_GROUP}", (arm, last_rowid)):
        last_rowid = page[-1][0]
        count += len(page)
        for row in page:
            digest.update(canonical(row[1:]).encode())
    if not count:
        return ""
    return f"{count} {digest.hexdigest()[:32]}"


def _placed_rows(history: History, arm: str) -> Iterator[PlacedTrace]:
    for _, stage, ids in history.stages(arm):
        for start in range(0, len(ids), ROW_GROUP):
            part = ids[start : start + ROW_GROUP]
            traces = {trace.id: trace for trace in history.traces_by_id(part, arm)}
            # Rows of a stage in the order they were trained in; a trace may stand in several places.
            for position, trace_id in enumerate(part, start=start):
                if trace_id in traces:
                    yield PlacedTrace(traces[trace_id], stage, position)


def _write_file(file: ArmFile, placed_traces: Iterable[PlacedTrace]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    # The state is in the file itself, so that a copied or half-restored folder is noticed.
    metadata = {
        "potstill.scheme": SCHEME,
        "potstill.arm": file.arm,
        STATE_KEY: file.ledger_state,
    }
    schema = _arrow_schema(pa).with_metadata(metadata)
    remaining = iter(placed_traces)
    try:
        with (
            writing(file.path) as raw,
            parquet.ParquetWriter(
                raw, schema, compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            while group := [_to_columns(placed) for placed in islice(remaining, ROW_GROUP)]:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
    except OSError as error:
        raise unwritable_folder_error(file.path.parent, error) from error


def _arrow_schema(pa: Any) -> Any:
    text, number, count = pa.string(), pa.float64(), pa.int64()
    span = pa.struct(
        {
            "start": count,
            "stop": count,
            "kind": text,
            "weight": number,
            "score": number,
            "author": text,
        }.items()
    )
    # A list and not a map: `datasets` has no type for maps.
    score = pa.struct({"name": text, "value": number, "text": text}.items())
    columns: dict[str, Any] = {
        "id": text,
        "problem": text,
        "question": text,
        "gold": text,
        "kind": text,
        "metadata": text,
        "prompt": text,
        "text": text,
        "reasoning": text,
        "reply": text,
        "prefix_length": count,
        "finish_reason": text,
        "stop_string": text,
        "operator": text,
        "parents": pa.list_(text),
        "root": text,
        "model": text,
        "sample_index": count,
        "settings": text,
        "saw_gold": pa.bool_(),
        "error": text,
        "status": text,
        "answer": text,
        "reason": text,
        "verifier": text,
        "scores": pa.list_(score),
        "spans": pa.list_(span),
        "weight": number,
        "prompt_tokens": count,
        "completion_tokens": count,
        "cached_tokens": count,
        "reasoning_tokens": count,
        "rejected": text,
        "rival_text": text,
        "teacher_prompt": text,
        "stage": text,
        "position": count,
    }
    return pa.schema(list(columns.items()))


def _to_columns(placed: PlacedTrace) -> dict[str, Any]:
    """One row of a file, under the names of `_arrow_schema`."""
    trace = placed.trace
    problem, author, verdict, rival = trace.problem, trace.author, trace.verdict, trace.rejected
    reasoning, reply = split_reasoning(trace.text)
    columns: dict[str, Any] = {
        "id": trace.id,
        "problem": problem.id,
        "question": problem.question,
        "gold": problem.answer,
        "kind": problem.kind,
        "metadata": canonical(problem.metadata),
        "prompt": json.dumps(_chat_messages(trace.prompt)),
        "text": trace.text,
        "reasoning": reasoning,
        "reply": reply,
        "prefix_length": trace.prefix_length,
        "finish_reason": trace.finish_reason,
        "stop_string": trace.stop_string,
        "operator": trace.operator,
        "parents": list(trace.parents),
        "root": trace.root,
        "saw_gold": trace.saw_gold,
        "error": trace.error,
        "status": verdict.status,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "verifier": verdict.verifier,
        "scores": _score_structs(trace.scores),
        "spans": [span._asdict() for span in trace.spans],
        "weight": trace.weight,
    }
    # What is left out here is null in the file.
    if author:
        columns["model"] = author.model
        columns["sample_index"] = author.sample_index
        columns["settings"] = canonical(dict(author.settings))
    for name, token_count in trace.tokens._asdict().items():
        columns[f"{name}_tokens"] = token_count
    if rival:
        columns["rejected"] = rival.id
        columns["rival_text"] = rival.text
    if trace.teacher_prompt:
        columns["teacher_prompt"] = json.dumps(_chat_messages(trace.teacher_prompt))
    if placed.stage:
        columns["stage"] = placed.stage
        columns["position"] = placed.position
    return {name: _replace_surrogates(value) for name, value in columns.items()}


def _chat_messages(prompt: Prompt) -> list[dict[str, str]]:
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [message._asdict() for message in messages]


def _score_structs(scores: Mapping[str, float | str | None]) -> list[dict[str, Any]]:
    structs: list[dict[str, Any]] = []
    for name, value in scores.items():
        if isinstance(value, str):
            structs.append({"name": name, "value": None, "text": value})
        else:
            structs.append({"name": name, "value": value, "text": None})
    return structs


def _replace_surrogates(value: Any) -> Any:
    """A value as UTF-8 can hold it: a lone surrogate, which only the store can keep, becomes U+FFFD."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {name: _replace_surrogates(item) for name, item in value.items()}
    return value


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file; whatever is wrong with it, also while it is read, is an InputError."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as parquet_file:
            yield parquet_file
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} can't be read as Parquet: {str(error).splitlines()[0]}",
            expected="a whole Parquet file",
            fix=_FIX,
        ) from error
