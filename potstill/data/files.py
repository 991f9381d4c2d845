"""The rows of files: jsonl, json, csv, parquet (each also .gz), hf:NAME; and the values of YAML and JSON files.

Rows come one after the other, each with where it stands. A bad one is an InputError with file and line, or, inside
`with skipping() as bad_rows`, left out and listed.
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

from potstill.data import hub, jsonl, tabular, yaml
from potstill.data.skipped import (
    Bad,
    is_skipping,
    notes,
    refuse,
    refuse_row,
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
    "is_file",
    "is_skipping",
    "notes",
    "read_rows",
    "read_value",
    "read_yaml",
    "refuse",
    "refuse_row",
    "save",
    "save_beside",
    "skipped",
    "skipping",
    "source_name",
    "yaml_key_lines",
]

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_YAML_SUFFIXES = (".yaml", ".yml")
_JSON_FORMS = ".jsonl is one JSON object a line, .json a list of objects"


def is_file(spec: str) -> bool:
    """Whether a file of this name is there."""
    try:
        return Path(spec).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL: no file is called that
        return False


def source_name(spec: str) -> str:
    """What to call a source in what is stored: a file's own name, so that moving it changes nothing."""
    if spec.startswith("hf:"):
        return spec
    return Path(spec).name


def read_rows(spec: str, what: str = "a file of rows") -> Iterator[Row]:
    """The rows of a file or of hf:NAME, lazily; InputError where there is none.

    Args:
        spec: a path, or hf:NAME.
        what: what the file should be, for the error.
    """
    if spec.startswith("hf:"):
        rows = hub.read_rows(spec[3:])
    else:
        path = Path(spec).expanduser()
        rows = _objects_alone(_read_values(path, what, SUFFIXES), path)
    return _at_least_one(rows, spec)


def read_value(path: Path, what: str) -> Any:
    """The value of a .json, .yaml or .yml file, or the list of a .jsonl file's values."""
    if path.suffix in _YAML_SUFFIXES:
        _check_present(path, what, _YAML_SUFFIXES)
        value = yaml.read(path)
    elif path.suffix == ".json":
        _check_present(path, what, (".json",))
        value = _read_json(path)
    else:
        value = [item for _, item in _read_values(path, what, (".jsonl", ".json", *_YAML_SUFFIXES))]
    if not value:
        raise InputError(f"{path} is empty", expected=what, fix="write at least one row")
    return value


def read_yaml(path: Path, *, untyped: bool = False) -> Any:
    """The value of a YAML file of plain values: no object tags, no key twice; errors with the line.

    Args:
        path: the file.
        untyped: leave numbers and booleans as `config.Untyped` texts, for settings whose type decides.
    """
    return yaml.read(path, untyped=untyped)


def yaml_key_lines(path: Path) -> dict[str, int]:
    """The line of each key of a file that `read_yaml` reads, by its dotted path."""
    return yaml.lines(path.read_text("utf-8-sig"))


def _at_least_one(rows: Iterator[Row], spec: str) -> Iterator[Row]:
    """The rows; InputError where there are none, or none that is good."""
    first = next(rows, None)
    if first is not None:
        yield first
        yield from rows
        return
    names = (spec, str(Path(spec).expanduser()))
    bad_rows = [bad for bad in skipped() if bad.file in names]
    if bad_rows:
        first_bad = bad_rows[0]
        raise InputError(
            f"{spec} has no good row; of {len(bad_rows)} bad ones the first is {first_bad.where}: {first_bad.reason}",
            expected="at least one good row",
            fix="correct the rows, or give another file",
        )
    raise InputError(
        f"{spec} is empty",
        expected="at least one row",
        fix=f"check how {source_name(spec)} was made, or give another file",
    )


def _objects_alone(values: Iterator[tuple[str, Any]], path: Path) -> Iterator[Row]:
    """The values that are objects; the others are bad rows."""
    for place, value in values:
        if isinstance(value, dict):
            yield place, value
            continue
        error = InputError(
            f"{path}, {place}: a JSON {type(value).__name__}",
            expected="an object with named columns",
            fix=_JSON_FORMS,
        )
        refuse(error, path, place, value)


def _read_values(path: Path, what: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    _check_present(path, what, suffixes)
    unpacked = path.with_suffix("") if path.suffix == ".gz" else path
    read = _READERS.get(unpacked.suffix.lower())
    if read is None:
        renamed = path.with_suffix(".jsonl")
        raise InputError(
            f"{path} is of no kind that can be read ({unpacked.suffix or 'no suffix'})",
            expected=what,
            available=[*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES)],
            fix=f"convert it to .jsonl, one JSON object a line; if it is that: mv {shlex.quote(str(path))} "
            f"{shlex.quote(str(renamed))}",
        )
    return read(path)


def _check_present(path: Path, what: str, suffixes: tuple[str, ...]) -> None:
    """Refuse a path without a file, with the files that lie there."""
    if path.is_file():
        return
    is_folder = path.is_dir()
    folder = path if is_folder else path.parent
    neighbours = []
    if folder.is_dir():
        for neighbour in sorted(folder.iterdir()):
            if neighbour.name.removesuffix(".gz").endswith(suffixes):
                neighbours.append(neighbour.name)
    fix = "check the path, and give a file"
    if is_folder and neighbours:
        fix = f"give a file in it: {path / neighbours[0]}"
    problem = f"there is no file {path}"
    if is_folder:
        problem = f"{path} is a folder"
    raise InputError(
        problem,
        expected=what,
        available=neighbours[:20],
        wanted=path.name,
        fix=fix,
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file as bytes, unpacked; what breaks on the way is an InputError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        fix = "check that it is whole and readable"
        if isinstance(error, EOFError | zlib.error):
            fix = "fetch or write it again"
        raise InputError(
            f"{path} can't be read: {error}", expected="a whole, readable file", fix=fix
        ) from error


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    last_place = "line 0"
    try:
        with _opened(path) as file:
            for last_place, value in jsonl.read_values(file, path):
                yield last_place, value
    except InputError as error:
        if not is_skipping():
            raise
        refuse(error, path, f"after {last_place}")


def _read_json(path: Path) -> Any:
    with _opened(path) as file:
        data = file.read().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        return []
    try:
        jsonl.check_content(data, path)
        text = jsonl.decode_utf8(data, path)
        return jsonl.decode_json(text)
    except jsonl.Flaw as flaw:
        raise _json_error(path, data, flaw) from flaw


def _json_error(path: Path, data: bytes, flaw: jsonl.Flaw) -> InputError:
    """The error of a whole JSON file: where it stands, and whether the file looks like JSON lines."""
    cause = flaw.__cause__
    line, column = getattr(cause, "lineno", 0), getattr(cause, "colno", 0)
    if isinstance(cause, UnicodeDecodeError):
        line, column = data[: cause.start].count(b"\n") + 1, 0
    place = ""
    if line:
        place += f", line {line}"
    if column:
        place += f", column {column}"
    fix = flaw.fix or _JSON_FORMS
    if "Extra data" in flaw.reason:
        renamed = path.with_suffix(".jsonl")
        fix = (
            f"one object a line is .jsonl: mv {shlex.quote(str(path))} {shlex.quote(str(renamed))}"
        )
    return InputError(f"{path}{place}: {flaw.reason}", expected=flaw.expected, fix=fix)


def _read_json_items(path: Path) -> Iterator[tuple[str, Any]]:
    value = _read_json(path)
    if isinstance(value, dict):
        # {"data": [...]}: the one list in it holds the rows.
        lists = [item for item in value.values() if isinstance(item, list)]
        if len(lists) == 1:
            value = lists[0]
    if not isinstance(value, list):
        raise InputError(
            f"{path} holds a JSON {type(value).__name__}",
            expected="a list of objects",
            fix=_JSON_FORMS,
        )
    return ((f"item {number}", item) for number, item in enumerate(value, 1))


def _read_csv(path: Path) -> Iterator[Row]:
    with _opened(path) as file:
        yield from tabular.read_csv(file, path)


def _read_parquet(path: Path) -> Iterator[Row]:
    content = None
    if path.suffix == ".gz":
        with _opened(path) as file:
            content = file.read()
    return tabular.read_parquet(path, content)


_READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = MappingProxyType(
    {
        ".jsonl": _read_jsonl,
        ".json": _read_json_items,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
)
