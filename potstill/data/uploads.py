"""Files on their way to a URL: written on this machine first, then sent whole.

What could not be sent stays in a folder of the user's cache, where the error says so; what a killed process left there,
or left open on the server, is cleared by the next one that writes to the same URL.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.data import atomic_write
from potstill.data.urls import Location, Url, remote_errors
from potstill.data.user_cache import cache_folder
from potstill.errors import ConfigError, InputError, PotstillWarning

# Of a large file on S3: so much is sent in one part, and so many parts at once.
PART_BYTES = 16 * 2**20
PARTS_AT_ONCE = 4
_S3 = ("s3", "s3a")
# Where a filesystem's details say what content a file has.
_ETAG_NAMES = ("ETag", "etag", "md5Hash", "blob_id", "content_md5")


@contextmanager
def replacing(location: Location) -> Iterator[Path]:
    """A path to write to; the file is moved or sent to `location` if the block ends without an exception.

    Raises:
        InputError: the file can't be sent; what was written stays on this machine.
    """
    if not isinstance(location, Url):
        with atomic_write.replacing(location) as draft:
            yield draft
        return
    with spool_folder(location) as spool:
        draft = spool / location.name
        try:
            yield draft
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        send(draft, location)
        draft.unlink()


def check_writable(location: Location) -> None:
    """Refuse, before anything is computed, a URL that can't be written: no package, no key, no bucket."""
    if isinstance(location, Url):
        location.filesystem_to_write()
        abort_open_uploads(location, lambda name: name == location.name)


def write_bytes(location: Location, content: bytes) -> None:
    """Replace a file by this content."""
    if isinstance(location, Url):
        location.write_bytes(content)
    else:
        atomic_write.write_bytes(location, content)


def delete(location: Location) -> None:
    """Delete a file, if it is there."""
    if isinstance(location, Url):
        location.delete()
    else:
        location.unlink(missing_ok=True)


@contextmanager
def spool_folder(url: Url) -> Iterator[Path]:
    """An empty folder on this machine for what goes to a URL; deleted at the end, unless something could not be sent.

    Raises:
        ConfigError: another process writes to the same URL.
    """
    url.filesystem_to_write()  # a missing package or an unknown protocol is said before anything is written
    name = hashlib.sha256(str(url).encode()).hexdigest()[:16]
    folder = cache_folder() / "uploads" / name
    lock = _lock_folder(folder, url)
    try:
        for leftover in folder.iterdir():
            leftover.unlink()
        yield folder
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()
        os.close(lock)


def _lock_folder(folder: Path, url: Url) -> int:
    """The folder, made and locked; the lock ends with its process."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ConfigError(
                f"another process is writing to {url}",
                expected="one writer of a URL",
                fix="wait until it has ended, or name another URL",
            ) from error
        # Whoever held it may have deleted the folder just now.
        if folder.exists() and folder.stat().st_ino == os.fstat(lock).st_ino:
            return lock
        os.close(lock)


def send(file: Path, url: Url) -> str:
    """Send a file, and return what the server calls its content; "" where it calls it nothing.

    Raises:
        InputError: it can't be sent, or something else has arrived; the file is still here.
    """
    filesystem, path = url.filesystem_to_write()
    options: dict[str, Any] = {}
    if url.protocol in _S3:
        options = {"chunksize": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
    # What has arrived is counted: a proxy may answer in the place of the server.
    size = file.stat().st_size
    try:
        with remote_errors(url, "written"):
            filesystem.put_file(str(file), path, **options)
        details = url.details() or {}
        if details.get("size") != size:
            raise InputError(
                f"{url} has {details.get('size', 0):,} bytes after {size:,} were sent",
                fix="give the same command again",
            )
    except InputError as error:
        # Nothing that was computed is lost: the error says where it is.
        error.found += f"; what was to be sent is in {file}"
        error.args = (error.render(),)
        raise
    return etag_of(details)


def etag_of(details: dict[str, Any]) -> str:
    """What a server calls the content of a file, of what it says about the file."""
    for name in _ETAG_NAMES:
        if details.get(name):
            return str(details[name])
    return ""


def abort_open_uploads(url: Url, is_ours: Callable[[str], bool]) -> int:
    """End what a killed process left half-sent beside a URL: S3 keeps such parts, and charges for them.

    Args:
        url: of a file that is going to be written, in the folder that is looked at.
        is_ours: whether a file of this name is one that this command writes.
    """
    if url.protocol not in _S3:
        return 0
    filesystem, path = url.parent.filesystem_to_write()
    # Of the bucket's open uploads only those in this folder, and of these only ours.
    bucket, _, folder = path.partition("/")
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    aborted = 0
    with remote_errors(url, "written"):
        try:
            answer = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        except PermissionError:
            # An account that may write and not list can still go on.
            _warn_of_open_uploads(url)
            return 0
        for upload in answer.get("Uploads", ()):
            key = upload["Key"]
            if is_ours(key.removeprefix(prefix)):
                filesystem.call_s3(
                    "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"]
                )
                aborted += 1
    return aborted


def _warn_of_open_uploads(url: Url) -> None:
    warnings.warn(
        f"this account may not see whether a killed process left uploads to {url.parent} open: "
        "a lifecycle rule of the bucket ends them",
        PotstillWarning,
        stacklevel=3,
    )
