"""A full disk, said as a message: torch and safetensors have errors of their own for it, of which some name no disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from potstill.errors import StageError

FULL_DISK_CODES = (errno.ENOSPC, errno.EDQUOT)
# What libraries say: Rust's error 28 and 122, and torch's archive writer, which only sees that bytes are missing.
FULL_DISK_WORDS = ("No space left", "os error 28", "os error 122", "inline_container.cc")
FULL_BELOW = 1 << 20  # bytes that are free


@contextmanager
def explain_full_disk(folder: Path, fix: str) -> Iterator[None]:
    """Turn a write that fails in the block for want of space into a StageError.

    Args:
        folder: what is written lies in it, or in the folder that it is made in.
        fix: what to do when there is space again.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(place).free
        if not _says_full_disk(error) and free >= FULL_BELOW:
            raise
        raise StageError(
            f"no space left on the disk of {folder}: {free / 2**20:,.0f} MiB are free ({str(error)[:100]})",
            expected="space for two checkpoints (about 12 bytes a parameter each) and the student",
            fix=f"free some space; {fix}",
        ) from error


def _says_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in FULL_DISK_CODES:
        return True
    return any(words in str(error) for words in FULL_DISK_WORDS)
