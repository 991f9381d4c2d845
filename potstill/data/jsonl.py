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

LONGEST = 64 * 2**20  # bytes of a line; what is longer is refused without being loaded
_PIECE = 2**20
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# What other files begin with: someone gave them the wrong name.
_MAGIC = {
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
    """A line without its end; `more` are the bytes of one too long, `cut` says that the file ends in it."""

    number: int
    data: bytes
    more: int = 0
    cut: bool = False


def lines(file: BinaryIO, longest: int = LONGEST) -> Iterator[Line]:
    """The lines of a file, at most `longest` bytes of each in memory."""
    number = 0
    while data := file.readline(longest + 1):
        number += 1
        ended = data.endswith(b"\n")
        if ended or len(data) <= longest:
            yield Line(number, data[:-1] if ended else data, cut=not ended)
            continue
        more = len(data)
        while piece := file.readline(_PIECE):
            more += len(piece)
            if piece.endswith(b"\n"):
                break
        yield Line(number, data[:_PIECE], more)


def values(file: BinaryIO, path: Path, longest: int = LONGEST) -> Iterator[tuple[str, Any]]:
    """Each line's JSON value with where it stands; blank lines are passed over."""
    for line in lines(file, longest):
        data = line.data.removeprefix(_BOM) if line.number == 1 else line.data
        if not data or data.isspace():
            continue
        try:
            yield f"line {line.number}", _value(data, line, path, longest)
        except Flaw as flaw:
            refuse(_error(flaw, path, line.number), path, f"line {line.number}", data)


def _value(data: bytes, line: Line, path: Path, longest: int) -> Any:
    if line.more:
        found = f"a line of {line.more:,} bytes"
        raise Flaw(
            found,
            f"at most {longest:,} bytes a line",
            "write one row a line, and long texts as several rows",
        )
    if line.number == 1:
        check_kind(data, path)
    if data.startswith(_BOM):
        strip = f"sed -i 's/\\xEF\\xBB\\xBF//g' {shlex.quote(str(path))}"
        raise Flaw(
            "a byte order mark (BOM) in the middle of the file",
            "one at the start of the file, or none",
            strip,
        )
    if (at := data.find(b"\0")) >= 0:
        fix = f"tr -d '\\000' < {shlex.quote(str(path))} > clean.jsonl"
        raise Flaw("a NUL byte", "UTF-8 text without NUL", fix, at + 1)
    try:
        return decode(utf8(data, path))
    except Flaw as flaw:
        if line.cut and flaw.expected == "JSON":
            flaw.reason += "; the file ends here, without a line end: it was cut short"
            flaw.fix = "fetch or write the file again"
        raise


def check_kind(data: bytes, path: Path) -> None:
    """Refuse content that is of another kind than the file's name says."""
    for magic, suffix in _MAGIC.items():
        if data.startswith(magic):
            name = path.name if suffix == ".gz" else path.name.split(".")[0]
            fix = f"mv {shlex.quote(str(path))} {shlex.quote(str(path.with_name(name + suffix)))}"
            raise Flaw(f"the content of a {suffix} file", f"what {path.suffix} files hold", fix)
    if data.startswith(_UTF16):
        fix = f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(path))} > clean{path.suffix}"
        raise Flaw("UTF-16 text, not UTF-8", "UTF-8 text", fix)


def utf8(data: bytes, path: Path) -> str:
    """Bytes as text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        fix = f"iconv -f UTF-8 -t UTF-8 -c {shlex.quote(str(path))} > clean{path.suffix} drops what is not UTF-8"
        found = f"not UTF-8 (byte {error.start + 1} is {data[error.start]:#04x})"
        raise Flaw(found, "UTF-8 text", fix) from error


def decode(text: str) -> Any:
    """The JSON value of a text; Flaw where it is none, or holds what no model can read."""
    try:
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
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


def _constant(name: str) -> NoReturn:
    raise Flaw(
        f"{name}, which is no JSON",
        "a finite number, or null",
        "write null where there is no number",
    )


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Flaw(f"the number {text[:20]} is infinite", "a finite number, or null", "write null")
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_float)


def _error(flaw: Flaw, path: Path, number: int) -> InputError:
    column = f", column {flaw.column}" if flaw.column else ""
    look = f"sed -n {number}p {shlex.quote(str(path))} | cut -c1-200 shows the line"
    fix = f"{flaw.fix or look}; or leave bad rows out with --skip-bad"
    return InputError(
        f"{path}, line {number}{column}: {flaw.reason}", expected=flaw.expected, fix=fix
    )
