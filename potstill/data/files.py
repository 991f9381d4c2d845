"""The one reader of rows: jsonl, json, csv, parquet (each also .gz), hf:NAME; and of YAML and JSON values.

Rows come one after the other, each with where it stands. A bad one is an InputError with file and line, or, inside
`with skipping() as bad`, left out and listed.
"""

from __future__ import annotations

import gzip
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from potstill.data import hub, jsonl, tabular
from potstill.data import yaml as plain
from potstill.data.skipped import (
    Bad,
    checked,
    is_skipping,
    notes,
    refuse,
    row_at,
    save,
    save_beside,
    skipped,
    skipping,
)
from potstill.data.tabular import Row
from potstill.errors import InputError

__all__ = [
    "Bad",
    "Row",
    "checked",
    "content",
    "exists",
    "is_skipping",
    "name",
    "notes",
    "refuse",
    "row_at",
    "rows",
    "save",
]
__all__ += ["save_beside"]
__all__ += ["skipped", "skipping", "yaml"]

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_KINDS = ".jsonl is one JSON object a line, .json a list of objects"


def exists(spec: str) -> bool:
    """Whether a file of this name is there."""
    try:
        return Path(spec).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL: no file is called that
        return False


def name(spec: str) -> str:
    """What to call a source in what is kept: a file's own name, so that moving it changes nothing."""
    return spec if spec.startswith("hf:") else Path(spec).name


def rows(spec: str, what: str = "a file of rows") -> Iterator[Row]:
    """The rows of a file or of hf:NAME, lazily; InputError where there is none.

    Args:
        what: what the file should be, for the error.
    """
    if spec.startswith("hf:"):
        found = hub.rows(spec[3:])
    else:
        path = Path(spec).expanduser()
        found = _objects(_values(path, what, SUFFIXES), path)
    return _some(found, spec)


def content(path: Path, what: str) -> Any:
    """The value of a .json, .yaml or .yml file, or the list of a .jsonl file's values."""
    if path.suffix in (".yaml", ".yml"):
        _present(path, what, (".yaml", ".yml"))
        value = plain.read(path)
    elif path.suffix == ".json":
        _present(path, what, (".json",))
        value = _json(path)
    else:
        value = [item for _, item in _values(path, what, (".jsonl", ".json", ".yaml", ".yml"))]
    if not value:
        raise InputError(f"{path} is empty", expected=what, fix="write at least one row")
    return value


def yaml(path: Path, *, untyped: bool = False) -> Any:
    """The value of a YAML file of plain values: no object tags, no key twice; errors with the line.

    Args:
        path: the file.
        untyped: leave numbers and booleans as `config.Untyped` texts, for settings whose type decides.
    """
    return plain.read(path, untyped=untyped)


def yaml_lines(path: Path) -> dict[str, int]:
    """The line of each key of a file that `yaml` reads, by its dotted path."""
    return plain.lines(path.read_text("utf-8-sig"))


def _some(found: Iterator[Row], spec: str) -> Iterator[Row]:
    first = next(found, None)
    if first is not None:
        yield first
        yield from found
        return
    bad = [item for item in skipped() if item.file in (spec, str(Path(spec).expanduser()))]
    if bad:
        found_ = f"{spec} has no good row; of {len(bad)} bad ones the first is {bad[0].where}: {bad[0].reason}"
        raise InputError(
            found_, expected="at least one good row", fix="correct the rows, or give another file"
        )
    raise InputError(
        f"{spec} is empty",
        expected="at least one row",
        fix=f"check how {name(spec)} was made, or give another file",
    )


def _objects(found: Iterator[tuple[str, Any]], path: Path) -> Iterator[Row]:
    for where, value in found:
        if isinstance(value, dict):
            yield where, value
            continue
        error = InputError(
            f"{path}, {where}: a JSON {type(value).__name__}",
            expected="an object with named columns",
            fix=_KINDS,
        )
        refuse(error, path, where, value)


def _values(path: Path, what: str, known: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    _present(path, what, known)
    inner = path.with_suffix("") if path.suffix == ".gz" else path
    reader = _READERS.get(inner.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is of no kind that can be read ({inner.suffix or 'no suffix'})",
            expected=what,
            available=[*SUFFIXES, *(f"{s}.gz" for s in SUFFIXES)],
            fix=f"convert it to .jsonl, one JSON object a line; if it is that: mv {shlex.quote(str(path))} "
            f"{shlex.quote(str(path.with_suffix('.jsonl')))}",
        )
    return reader(path)


def _present(path: Path, what: str, known: tuple[str, ...]) -> None:
    if path.is_file():
        return
    folder = path if path.is_dir() else path.parent
    near = []
    if folder.is_dir():
        near = sorted(
            p.name for p in folder.iterdir() if p.name.removesuffix(".gz").endswith(known)
        )[:20]
    found = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
    fix = (
        f"give a file in it: {path / near[0]}"
        if path.is_dir() and near
        else "check the path, and give a file"
    )
    raise InputError(found, expected=what, available=near, wanted=path.name, fix=fix)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file as bytes, unpacked; what breaks on the way is an InputError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    cut = isinstance(error, EOFError | zlib.error)
    fix = "fetch or write it again" if cut else "check that it is whole and readable"
    return InputError(f"{path} can't be read: {error}", expected="a whole, readable file", fix=fix)


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    last = "line 0"
    try:
        with _opened(path) as file:
            for last, value in jsonl.values(file, path):
                yield last, value
    except InputError as error:
        if not is_skipping():
            raise
        refuse(error, path, f"after {last}")


def _json(path: Path) -> Any:
    with _opened(path) as file:
        data = file.read().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        return []
    try:
        jsonl.check_kind(data, path)
        text = jsonl.utf8(data, path)
        return jsonl.decode(text)
    except jsonl.Flaw as flaw:
        raise _flawed(path, data, flaw) from flaw


def _flawed(path: Path, data: bytes, flaw: jsonl.Flaw) -> InputError:
    """The error of a whole JSON file: where it stands, and whether the file looks like JSON lines."""
    cause = flaw.__cause__
    line, column = getattr(cause, "lineno", 0), getattr(cause, "colno", 0)
    if isinstance(cause, UnicodeDecodeError):
        line, column = data[: cause.start].count(b"\n") + 1, 0
    where = f", line {line}" * bool(line) + f", column {column}" * bool(column)
    fix = flaw.fix or _KINDS
    if "Extra data" in flaw.reason:
        fix = f"one object a line is .jsonl: mv {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('.jsonl')))}"
    return InputError(f"{path}{where}: {flaw.reason}", expected=flaw.expected, fix=fix)


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    value = _json(path)
    if isinstance(value, dict):  # {"data": [...]}: the one list in it
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise InputError(
            f"{path} holds a JSON {type(value).__name__}", expected="a list of objects", fix=_KINDS
        )
    return ((f"item {number}", item) for number, item in enumerate(value, 1))


def _csv(path: Path) -> Iterator[Row]:
    with _opened(path) as file:
        yield from tabular.csv_rows(file, path)


def _parquet(path: Path) -> Iterator[Row]:
    packed = None
    if path.suffix == ".gz":
        with _opened(path) as file:
            packed = file.read()
    return tabular.parquet_rows(path, packed)


_READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = MappingProxyType(
    {".jsonl": _jsonl, ".json": _json_items, ".csv": _csv, ".parquet": _parquet}
)
