"""One writer a run folder: an advisory lock that dies with its process, so a killed run never has to be unlocked."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import weakref
from pathlib import Path
from typing import final

from potstill.errors import StoreError

_GUARD = threading.Lock()
_HELD: weakref.WeakValueDictionary[str, WriterLock] = weakref.WeakValueDictionary()


@final
class WriterLock:
    """The right to write into one run folder, held until `release` or the end of the process.

    A POSIX record lock, not `flock`: a forked verifier worker that outlives a killed run would inherit a `flock` and
    keep the folder closed. Record locks know no second opening within one process, so `_HELD` keeps that one out.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock file `path`, or raise StoreError naming the process that has it."""
        self._name = str(path.resolve())
        with _GUARD:
            if self._name in _HELD:
                raise _busy(path, os.getpid())
            try:
                self._file = path.open("a+", encoding="ascii")
            except OSError as error:
                raise unwritable(path.parent, error) from error
            self._take(path)
            _HELD[self._name] = self

    def _take(self, path: Path) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise unwritable(path.parent, error) from error
            raise _busy(path, int(holder) if holder.isdigit() else None) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the next writer in; a second call does nothing."""
        with _GUARD:
            _HELD.pop(self._name, None)
            self._file.close()


def unwritable(folder: Path, error: OSError) -> StoreError:
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


def _busy(path: Path, pid: int | None) -> StoreError:
    here = pid == os.getpid()
    who = f"process {pid}" if pid is not None else "another process"
    return StoreError(
        f"the run folder {path.parent} is in use: {who}{' (this one)' if here else ''} is writing to it",
        expected="one writer at a time; any number of readers",
        fix="close the other store first" if here else f"wait until {who} has ended, or stop it",
    )
