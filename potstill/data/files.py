"""The rows of files: jsonl, json, csv, tsv, parquet (also compressed), pipes, hf:NAME; and the values of YAML and JSON.

A file is named by a path, a URL (s3://bucket/rows.jsonl), a pattern of several (train-*.parquet) or the folder of a set
of shards. Rows come one after the other, each with where it stands. A bad one is an InputError with file and line, or,
inside `with skipping() as bad_rows`, left out and listed.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, NoReturn, TypeAlias, final

from potstill.data import hub, shards, tabular, yaml
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
from potstill.data.streams import (
    COMPRESSIONS,
    Hash,
    has_no_suffix,
    is_compressed,
    is_pipe,
    opened,
    suffix_of_content,
    without_compression,
)
from potstill.data.tabular import Row, shell_name
from potstill.data.urls import Location, Url, location_of
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

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_YAML_SUFFIXES = (".yaml", ".yml")
_JSON_FORMS = ".jsonl is one JSON object a line, .json a list of objects"
MAX_LINE_BYTES = 64 * 2**20  # what is longer is refused without being loaded

_PIECE_BYTES = 2**20  # of a line that is too long, read at once to find its end
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
# What files of other kinds begin with: someone gave them the wrong name.
_MAGIC_BYTES = {
    b"PAR1": ".parquet",
    b"\x1f\x8b": ".gz",
    b"PK\x03\x04": ".zip",
    b"\x28\xb5\x2f\xfd": ".zst",
}


# What reads a file's values, and hashes the file on the way.
_Reader: TypeAlias = Callable[[Location, Hash | None], Iterator[tuple[str, Any]]]


@final
class Flaw(Exception):
    """What is wrong with one line."""

    def __init__(self, reason: str, expected: str, fix: str = "", column: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.expected, self.fix, self.column = reason, expected, fix, column


def is_file(spec: str) -> bool:
    """Whether a file of this name is there."""
    try:
        return Path(spec).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL: no file is called that
        return False


def source_name(spec: str) -> str:
    """What to call a source in what is stored: a file's own name, so that moving it changes nothing."""
    if hub.is_dataset(spec):
        return spec
    location = location_of(spec)
    if isinstance(location, Url):
        return location.name
    # A pipe of the shell is called by a number: /dev/fd/63.
    if location.name.isdecimal() and has_no_suffix(location):
        return "pipe"
    return location.name


def read_rows(spec: str, what: str = "a file of rows") -> Iterator[Row]:
    """The rows of files or of hf:NAME, lazily; InputError where there is none.

    Args:
        spec: a path or a URL, of a file, of several (with `*`), or of the folder of a set of shards; or hf:NAME.
        what: what the file should be, for the error.
    """
    if hub.is_dataset(spec):
        return _at_least_one(hub.read_rows(spec[3:]), spec, {spec})
    location = location_of(spec)
    parts = shards.find_parts(location)
    if parts is None:
        rows = _objects_alone(_read_values(location, what, SUFFIXES), location)
        return _at_least_one(rows, spec, {spec, str(location)})
    return _at_least_one(_rows_of_parts(parts, what), spec, {str(file) for file, _ in parts})


def _rows_of_parts(
    parts: Sequence[tuple[Location, shards.Shard | None]], what: str
) -> Iterator[Row]:
    """The rows of several files, one after the other; a shard is compared with what its manifest says."""
    for file, shard in parts:
        file_hash = hashlib.sha256()
        count = 0
        for place, row in _objects_alone(_read_values(file, what, SUFFIXES, file_hash), file):
            count += 1
            yield f"{file.name}, {place}", row
        if shard is not None:
            _check_shard(file, shard, count, file_hash.hexdigest())


def _check_shard(file: Location, shard: shards.Shard, row_count: int, sha256: str) -> None:
    """Refuse a shard that is not as it was written; the pages of a Parquet file have checksums of their own."""
    has_other_bytes = ".parquet" not in file.suffix and sha256 != shard.sha256
    has_other_rows = row_count != shard.rows and not is_skipping()
    if has_other_bytes or has_other_rows:
        problem = "has another SHA-256" if has_other_bytes else f"has {row_count:,} rows"
        raise InputError(
            f"{file} {problem} than {shards.MANIFEST_FILE} says ({shard.rows:,} rows, {shard.sha256[:12]}…)",
            expected="the set as it was written",
            fix="give the command that writes it once more: it sends what differs",
        )


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


def _at_least_one(rows: Iterator[Row], spec: str, names: Collection[str]) -> Iterator[Row]:
    """The rows; InputError where there are none, or none that is good.

    Args:
        rows: of the files.
        spec: what the user named.
        names: of the files, as bad rows have them.
    """
    first = next(rows, None)
    if first is not None:
        yield first
        yield from rows
        return
    # Nothing came: all rows were bad, or the file has none.
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


def _objects_alone(values: Iterator[tuple[str, Any]], path: Location) -> Iterator[Row]:
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


def _read_values(
    path: Location, what: str, suffixes: tuple[str, ...], file_hash: Hash | None = None
) -> Iterator[tuple[str, Any]]:
    _check_present(path, what, suffixes)
    unpacked = without_compression(path)
    suffix = unpacked.suffix.lower()
    if has_no_suffix(path):
        suffix = suffix_of_content(path)
    read = _READERS.get(suffix)
    if read is None:
        renamed = path.with_suffix(".jsonl")
        raise InputError(
            f"{path} is of no kind that can be read ({unpacked.suffix or 'no suffix'})",
            expected=what,
            available=[*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES)],
            fix=f"convert it to .jsonl, one JSON object a line; if it is that: mv {shell_name(path)} "
            f"{shell_name(renamed)}",
        )
    return read(path, file_hash)


def _check_present(path: Location, what: str, suffixes: tuple[str, ...]) -> None:
    """Refuse a path without a file, with the files that lie there."""
    if path.is_file() or is_pipe(path):
        return
    # What may have been meant: the files of these kinds in the folder, or beside the missing file.
    is_folder = path.is_dir()
    folder = path if is_folder else path.parent
    neighbours = [name for name in _names_in(folder) if _stem(name).endswith(suffixes)]
    fix = "check the path, and give a file"
    if is_folder and neighbours:
        fix = f"give a file in it: {path / neighbours[0]}"
    if is_folder and len(neighbours) > 1:
        all_files = f"{path}/*{Path(neighbours[0]).suffix}"
        fix += f"; or several: {shlex.quote(all_files)}"
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


def _names_in(folder: Location) -> list[str]:
    if isinstance(folder, Url):
        return folder.names()
    if not folder.is_dir():
        return []
    return sorted(neighbour.name for neighbour in folder.iterdir())


def _stem(name: str) -> str:
    """A file's name without the suffix of its compression."""
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return name


class Line(NamedTuple):
    """A line without its end.

    Args:
        number: counted from 1.
        data: its bytes; of a line that is too long the first of them.
        long_bytes: how many a line has that is too long; else 0.
        is_cut: whether the file ends in it, without a line end.
    """

    number: int
    data: bytes
    long_bytes: int = 0
    is_cut: bool = False


def read_lines(file: BinaryIO, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines of a file, at most `max_bytes` bytes of each in memory."""
    number = 0
    while data := file.readline(max_bytes + 1):
        number += 1
        has_end = data.endswith(b"\n")
        if has_end:
            yield Line(number, data[:-1])
        elif len(data) <= max_bytes:
            yield Line(number, data, is_cut=True)
        else:
            # Read on to the line's end, and keep none of it.
            long_bytes = len(data)
            while piece := file.readline(_PIECE_BYTES):
                long_bytes += len(piece)
                if piece.endswith(b"\n"):
                    break
            yield Line(number, data[:_PIECE_BYTES], long_bytes)


def check_content(data: bytes, path: Location) -> None:
    """Refuse content that is of another kind than the file's name says."""
    for magic, suffix in _MAGIC_BYTES.items():
        if data.startswith(magic):
            stem = path.name if suffix == ".gz" else path.name.split(".")[0]
            renamed = path.with_name(stem + suffix)
            raise Flaw(
                f"the content of a {suffix} file",
                f"what {path.suffix} files hold",
                f"mv {shell_name(path)} {shell_name(renamed)}",
            )
    if data.startswith(_UTF16_BOMS):
        raise Flaw(
            "UTF-16 text, not UTF-8",
            "UTF-8 text",
            f"iconv -f UTF-16 -t UTF-8 {shell_name(path)} > clean{path.suffix}",
        )


def decode_utf8(data: bytes, path: Location) -> str:
    """Bytes as text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        command = f"iconv -f UTF-8 -t UTF-8 -c {shell_name(path)} > clean{path.suffix}"
        raise Flaw(
            f"not UTF-8 (byte {error.start + 1} is {data[error.start]:#04x})",
            "UTF-8 text",
            f"{command} drops what is not UTF-8",
        ) from error


# JSON lines


def _read_jsonl(path: Location, file_hash: Hash | None = None) -> Iterator[tuple[str, Any]]:
    last_place = "line 0"
    try:
        with opened(path, file_hash) as file:
            for last_place, value in read_json_lines(file, path):
                yield last_place, value
    except InputError as error:
        if not is_skipping():
            raise
        refuse(error, path, f"after {last_place}")


def read_json_lines(
    file: BinaryIO, path: Location, max_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[str, Any]]:
    """Each line's JSON value with where it stands; blank lines are passed over."""
    for line in read_lines(file, max_bytes):
        data = line.data.removeprefix(_BOM) if line.number == 1 else line.data
        if not data or data.isspace():
            continue
        place = f"line {line.number}"
        try:
            yield place, _decode_line(data, line, path, max_bytes)
        except Flaw as flaw:
            refuse(_line_error(flaw, path, line.number), path, place, data)


def _decode_line(data: bytes, line: Line, path: Location, max_bytes: int) -> Any:
    if line.long_bytes:
        raise Flaw(
            f"a line of {line.long_bytes:,} bytes",
            f"at most {max_bytes:,} bytes a line",
            "write one row a line, and long texts as several rows",
        )
    if line.number == 1:
        check_content(data, path)
    if data.startswith(_BOM):
        raise Flaw(
            "a byte order mark (BOM) in the middle of the file",
            "one at the start of the file, or none",
            f"sed -i 's/\\xEF\\xBB\\xBF//g' {shell_name(path)}",
        )
    nul_position = data.find(b"\0")
    if nul_position >= 0:
        raise Flaw(
            "a NUL byte",
            "UTF-8 text without NUL",
            f"tr -d '\\000' < {shell_name(path)} > clean.jsonl",
            nul_position + 1,
        )
    try:
        return decode_json(decode_utf8(data, path))
    except Flaw as flaw:
        if line.is_cut and flaw.expected == "JSON":
            flaw.reason += "; the file ends here, without a line end: it was cut short"
            flaw.fix = "fetch or write the file again"
        raise


def _line_error(flaw: Flaw, path: Location, number: int) -> InputError:
    column = f", column {flaw.column}" if flaw.column else ""
    show_line = f"sed -n {number}p {shell_name(path)} | cut -c1-200 shows the line"
    if is_pipe(path):
        show_line = "write the rows into a file to look at that line"
    return InputError(
        f"{path}, line {number}{column}: {flaw.reason}",
        expected=flaw.expected,
        fix=f"{flaw.fix or show_line}; or leave bad rows out with --skip-bad",
    )


# JSON


def _read_json(path: Location, file_hash: Hash | None = None) -> Any:
    with opened(path, file_hash) as file:
        data = file.read().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        return []
    try:
        check_content(data, path)
        text = decode_utf8(data, path)
        return decode_json(text)
    except Flaw as flaw:
        raise _json_error(path, data, flaw) from flaw


def _json_error(path: Location, data: bytes, flaw: Flaw) -> InputError:
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
        fix = f"one object a line is .jsonl: mv {shell_name(path)} {shell_name(renamed)}"
    return InputError(f"{path}{place}: {flaw.reason}", expected=flaw.expected, fix=fix)


def _read_json_items(path: Location, file_hash: Hash | None = None) -> Iterator[tuple[str, Any]]:
    value = _read_json(path, file_hash)
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


def decode_json(text: str) -> Any:
    """The JSON value of a text; Flaw where it is none, or holds what no model can read."""
    try:
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            # Half a character, written as an escape, can't be encoded again.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError as error:
        raise Flaw(
            f"half a character ({error.object[error.start]!a}), which no model can read",
            "surrogates (\\ud800 to \\udfff) in pairs only",
            "write the file again from its source, or take the half characters out",
        ) from error
    except json.JSONDecodeError as error:
        raise Flaw(f"not JSON: {error.msg}", "JSON", "", error.colno) from error
    except RecursionError as error:
        raise Flaw("nested too deeply", "JSON of a depth that can be read") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise Flaw(
            f"a number that can't be read: {error}", "numbers of at most 4,300 digits"
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise Flaw(
        f"{name}, which is no JSON",
        "a finite number, or null",
        "write null where there is no number",
    )


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Flaw(f"the number {text[:20]} is infinite", "a finite number, or null", "write null")
    return number


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; refused where one key stands in it twice, of which JSON would take the last."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise Flaw(
            f"the key {repeated[:60]!r} twice in one object",
            "each key once",
            "remove one of the two",
        )
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_object_of_pairs
)


# Tables


def _read_csv(path: Location, file_hash: Hash | None = None, separator: str = "") -> Iterator[Row]:
    with opened(path, file_hash) as file:
        lines = _text_lines(file, path)
        yield from tabular.read_csv(lines, path, max_cell=MAX_LINE_BYTES, separator=separator)


def _text_lines(file: BinaryIO, path: Location) -> Iterator[str]:
    """The lines of a text file with their ends; a byte that is not UTF-8 comes as half a character."""
    for line in read_lines(file):
        place = f"line {line.number}"
        if line.number == 1:
            try:
                check_content(line.data, path)
            except Flaw as flaw:
                raise InputError(
                    f"{path}: {flaw.reason}", expected=flaw.expected, fix=flaw.fix
                ) from flaw
        if line.long_bytes:
            error = InputError(
                f"{path}, {place}: a line of {line.long_bytes:,} bytes",
                expected=f"at most {MAX_LINE_BYTES:,} bytes a line",
            )
            refuse(error, path, place, line.data)
            continue
        encoding = "utf-8-sig" if line.number == 1 else "utf-8"
        text = line.data.decode(encoding, "surrogateescape")
        yield text if line.is_cut else f"{text}\n"


def _read_parquet(path: Location, file_hash: Hash | None = None) -> Iterator[Row]:
    content = None
    if is_compressed(path) or is_pipe(path) or has_no_suffix(path):
        with opened(path, file_hash) as file:
            content = file.read()
    return tabular.read_parquet(path, content)


_READERS: Mapping[str, _Reader] = MappingProxyType(
    {
        ".jsonl": _read_jsonl,
        ".json": _read_json_items,
        ".csv": _read_csv,
        ".tsv": partial(_read_csv, separator="\t"),
        ".parquet": _read_parquet,
    }
)
