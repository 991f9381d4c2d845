"""Rows of a problem file, each with where it stands: jsonl, json, csv, parquet, all also gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from potstill.errors import InputError

Row: TypeAlias = tuple[str, dict[str, Any]]  # ("line 7", columns)

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_MAP_JSONL = ".jsonl is one JSON object a line, .json a list of objects"


def exists(spec: str) -> bool:
    """Whether a file of this name is there."""
    return Path(spec).is_file()


def name(spec: str) -> str:
    """The file's own name: a problem must not change its id when its file moves."""
    return Path(spec).name


def rows(spec: str) -> list[Row]:
    """All rows of a file; what can't be read says the file, the line and what was expected there."""
    path = Path(spec)
    if not path.is_file():
        raise _missing(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    reader = _READERS.get(suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is of no kind that can be read ({suffix or 'no suffix'})",
            expected="a problem file",
            available=[*SUFFIXES, *(f"{s}.gz" for s in SUFFIXES)],
            fix="convert it to .jsonl: one JSON object a line",
        )
    read = list(reader(_content(path), path))
    if not read:
        raise InputError(f"{path} is empty", expected="at least one row", fix=f"check how {path.name} was made")
    return read


def _missing(path: Path) -> InputError:
    folder = path.parent
    near = (
        sorted(p.name for p in folder.iterdir() if p.name.removesuffix(".gz").endswith(SUFFIXES))
        if folder.is_dir()
        else []
    )
    found = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
    return InputError(found, expected="a problem file", available=near[:20], wanted=path.name, fix="check the path")


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read: {error}", fix="check that it is whole and readable") from error


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8", expected="UTF-8 text", fix="iconv -t UTF-8") from error


def _jsonl(data: bytes, path: Path) -> Iterator[Row]:
    for number, line in enumerate(_text(data, path).split("\n"), 1):
        if line.strip():
            yield f"line {number}", _object(_json(line, path, number), path, f"line {number}")


def _json_list(data: bytes, path: Path) -> Iterator[Row]:
    text = _text(data, path)
    if not text.strip():
        return
    value = _json(text, path, 1)
    if isinstance(value, Mapping):  # {"data": [...]}: the one list in it
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise InputError(f"{path} holds a JSON {type(value).__name__}", expected="a list of objects", fix=_MAP_JSONL)
    for number, item in enumerate(value, 1):
        yield f"item {number}", _object(item, path, f"item {number}")


def _csv(data: bytes, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(_text(data, path), newline=""), strict=True)
    try:
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise InputError(
                    f"{path}, {where}: {'more' if None in row else 'fewer'} fields than the header has",
                    expected=f"{len(reader.fieldnames or ())} fields: {', '.join(reader.fieldnames or ())}",
                    fix="quote fields that hold commas or line breaks",
                )
            yield where, dict(row)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}", expected="comma-separated values") from error


def _parquet(data: bytes, path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow to be read", fix="pip install 'potstill[data]'") from error
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is no parquet file: {error}", expected="a parquet file") from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row


def _json(text: str, path: Path, line: int) -> Any:
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}, line {line}: half a character ({error.object[error.start]!a}), which no model can read",
            expected="surrogates (\\ud800 to \\udfff) in pairs only",
            fix="write the file again from its source, or take the half characters out",
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        lineno, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise InputError(
            f"{path}, line {line + lineno - 1}, column {column}: {getattr(error, 'msg', 'nested too deeply')}",
            expected="JSON",
            fix=_MAP_JSONL,
        ) from error


def _object(value: Any, path: Path, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise InputError(
        f"{path}, {where}: a JSON {type(value).__name__}", expected="an object with named columns", fix=_MAP_JSONL
    )


_READERS: Mapping[str, Callable[[bytes, Path], Iterator[Row]]] = MappingProxyType(
    {".jsonl": _jsonl, ".json": _json_list, ".csv": _csv, ".parquet": _parquet}
)
