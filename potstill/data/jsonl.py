"""JSON lines, read as bytes, line by line: every bad line is typed, and none is loaded that is too long."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, final

from potstill.data.skipped import refuse
from potstill.errors import InputError

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


@final
class Flaw(Exception):
    """What is wrong with one line."""

    def __init__(self, reason: str, expected: str, fix: str = "", column: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.expected, self.fix, self.column = reason, expected, fix, column


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


def read_values(
    file: BinaryIO, path: Path, max_bytes: int = MAX_LINE_BYTES
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


def check_content(data: bytes, path: Path) -> None:
    """Refuse content that is of another kind than the file's name says."""
    for magic, suffix in _MAGIC_BYTES.items():
        if data.startswith(magic):
            stem = path.name if suffix == ".gz" else path.name.split(".")[0]
            renamed = path.with_name(stem + suffix)
            raise Flaw(
                f"the content of a {suffix} file",
                f"what {path.suffix} files hold",
                f"mv {shlex.quote(str(path))} {shlex.quote(str(renamed))}",
            )
    if data.startswith(_UTF16_BOMS):
        raise Flaw(
            "UTF-16 text, not UTF-8",
            "UTF-8 text",
            f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(path))} > clean{path.suffix}",
        )


def decode_utf8(data: bytes, path: Path) -> str:
    """Bytes as text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        command = f"iconv -f UTF-8 -t UTF-8 -c {shlex.quote(str(path))} > clean{path.suffix}"
        raise Flaw(
            f"not UTF-8 (byte {error.start + 1} is {data[error.start]:#04x})",
            "UTF-8 text",
            f"{command} drops what is not UTF-8",
        ) from error


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


def _decode_line(data: bytes, line: Line, path: Path, max_bytes: int) -> Any:
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
            f"sed -i 's/\\xEF\\xBB\\xBF//g' {shlex.quote(str(path))}",
        )
    nul_position = data.find(b"\0")
    if nul_position >= 0:
        raise Flaw(
            "a NUL byte",
            "UTF-8 text without NUL",
            f"tr -d '\\000' < {shlex.quote(str(path))} > clean.jsonl",
            nul_position + 1,
        )
    try:
        return decode_json(decode_utf8(data, path))
    except Flaw as flaw:
        if line.is_cut and flaw.expected == "JSON":
            flaw.reason += "; the file ends here, without a line end: it was cut short"
            flaw.fix = "fetch or write the file again"
        raise


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


def _line_error(flaw: Flaw, path: Path, number: int) -> InputError:
    column = f", column {flaw.column}" if flaw.column else ""
    show_line = f"sed -n {number}p {shlex.quote(str(path))} | cut -c1-200 shows the line"
    return InputError(
        f"{path}, line {number}{column}: {flaw.reason}",
        expected=flaw.expected,
        fix=f"{flaw.fix or show_line}; or leave bad rows out with --skip-bad",
    )
