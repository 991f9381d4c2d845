"""CSV and Parquet, row by row."""

from __future__ import annotations

import csv
import io
import itertools
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from potstill.data.skipped import refuse
from potstill.data.urls import Location, Url
from potstill.errors import InputError

Row: TypeAlias = tuple[str, dict[str, Any]]
"""Where a row stands ("line 7"), and its columns."""

NOT_UTF8 = "not UTF-8"
# What may part the columns of a CSV file, and its name; the first wins where two part the header alike.
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_BATCH_ROWS = 1024  # of a parquet file that are in memory at once


def read_csv(
    lines: Iterable[str], path: Location, *, max_cell: int, separator: str = ""
) -> Iterator[Row]:
    """Rows of a CSV file with a header; each bad row is named by the line on which it ends.

    Args:
        lines: of the file, with their ends.
        path: the file, for messages.
        max_cell: characters of a cell at most.
        separator: of the columns; without one it is what parts the header in the most: a comma, a semicolon or a tab.
    """
    csv.field_size_limit(max_cell)
    remaining_lines = iter(lines)
    first_lines = list(itertools.islice(remaining_lines, 2))
    separator = separator or _find_separator(first_lines)
    all_lines = itertools.chain(first_lines, remaining_lines)
    reader = csv.reader(all_lines, delimiter=separator, strict=True)
    _, header = next(_records(reader, path, separator), ("", []))
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(
            f"{path}, line 1: two columns are called {repeated[0]!r}", fix="rename one of them"
        )
    for place, cells in _records(reader, path, separator):
        if not cells:
            continue
        flaw = _flaw_of_cells(cells, header)
        if not flaw:
            yield place, dict(zip(header, cells, strict=True))
            continue
        fix = f"quote fields that hold {SEPARATORS[separator]} or line breaks"
        if flaw == NOT_UTF8:
            command = f"iconv -f LATIN1 -t UTF-8 {shell_name(path)} > clean{path.suffix}"
            fix = f"{command}, where that is its encoding"
        error = InputError(
            f"{path}, {place}: {flaw}",
            expected=f"{len(header)} fields in UTF-8, parted by {SEPARATORS[separator]}: {', '.join(header)}",
            fix=f"{fix}; or leave bad rows out with --skip-bad",
        )
        refuse(error, path, place, separator.join(cells))


def read_parquet(path: Location, content: bytes | None = None) -> Iterator[Row]:
    """Rows of a Parquet file, a batch at a time; where bad rows are skipped, a damaged row group is one of them.

    Args:
        path: the file.
        content: what it holds, where it was not read from `path` itself (a .parquet.gz).
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow to be read", fix="pip install pyarrow") from error
    try:
        source: Any = path
        if content is not None:
            source = io.BytesIO(content)
        elif isinstance(path, Url):
            source = path.open()
        file = pyarrow.parquet.ParquetFile(source, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise _not_parquet(path, content, error) from error
    with file:
        next_row = 1
        for group in range(file.num_row_groups):
            rows_left = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group]):
                    yield from _rows_of_batch(batch, next_row, path)
                    next_row += batch.num_rows
                    rows_left -= batch.num_rows
            except (pyarrow.ArrowException, OSError) as error:
                # The rest of the group is lost; the next group may be whole.
                place = f"rows {next_row} to {next_row + rows_left - 1}"
                damage = InputError(
                    f"{path}, {place}: damaged ({_short_text(error)})",
                    expected="a whole parquet file",
                    fix="fetch or write the file again; or keep what can be read with --skip-bad",
                )
                refuse(damage, path, place)
                next_row += rows_left


def shell_name(path: Location) -> str:
    """A file's path as a shell wants it; of a URL the name alone, as it lies here once it is fetched."""
    return shlex.quote(path.name if isinstance(path, Url) else str(path))


def nan_as_none(row: dict[str, Any]) -> dict[str, Any]:
    """A row with None for NaN: a table has it in cells without a value."""
    cells = {}
    for name, value in row.items():
        if isinstance(value, float) and math.isnan(value):
            value = None
        cells[name] = value
    return cells


def _find_separator(first_lines: Sequence[str]) -> str:
    """What parts the header in the most columns, and the line after it in as many; a comma where nothing does."""
    filled_lines = [line for line in first_lines if line.strip()]
    if not filled_lines:
        return ","
    ends_in_a_cell = filled_lines[-1].count('"') % 2 == 1  # which holds a line break
    most_columns, best = 1, ","
    for separator in SEPARATORS:
        counts = [len(_split_line(line, separator)) for line in filled_lines]
        is_even = ends_in_a_cell or len(set(counts)) == 1
        if is_even and counts[0] > most_columns:
            most_columns, best = counts[0], separator
    return best


def _split_line(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _records(reader: Any, path: Location, separator: str) -> Iterator[tuple[str, list[str]]]:
    """The records of a CSV reader with the lines on which they end, without those that can't be parsed."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"line {reader.line_num}"
            flaw = InputError(
                f"{path}, {place}: {error}",
                expected=f"values parted by {SEPARATORS[separator]}",
                fix="quote fields that hold quotes, and double the quotes in them; "
                "or leave bad rows out with --skip-bad",
            )
            refuse(flaw, path, place)
        else:
            yield f"line {reader.line_num}", cells


def _flaw_of_cells(cells: list[str], header: list[str]) -> str:
    """What is wrong with a record; "" where nothing is."""
    if len(cells) > len(header):
        return "more fields than the header has"
    if len(cells) < len(header):
        return "fewer fields than the header has"
    text = "".join(cells)
    if "\0" in text:
        return "a NUL byte"
    # Bytes that are not UTF-8 come as half characters, so that the row around them can still be read.
    has_half_character = any("\ud800" <= character <= "\udfff" for character in text)
    if has_half_character:
        return NOT_UTF8
    return ""


def _rows_of_batch(batch: Any, first_row: int, path: Location) -> Iterator[Row]:
    try:
        rows = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        rows = None  # some row is bad: read them one by one to know which
    for index in range(batch.num_rows):
        place = f"row {first_row + index}"
        try:
            row = batch.slice(index, 1).to_pylist()[0] if rows is None else rows[index]
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            flaw = InputError(
                f"{path}, {place}: {_short_text(error)}",
                expected="UTF-8 text",
                fix="leave bad rows out with --skip-bad",
            )
            refuse(flaw, path, place)
            continue
        yield place, nan_as_none(row)


def _not_parquet(path: Location, content: bytes | None, error: Exception) -> InputError:
    if content is None:
        with path.open("rb") as file:
            content = file.read(4)
    if content[:4] == b"PAR1":
        problem = f"{path} is a parquet file that was cut short or damaged"
        fix = "fetch or write it again"
    else:
        problem = f"{path} is no parquet file"
        fix = f"head -c 200 {shell_name(path)} shows what it is; rename it to .jsonl, .json or .csv if it is that"
    return InputError(
        f"{problem} ({_short_text(error)})",
        expected="a whole parquet file, PAR1 at both ends",
        fix=fix,
    )


def _short_text(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
