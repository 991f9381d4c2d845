"""One writer a run folder: an advisory lock that dies with its process, so a killed run never has to be unlocked."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import threading
import weakref
from pathlib import Path
from typing import final

from potstill.errors import StoreError

FILE = "store.lock"

# The locks of this process, by path. Weak, so that a store that was forgotten, and not closed, lets the next one in.
_OWN_LOCKS: weakref.WeakValueDictionary[str, WriterLock] = weakref.WeakValueDictionary()
_OWN_LOCKS_GUARD = threading.Lock()
# Linux's struct flock: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


@final
class WriterLock:
    """The right to write into one run folder, held until `release` or the end of the process.

    A POSIX record lock, not `flock`: a forked verifier worker that outlives a killed run would inherit a `flock` and
    keep the folder closed. Record locks know no second opening within one process, so `_OWN_LOCKS` keeps that one out.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock file `path`, or raise StoreError naming the process that has it."""
        self._name = str(path.resolve())
        with _OWN_LOCKS_GUARD:
            if self._name in _OWN_LOCKS:
                raise _folder_in_use_error(path, os.getpid())
            try:
                # Not "w": that would erase the holder's process id before we know whether the lock is ours.
                self._file = path.open("a+", encoding="ascii")
            except OSError as error:
                raise unwritable_folder_error(path.parent, error) from error
            self._lock_file(path)
            _OWN_LOCKS[self._name] = self

    def _lock_file(self, path: Path) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder_pid = self._file.read().strip()
            self._file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise unwritable_folder_error(path.parent, error) from error
            pid = int(holder_pid) if holder_pid.isdigit() else None
            raise _folder_in_use_error(path, pid) from error
        # The lock is ours: leave our process id for the error of whoever comes second.
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the next writer in; a second call does nothing."""
        with _OWN_LOCKS_GUARD:
            # Closing any descriptor of the file drops the process's POSIX lock, so entry and file go together.
            _OWN_LOCKS.pop(self._name, None)
            self._file.close()


def has_writer(path: Path) -> bool:
    """Whether somebody holds the lock file `path`, this process included. Nothing is written.

    Where that can't be asked, the answer is yes: a reader then takes the way that works beside a writer.
    """
    # This process's own lock must not be asked for: closing a second descriptor would drop it.
    with _OWN_LOCKS_GUARD:
        if str(path.resolve()) in _OWN_LOCKS:
            return True
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        except OSError:
            return True
        with file:
            if sys.platform != "linux":
                return True
            # F_GETLK turns the type into F_UNLCK where nobody holds the lock.
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            try:
                answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
            except OSError:
                return True
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def writer_pid(path: Path) -> int | None:
    """The id of the process that holds the lock file `path`, as it left it there; None where it can't be read.

    To be asked only where there is a writer: a free lock file has the id of the last one.
    """
    # This process's own lock file must not be opened: closing a second descriptor would drop the lock.
    with _OWN_LOCKS_GUARD:
        if str(path.resolve()) in _OWN_LOCKS:
            return os.getpid()
        try:
            text = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    return int(text) if text.isdigit() else None


def unwritable_folder_error(folder: Path, error: OSError) -> StoreError:
    """The error of a run folder that can't be written to."""
    if folder.is_file():
        return StoreError(
            f"{folder} is a file",
            expected="the folder of a run, or none yet",
            fix="--out runs/NAME",
        )
    return StoreError(
        f"cannot write to the run folder {folder}: {error.strerror or error}",
        expected="a folder that you may write to, on a disk with space left",
        fix=f"choose another folder, or make this one writable: chmod u+w {folder}",
    )


def _folder_in_use_error(path: Path, pid: int | None) -> StoreError:
    writer, fix = "another process", "wait until another process has ended, or stop it"
    if pid == os.getpid():
        writer, fix = f"process {pid} (this one)", "close the other store first"
    elif pid is not None:
        writer, fix = f"process {pid}", f"wait until process {pid} has ended, or stop it"
    return StoreError(
        f"the run folder {path.parent} is in use: {writer} is writing to it",
        expected="one writer at a time; any number of readers",
        fix=fix,
    )
