"""Files, URLs and pipes as bytes: opened, unpacked, and what they hold where their name does not say it.

A pipe (also /dev/stdin and the shell's <(…)) can be read once, so what came through it is kept in memory: a command may
read its rows more than once.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast, final

from potstill.data.urls import Location, Url
from potstill.errors import InputError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")

_FIRST_BYTES = 2**20  # of a file, by which it is known
_GZIP_START = b"\x1f\x8b"

# What came through pipes so far, by device and inode.
_PIPE_CONTENTS: dict[tuple[int, int], bytes] = {}


class Hash(Protocol):
    """What `hashlib.sha256()` makes."""

    def update(self, data: Any, /) -> None:
        """Take in bytes."""
        ...


@contextmanager
def opened(path: Location, file_hash: Hash | None = None) -> Iterator[BinaryIO]:
    """The file as bytes, unpacked; what breaks on the way is an InputError.

    Args:
        path: of the file.
        file_hash: takes in the bytes of the file as they are read, before they are unpacked.
    """
    try:
        with _open_unpacked(path, file_hash) as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        fix = "check that it is whole and readable"
        if isinstance(error, EOFError | zlib.error | lzma.LZMAError):
            fix = "fetch or write it again"
        raise InputError(
            f"{path} can't be read: {error}", expected="a whole, readable file", fix=fix
        ) from error


def is_compressed(path: Location) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix in COMPRESSIONS


def without_compression(path: Location) -> Location:
    """The name that the unpacked file would have."""
    return path.with_suffix("") if is_compressed(path) else path


def is_pipe(path: Location) -> bool:
    """Whether a path is a pipe or a terminal, whose bytes come once."""
    if isinstance(path, Url):
        return False
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing is there, or nothing can be called that
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def has_no_suffix(path: Location) -> bool:
    """Whether a path is a pipe, or one of the system's as /dev/stdin is, and its name does not say what it holds."""
    if isinstance(path, Url) or path.suffix:
        return False
    is_of_system = path.is_relative_to("/dev") or path.is_relative_to("/proc")
    return is_of_system or is_pipe(path)


def suffix_of_content(path: Location) -> str:
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


@contextmanager
def _open_unpacked(path: Location, file_hash: Hash | None) -> Iterator[BinaryIO]:
    compression = path.suffix if is_compressed(path) else ""
    if has_no_suffix(path):
        with _open_raw(path) as file:
            if file.read(len(_GZIP_START)) == _GZIP_START:
                compression = ".gz"
    with _open_raw(path) as file:
        packed = file
        if file_hash is not None:
            packed = cast("BinaryIO", io.BufferedReader(_HashedFile(file, file_hash)))
        if not compression:
            yield packed
            return
        with _unpacking_stream(packed, compression) as unpacked:
            yield unpacked


def _unpacking_stream(packed: BinaryIO, compression: str) -> Any:
    """The unpacked bytes, with lines; of a file that was cut, all that can be read."""
    # These read what can be read of a cut file before they fail at its end.
    if compression == ".gz":
        return gzip.GzipFile(fileobj=packed)
    if compression == ".bz2":
        return bz2.BZ2File(packed)
    if compression == ".xz":
        return lzma.LZMAFile(packed)
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(packed, "zstd"))


@final
class _HashedFile(io.RawIOBase):
    """A file that is hashed while it is read from its start to its end."""

    def __init__(self, file: BinaryIO, file_hash: Hash) -> None:
        super().__init__()
        self._file, self._hash = file, file_hash

    def readable(self) -> bool:
        """Yes; it can't seek."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as bytes come."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._hash.update(data)
        return len(data)

    def close(self) -> None:
        """Close the file too."""
        if not self.closed:
            self._file.close()
        super().close()


def _open_raw(path: Location) -> BinaryIO:
    if not isinstance(path, Url) and is_pipe(path):
        return io.BytesIO(_pipe_content(path))
    return path.open("rb")


def _pipe_content(path: Path) -> bytes:
    """All that a pipe gives, or gave before."""
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in _PIPE_CONTENTS:
        _PIPE_CONTENTS[key] = path.read_bytes()
    return _PIPE_CONTENTS[key]
