"""An arm's traces and rows as Parquet, for other tools: written from the ledger when the arm ends.

SQLite stays the ledger. A file is written as a draft, brought to the disk and renamed, in row groups, so that memory
stays flat; its metadata say of which state of the ledger it is, so a file that fits is not written twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.records import SCHEME, Message, Prompt, Trace, canonical, split_reasoning
from potstill.store.database import Database
from potstill.store.history import History
from potstill.store.lock import unwritable

GROUP = 1000  # rows a row group: what lies in memory while a file is written or checked
STATE = "potstill.ledger"  # the metadata that name the ledger's state
_SURROGATES = re.compile("[\ud800-\udfff]")
_FIX = "potstill cache parquet RUN writes the Parquet files of a run again from its store"


class Placed(NamedTuple):
    """A trace, and where it stands among the rows of a stage; "" and -1 where it is no row."""

    trace: Trace
    stage: str = ""
    position: int = -1


class File(NamedTuple):
    """One of an arm's two files: where it lies, and the state of the ledger that it should show."""

    arm: str
    kind: str
    path: Path
    state: str


def paths(folder: Path, arm: str) -> dict[str, Path]:
    """Where an arm's files lie, by what is in them."""
    name = re.sub(r"[^\w .=+-]", "_", arm)
    return {kind: folder / kind / f"{name}.parquet" for kind in ("traces", "rows")}


def write(database: Database, folder: Path, arm: str, *, whole: bool = False) -> list[Path]:
    """Write an arm's traces and rows where they are missing, broken or of another state; the files that were written.

    An arm without rows has no file of rows: what an earlier run left is taken away. With `whole` every page of a file
    is read before it counts as sound; else its end, which was written last.
    """
    history = History(database)
    written = []
    for file in _files(database, folder, arm):
        if not file.state:
            file.path.unlink(missing_ok=True)
        elif _fault(file, whole=whole):
            placed = (
                _rows(history, arm) if file.kind == "rows" else map(Placed, history.traces(arm))
            )
            _save(file, placed)
            written.append(file.path)
    return written


def rewrite(database: Database, folder: Path) -> list[Path]:
    """Write again what is broken, missing or of another state, of all arms that came to their end."""
    return [path for arm in _ended(database) for path in write(database, folder, arm, whole=True)]


def faults(database: Database, folder: Path) -> list[str]:
    """What is wrong with the Parquet files of the arms that came to their end, one sentence each; reads every file.

    A file that is not there is no damage: nothing is lost with it.
    """
    files = [
        file for arm in _ended(database) for file in _files(database, folder, arm) if file.state
    ]
    files = [file for file in files if file.path.exists()]
    return [found for file in files if (found := _fault(file, whole=True))]


def _ended(database: Database) -> list[str]:
    return [arm for arm, done in History(database).arms().items() if done]


def _fault(file: File, *, whole: bool) -> str:
    """Why a file is not what the ledger says, or ""; with `whole` every page of it is read."""
    if not file.path.exists():
        return f"{file.path} is missing"
    try:
        with _opened(file.path) as opened:
            if state_of(opened) != file.state:
                return f"{file.path} is of another state than the ledger of arm {file.arm}"
            for group in range(opened.num_row_groups if whole else 0):
                opened.read_row_group(group)
    except InputError as error:
        return error.found
    return ""


def read(path: Path) -> Any:
    """A Parquet file as a pyarrow table; InputError where it is cut short, damaged or no Parquet file."""
    with _opened(path) as opened:
        return opened.read()


def state_of(opened: Any) -> str:
    """The state of the ledger that an open file shows; "" for a file that potstill did not write."""
    found: bytes = (opened.schema_arrow.metadata or {}).get(STATE.encode(), b"")
    return found.decode("utf-8", "replace")


def _files(database: Database, folder: Path, arm: str) -> list[File]:
    """Both files of an arm; a state is "" where there is nothing to write."""
    made = _state(
        database,
        "SELECT seq, id, notes FROM made NOT INDEXED WHERE arm = ? AND seq > ? ORDER BY seq",
        arm,
    )
    rows = _state(
        database,
        "SELECT rowid, stage, position, id FROM rows NOT INDEXED WHERE arm = ? AND rowid > ? ORDER BY rowid",
        arm,
    )
    # Rows show verdicts and scores too, so they are of the state of both.
    states = {"traces": made, "rows": rows and f"{rows} {made}"}
    return [File(arm, kind, path, states[kind]) for kind, path in paths(folder, arm).items()]


def _state(database: Database, sql: str, arm: str) -> str:
    hashed, last, count = hashlib.sha256(SCHEME.encode()), -1, 0
    while page := database.read(f"{sql} LIMIT {GROUP}", (arm, last)):
        last, count = page[-1][0], count + len(page)
        for row in page:
            hashed.update(canonical(row[1:]).encode())
    return f"{count} {hashed.hexdigest()[:32]}" if count else ""


def _rows(history: History, arm: str) -> Iterator[Placed]:
    for stage, ids in history.rows(arm).items():
        for start in range(0, len(ids), GROUP):
            part = ids[start : start + GROUP]
            known = {trace.id: trace for trace in history.some(part, arm)}
            yield from (
                Placed(known[id], stage, start + i) for i, id in enumerate(part) if id in known
            )


def _save(file: File, placed: Iterable[Placed]) -> None:
    """Write a file as a draft, bring it to the disk, and let it take its name."""
    import pyarrow as pa
    from pyarrow import parquet

    stated = {"potstill.scheme": SCHEME, "potstill.arm": file.arm, STATE: file.state}
    schema = _schema(pa).with_metadata(stated)
    draft = file.path.with_name(f"{file.path.name}.part")
    left = iter(placed)
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as raw:
            with parquet.ParquetWriter(
                raw, schema, compression="zstd", write_page_checksum=True
            ) as writer:
                while group := [_record(one) for one in islice(left, GROUP)]:
                    writer.write_table(pa.Table.from_pylist(group, schema=schema))
            raw.flush()
            os.fsync(raw.fileno())
        draft.replace(file.path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise unwritable(file.path.parent, error) from error
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _schema(pa: Any) -> Any:
    text, number, count = pa.string(), pa.float64(), pa.int64()
    span = pa.struct(
        [("start", count), ("stop", count), ("kind", text), ("weight", number), ("score", number)]
    )
    # A list and not a map: `datasets` has no type for maps.
    score = pa.struct([("name", text), ("value", number), ("text", text)])
    kinds: dict[str, Any] = {
        **dict.fromkeys(
            ("id", "problem", "question", "gold", "kind", "prompt", "text", "reasoning", "reply"),
            text,
        ),
        **{
            "given": count,
            "finish": text,
            "operator": text,
            "parents": pa.list_(text),
            "root": text,
        },
        **{"model": text, "draw": count, "settings": text, "saw_gold": pa.bool_(), "error": text},
        **dict.fromkeys(("status", "answer", "reason", "verifier"), text),
        **{"scores": pa.list_(score), "spans": pa.list_(span), "weight": number},
        **dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"), count
        ),
        **{"rival": text, "rival_text": text, "stage": text, "position": count},
    }
    return pa.schema(list(kinds.items()))


def _record(placed: Placed) -> dict[str, Any]:
    trace, problem, author, verdict = (
        placed.trace,
        placed.trace.problem,
        placed.trace.author,
        placed.trace.verdict,
    )
    reasoning, reply = split_reasoning(trace.text)
    record = {
        **{
            "id": trace.id,
            "problem": problem.id,
            "question": problem.question,
            "gold": problem.answer,
        },
        **{"kind": problem.kind, "prompt": json.dumps(_turns(trace.prompt)), "text": trace.text},
        **{"reasoning": reasoning, "reply": reply, "given": trace.given, "finish": trace.finish},
        **{"operator": trace.operator, "parents": list(trace.parents), "root": trace.root},
        "model": author.model if author else None,
        "draw": author.draw if author else None,
        "settings": canonical(dict(author.settings)) if author else None,
        **{
            "saw_gold": trace.saw_gold,
            "error": trace.error,
            "status": verdict.status,
            "answer": verdict.answer,
        },
        **{"reason": verdict.reason, "verifier": verdict.verifier, "scores": _scores(trace.scores)},
        **{"spans": [span._asdict() for span in trace.spans], "weight": trace.weight},
        **{f"{name}_tokens": value for name, value in trace.tokens._asdict().items()},
        "rival": trace.rival.id if trace.rival else None,
        "rival_text": trace.rival.text if trace.rival else None,
        **{"stage": placed.stage or None, "position": placed.position if placed.stage else None},
    }
    return {name: _encodable(value) for name, value in record.items()}


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [turn._asdict() for turn in turns]


def _scores(scores: Mapping[str, float | str | None]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": None, "text": value}
        if isinstance(value, str)
        else {"name": name, "value": value, "text": None}
        for name, value in scores.items()
    ]


def _encodable(value: Any) -> Any:
    """A string as UTF-8 has it: a lone surrogate, which only the store can keep, becomes U+FFFD."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return (
        {name: _encodable(item) for name, item in value.items()}
        if isinstance(value, dict)
        else value
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open Parquet file; whatever is wrong with it, also while it is read, is an InputError."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as opened:
            yield opened
    except FileNotFoundError as error:
        raise InputError(f"no file {path}", expected="a Parquet file", fix=_FIX) from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} can't be read as Parquet: {str(error).splitlines()[0]}",
            expected="a whole Parquet file",
            fix=_FIX,
        ) from error
