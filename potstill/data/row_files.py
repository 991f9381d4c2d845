"""Rows into files: JSON lines or Parquet, compressed or not, one file or a set of shards, here or at a URL.

Rows are taken one after the other, and a few megabytes of them are in memory at once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

from potstill.data import shards, uploads
from potstill.data.shards import MANIFEST_FILE, PARTIAL_FILE, Shard
from potstill.data.urls import Location, Url
from potstill.errors import ConfigError, StageError

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_GROUP_BYTES = 16 * 2**20  # of rows as JSON lines that one row group of a Parquet file holds
_DIGITS = 5  # of a shard's number, as the Hugging Face hub has them
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """The bytes of `500MB`."""
    match = _SIZE.fullmatch(text.strip())
    size = 0
    if match:
        size = round(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise ConfigError(
            f"{text!r} is no size",
            expected="a number and B, KB, MB or GB",
            fix="500MB",
        )
    return size


def suffix_of(location: Location) -> str:
    """Which of `SUFFIXES` a file has; "" for none of them."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if location.name.endswith(suffix):
            return suffix
    return ""


class RowsWritten(NamedTuple):
    """What was written.

    Args:
        rows: in all files.
        files: shards, or 1.
        sent: files that were not there yet as they are now.
    """

    rows: int
    files: int
    sent: int


def row_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Rows as JSON lines of ASCII: lone surrogates and odd line ends come back as they were."""
    for row in rows:
        yield f"{json.dumps(row)}\n".encode("ascii")


def write_file(lines: Iterable[bytes], location: Location) -> RowsWritten:
    """Write rows into one file, whole or not at all; its suffix says how.

    Args:
        lines: each the JSON object of a row, with a line end.
        location: of the file.

    Raises:
        StageError: rows that Parquet can't hold.
        InputError: a URL that can't be written; the file stays on this machine.
    """
    suffix = suffix_of(location) or ".jsonl"
    with ExitStack() as stack:
        draft = stack.enter_context(uploads.replacing(location))
        source = _LineSource(lines)
        # Parquet wants the columns of all rows before the first is written.
        if suffix == ".parquet":
            source.spool(draft.with_name(f"{draft.name}.rows"), stack)
        with _open_writer(draft, suffix, source.schema) as writer:
            for line in source:
                writer.write(line)
    return RowsWritten(source.count, files=1, sent=1)


@dataclass(frozen=True, slots=True)
class ShardFormat:
    """How a set of shards is written.

    Args:
        stem: of the files' names, as in `train-00000.jsonl`.
        suffix: one of `SUFFIXES`.
        shard_bytes: of a shard's rows as JSON lines, at most; a longer row is a shard of its own.
    """

    stem: str = "train"
    suffix: str = ".jsonl"
    shard_bytes: int = 500 * 10**6

    def shard_name(self, number: int) -> str:
        """The name of a shard, counted from 0."""
        return f"{self.stem}-{number:0{_DIGITS}}{self.suffix}"

    def is_shard(self, name: str) -> bool:
        """Whether a file of this name is a shard of this format."""
        pattern = rf"{re.escape(self.stem)}-\d{{{_DIGITS}}}{re.escape(self.suffix)}"
        return re.fullmatch(pattern, name) is not None

    def glob(self) -> str:
        """The pattern of the shards' names."""
        return f"{self.stem}-*{self.suffix}"


def write_shards(
    lines: Iterable[bytes],
    folder: Location,
    form: ShardFormat,
    *,
    before_manifest: Mapping[str, bytes] | None = None,
) -> RowsWritten:
    """Write rows as a set of shards; `shards.json` is written when all of them are there.

    After an exception or a kill the same call goes on: shards that are there with the same content are not written or
    sent again, and the result is the same bytes as of one undisturbed call. A set of other content in the folder is
    replaced, and its surplus shards are deleted.

    Args:
        lines: each the JSON object of a row, with a line end.
        folder: of the set.
        form: of the shards.
        before_manifest: other files of the folder (a dataset card) by name.
    """
    with ExitStack() as stack:
        spool = _spool_of(folder, stack)
        delivery = _Delivery(folder, form)
        source = _LineSource(lines)
        if form.suffix == ".parquet":
            # The columns of all rows are those of every shard.
            source.spool(spool / "rows", stack)
        # One shard at a time is on this machine; it is gone when the next is begun.
        for draft, row_count in _write_drafts(source, form, spool):
            delivery.deliver(draft, row_count)
        # Whoever sees the manifest finds the other files too.
        for name, content in (before_manifest or {}).items():
            uploads.write_bytes(folder / name, content)
        delivery.finish()
    return RowsWritten(source.count, files=len(delivery.shards), sent=delivery.sent)


def _spool_of(folder: Location, stack: ExitStack) -> Path:
    """A folder for a shard that is being written; on this machine it is inside the set's own."""
    if isinstance(folder, Url):
        return stack.enter_context(uploads.spool_folder(folder))
    spool = folder / ".shards.part"
    spool.mkdir(parents=True, exist_ok=True)

    def clear() -> None:
        for leftover in spool.iterdir():
            leftover.unlink()
        spool.rmdir()

    stack.callback(clear)
    return spool


@final
class _Delivery:
    """Brings shards into a folder, and notes which are there."""

    def __init__(self, folder: Location, form: ShardFormat) -> None:
        """Read what an earlier call has brought."""
        self._folder = folder
        self.shards: list[Shard] = []
        self.sent = 0
        self._finished = shards.read_manifest(folder / MANIFEST_FILE)
        self._is_changing = False
        arrived = shards.read_manifest(folder / PARTIAL_FILE) or []
        # What may still be there: of an interrupted set what has arrived, of a finished one all.
        self._earlier = {shard.name: shard for shard in (*(self._finished or ()), *arrived)}
        if isinstance(folder, Url):
            uploads.abort_open_uploads(folder / MANIFEST_FILE, form.is_shard)

    def deliver(self, draft: Path, row_count: int) -> None:
        """Move or send a shard, unless the same is there already; the draft is gone afterwards."""
        with draft.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        shard = Shard(draft.name, row_count, draft.stat().st_size, sha256)
        # Rows are made again after a kill, and compared by their hash: only what differs is sent.
        earlier = self._earlier.get(shard.name)
        is_there = earlier is not None and self._is_there(shard, earlier)
        if earlier is not None and is_there:
            shard = earlier
            draft.unlink()
        else:
            self._open_set()
            location = self._folder / shard.name
            if isinstance(location, Url):
                etag = uploads.send(draft, location)
                shard = Shard(shard.name, row_count, shard.bytes, sha256, etag)
                draft.unlink()
            else:
                draft.replace(location)
            self.sent += 1
        self.shards.append(shard)
        self._earlier[shard.name] = shard
        if self._is_changing:
            self._note_progress()

    def finish(self) -> None:
        """Delete the shards of an earlier set that this one does not have, and write the manifest."""
        names = {shard.name for shard in self.shards}
        surplus = [name for name in self._earlier if name not in names]
        if surplus:
            self._open_set()
        # Shards that an earlier, longer set has left would be read by a pattern.
        for name in surplus:
            uploads.delete(self._folder / name)
        manifest = shards.render_manifest(self.shards)
        is_finished = self._finished is not None and not self._is_changing
        if not is_finished or manifest != shards.render_manifest(self._finished or ()):
            uploads.write_bytes(self._folder / MANIFEST_FILE, manifest)
        uploads.delete(self._folder / PARTIAL_FILE)

    def _is_there(self, shard: Shard, earlier: Shard) -> bool:
        """Whether an earlier call has brought the same content, and nobody has written over it."""
        has_same_content = (shard.sha256, shard.bytes, shard.rows) == (
            earlier.sha256,
            earlier.bytes,
            earlier.rows,
        )
        if not has_same_content:
            return False
        location = self._folder / shard.name
        if not isinstance(location, Url):
            return shards.file_size(location) == shard.bytes
        # Somebody may have written over it since: the server's own name for the content tells.
        details = location.details()
        if details is None or details["size"] != shard.bytes:
            return False
        return not earlier.etag or earlier.etag == uploads.etag_of(details)

    def _open_set(self) -> None:
        """Mark the set as incomplete, before anything of it changes."""
        if not self._is_changing:
            self._is_changing = True
            self._note_progress()
            uploads.delete(self._folder / MANIFEST_FILE)

    def _note_progress(self) -> None:
        # What stands there of an earlier set is named too: it is compared or deleted later.
        uploads.write_bytes(
            self._folder / PARTIAL_FILE, shards.render_progress(list(self._earlier.values()))
        )


# Rows as lines


@final
class _LineSource:
    """Lines, once; they can be laid into a file first, so that the columns of all of them are known."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self._spool: Path | None = None
        self.count = 0
        self.schema: Any = None

    def spool(self, file: Path, stack: ExitStack) -> None:
        """Lay the rows into a file, and learn their schema; the stack deletes the file."""
        stack.callback(file.unlink, missing_ok=True)
        batch: list[bytes] = []
        batch_bytes = 0
        with file.open("wb") as spool:
            for line in self:
                spool.write(line)
                batch.append(line)
                batch_bytes += len(line)
                if batch_bytes >= _GROUP_BYTES:
                    self._widen_schema(batch)
                    batch, batch_bytes = [], 0
        if batch:
            self._widen_schema(batch)
        self._spool = file

    def __iter__(self) -> Iterator[bytes]:
        """The lines."""
        if self._spool is not None:
            with self._spool.open("rb") as spool:
                yield from spool
            return
        for line in self._lines:
            self.count += 1
            yield line

    def _widen_schema(self, batch: list[bytes]) -> None:
        import pyarrow

        schemas = [_table_of_lines(batch).schema]
        if self.schema is not None:
            schemas.insert(0, self.schema)
        try:
            self.schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
        except pyarrow.ArrowException as error:
            raise _not_parquet(error) from error


def _write_drafts(
    source: _LineSource, form: ShardFormat, spool: Path
) -> Iterator[tuple[Path, int]]:
    """Write shard after shard into a folder; each with its number of rows. The next is begun when one was taken."""
    # A shard ends before the line that would make it too large.
    remaining = iter(source)
    line = next(remaining, None)
    number = 0
    while line is not None:
        draft = spool / form.shard_name(number)
        row_count = size = 0
        with _open_writer(draft, form.suffix, source.schema) as writer:
            while line is not None and (not row_count or size + len(line) <= form.shard_bytes):
                writer.write(line)
                row_count += 1
                size += len(line)
                line = next(remaining, None)
        yield draft, row_count
        number += 1


class _LineWriter(Protocol):
    """Where lines go."""

    def write(self, line: bytes, /) -> object:
        """Take a line."""
        ...


@contextmanager
def _open_writer(draft: Path, suffix: str, schema: Any) -> Iterator[_LineWriter]:
    if suffix == ".parquet":
        with _ParquetWriter(draft, schema) as writer:
            yield writer
        return
    with draft.open("wb") as file:
        if suffix == ".jsonl":
            yield file
            return
        # Neither a name nor a time stands in the file: the same rows are the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            yield packed


@final
class _ParquetWriter:
    """Writes lines as a Parquet file, in row groups of some megabytes."""

    def __init__(self, draft: Path, schema: Any) -> None:
        self._draft, self._schema = draft, schema
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._writer: Any = None

    def __enter__(self) -> _ParquetWriter:
        import pyarrow
        import pyarrow.parquet

        schema = self._schema if self._schema is not None else pyarrow.schema([])
        self._writer = pyarrow.parquet.ParquetWriter(
            self._draft, schema, compression="zstd", write_page_checksum=True
        )
        return self

    def write(self, line: bytes) -> None:
        """Take a line."""
        self._batch.append(line)
        self._batch_bytes += len(line)
        if self._batch_bytes >= _GROUP_BYTES:
            self._write_group()

    def __exit__(self, *error: object) -> None:
        with self._writer:
            if error[0] is None and self._batch:
                self._write_group()

    def _write_group(self) -> None:
        self._writer.write_table(_table_of_lines(self._batch, self._schema))
        self._batch, self._batch_bytes = [], 0


def _table_of_lines(lines: list[bytes], schema: Any = None) -> Any:
    import pyarrow

    # Through JSON, so that a shard does not depend on whether its rows came from memory or from the spool.
    rows = [json.loads(line) for line in lines]
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row)
    # pyarrow takes the columns of the first row, and would drop those that only later rows have.
    filled_rows = [dict.fromkeys(columns) | row for row in rows]
    try:
        return pyarrow.Table.from_pylist(filled_rows, schema=schema)
    except (UnicodeEncodeError, pyarrow.ArrowException) as error:
        raise _not_parquet(error) from error


def _not_parquet(error: Exception) -> StageError:
    return StageError(
        f"the rows can't be written as parquet: {' '.join(str(error).split())[:200]}",
        expected="texts that UTF-8 can hold, and one type a column",
        fix="write them as .jsonl, which keeps half characters",
    )
