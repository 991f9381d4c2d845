"""Files and pipes as bytes: opened, unpacked, and what they hold where their name does not say it.

A pipe (also /dev/stdin and the shell's <(…)) can be read once, so what came through it is kept in memory: a command may
read its rows more than once.
"""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from potstill.errors import InputError

_FIRST_BYTES = 2**20  # of a file, by which it is known
_GZIP_START = b"\x1f\x8b"

# What came through pipes so far, by device and inode.
_PIPE_CONTENTS: dict[tuple[int, int], bytes] = {}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file as bytes, unpacked; what breaks on the way is an InputError."""
    try:
        with _open_unpacked(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        fix = "check that it is whole and readable"
        if isinstance(error, EOFError | zlib.error):
            fix = "fetch or write it again"
        raise InputError(
            f"{path} can't be read: {error}", expected="a whole, readable file", fix=fix
        ) from error


def is_pipe(path: Path) -> bool:
    """Whether a path is a pipe or a terminal, whose bytes come once."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing is there, or nothing can be called that
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def has_no_suffix(path: Path) -> bool:
    """Whether a path is a pipe, or one of the system's as /dev/stdin is, and its name does not say what it holds."""
    is_of_system = path.is_relative_to("/dev") or path.is_relative_to("/proc")
    return not path.suffix and (is_of_system or is_pipe(path))


def suffix_of_content(path: Path) -> str:
    """The suffix that a file with this content would have."""
    with opened(path) as file:
        first_line = file.readline(_FIRST_BYTES).removeprefix(b"\xef\xbb\xbf").strip()
    if not first_line:
        return ".jsonl"
    if first_line.startswith(b"PAR1"):
        return ".parquet"
    if first_line.startswith(b"["):
        return ".json"
    if not first_line.startswith(b"{"):
        return ".csv"
    # One object a line, or one object over many lines.
    is_whole_object = len(first_line) == _FIRST_BYTES or first_line.endswith(b"}")
    return ".jsonl" if is_whole_object else ".json"


def _open_unpacked(path: Path) -> BinaryIO:
    is_packed = path.suffix == ".gz"
    if has_no_suffix(path):
        with _open_raw(path) as file:
            is_packed = file.read(len(_GZIP_START)) == _GZIP_START
    if not is_packed:
        return _open_raw(path)
    source: Any = io.BytesIO(_pipe_content(path)) if is_pipe(path) else path
    return cast("BinaryIO", gzip.open(source))


def _open_raw(path: Path) -> BinaryIO:
    return io.BytesIO(_pipe_content(path)) if is_pipe(path) else path.open("rb")


def _pipe_content(path: Path) -> bytes:
    """All that a pipe gives, or gave before."""
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in _PIPE_CONTENTS:
        _PIPE_CONTENTS[key] = path.read_bytes()
    return _PIPE_CONTENTS[key]
