"""CSV and Parquet, row by row."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from potstill.data.jsonl import LONGEST, Flaw, check_kind, lines
from potstill.data.skipped import refuse
from potstill.errors import InputError

Row: TypeAlias = tuple[str, dict[str, Any]]  # ("line 7", columns)

_TOGETHER = 1024  # rows of a parquet file that are in memory at once


def csv_rows(file: BinaryIO, path: Path) -> Iterator[Row]:
    """Rows of a CSV file with a header; each bad row is named by the line on which it ends."""
    csv.field_size_limit(LONGEST)
    reader = csv.reader(_text_lines(file, path), strict=True)
    header = next(_records(reader, path), ("", []))[1]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(
            f"{path}, line 1: two columns are called {repeated[0]!r}", fix="rename one of them"
        )
    for where, cells in _records(reader, path):
        if not cells:
            continue
        if flaw := _flaw_of(cells, header):
            expected = f"{len(header)} fields in UTF-8: {', '.join(header)}"
            fix = "quote fields that hold commas or line breaks; or leave bad rows out with --skip-bad"
            refuse(
                InputError(f"{path}, {where}: {flaw}", expected=expected, fix=fix),
                path,
                where,
                ",".join(cells),
            )
            continue
        yield where, dict(zip(header, cells, strict=True))


def _records(reader: Any, path: Path) -> Iterator[tuple[str, list[str]]]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"line {reader.line_num}"
            found = f"{path}, {where}: {error}"
            fix = "quote fields that hold quotes, and double the quotes in them; or leave bad rows out with --skip-bad"
            refuse(InputError(found, expected="comma-separated values", fix=fix), path, where)
        else:
            yield f"line {reader.line_num}", cells


def _flaw_of(cells: list[str], header: list[str]) -> str:
    if len(cells) != len(header):
        return f"{'more' if len(cells) > len(header) else 'fewer'} fields than the header has"
    if any("\0" in cell for cell in cells):
        return "a NUL byte"
    # Bytes that are not UTF-8 come as half characters, so that the row around them can still be found.
    return "not UTF-8" if any("\ud800" <= c <= "\udfff" for cell in cells for c in cell) else ""


def _text_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    for line in lines(file):
        if line.number == 1:
            try:
                check_kind(line.data, path)
            except Flaw as flaw:
                raise InputError(
                    f"{path}: {flaw.reason}", expected=flaw.expected, fix=flaw.fix
                ) from flaw
        if line.more:
            where = f"line {line.number}"
            found = f"{path}, {where}: a line of {line.more:,} bytes"
            refuse(
                InputError(found, expected=f"at most {LONGEST:,} bytes a line"),
                path,
                where,
                line.data,
            )
            continue
        text = line.data.decode("utf-8-sig" if line.number == 1 else "utf-8", "surrogateescape")
        yield text if line.cut else text + "\n"


def parquet_rows(path: Path, packed: bytes | None = None) -> Iterator[Row]:
    """Rows of a Parquet file, a portion at a time; where bad rows are skipped, a damaged row group is one of them.

    Args:
        packed: the file's content where it was not read from `path` itself (a .parquet.gz).
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow to be read", fix="pip install pyarrow") from error
    try:
        source = io.BytesIO(packed) if packed is not None else path
        file = pyarrow.parquet.ParquetFile(source, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise _no_parquet(path, packed, error) from error
    with file:
        first = 1
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(_TOGETHER, row_groups=[group]):
                    yield from _batch(batch, first, path)
                    first += batch.num_rows
                    size -= batch.num_rows
            except (pyarrow.ArrowException, OSError) as error:
                where = f"rows {first} to {first + size - 1}"
                found = f"{path}, {where}: damaged ({_short(error)})"
                fix = "fetch or write the file again; or keep what can be read with --skip-bad"
                refuse(InputError(found, expected="a whole parquet file", fix=fix), path, where)
                first += size


def _batch(batch: Any, first: int, path: Path) -> Iterator[Row]:
    try:
        found = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        found = None
    for at in range(batch.num_rows):
        where = f"row {first + at}"
        try:
            row = found[at] if found is not None else batch.slice(at, 1).to_pylist()[0]
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            found_ = f"{path}, {where}: {_short(error)}"
            refuse(
                InputError(found_, expected="UTF-8 text", fix="leave bad rows out with --skip-bad"),
                path,
                where,
            )
            continue
        yield where, without_nan(row)


def without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """A table's NaN is a cell without a value."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def _no_parquet(path: Path, packed: bytes | None, error: Exception) -> InputError:
    data = packed
    if data is None:
        with path.open("rb") as file:
            data = file.read(4)
    if data[:4] == b"PAR1":
        found, fix = (
            f"{path} is a parquet file that was cut short or damaged",
            "fetch or write it again",
        )
    else:
        found = f"{path} is no parquet file"
        fix = f"head -c 200 {shlex.quote(str(path))} shows what it is; rename it to .jsonl, .json or .csv if it is that"
    return InputError(
        f"{found} ({_short(error)})", expected="a whole parquet file, PAR1 at both ends", fix=fix
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
