"""Write a file or a folder whole or not at all: into a draft beside it, synced, then renamed."""

from __future__ import annotations

import fcntl
import os
import shutil
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


@contextmanager
def building_folder(path: Path) -> Iterator[Path | None]:
    """An empty draft folder that becomes `path` when the block ends without an exception; None where `path` is there.

    One process builds at a time: another waits, and then gets None, since the first has finished. An exception leaves
    no draft; what a killed process left of its draft is deleted by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    lock = _lock_draft(path, draft)
    if lock is None:
        yield None
        return
    try:
        for leftover in draft.iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


def _lock_draft(path: Path, draft: Path) -> int | None:
    """The draft folder, made and locked; the lock ends with its process. None once `path` is there."""
    while not path.exists():
        draft.mkdir(exist_ok=True)
        try:
            lock = os.open(draft, os.O_RDONLY)
        except FileNotFoundError:  # renamed or deleted between these two lines
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_lock_on(draft, lock):
            return lock
        os.close(lock)
    return None


def _is_lock_on(draft: Path, lock: int) -> bool:
    """Whether a lock is on the folder of this name; whoever held it may have renamed or deleted that meanwhile."""
    try:
        return draft.stat().st_ino == os.fstat(lock).st_ino
    except FileNotFoundError:
        return False
