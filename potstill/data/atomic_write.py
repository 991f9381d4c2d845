"""Write a file whole or not at all: into a draft beside it, synced, then renamed over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, for libraries that want one; the file replaces `path` if the block ends without an exception.

    A reader of `path` sees the old content or the new one, never a part, and what is renamed is on the disk. Two
    processes that write the same path do not share a draft. The folder of `path` is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends without an exception, as `replacing` does it."""
    with replacing(path) as draft, draft.open("wb") as file:
        yield file


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file by this content."""
    with writing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace the file by this text, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))
