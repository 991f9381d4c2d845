"""Files at URLs (s3://, gs://, hf://, https://) through fsspec: with a `Url`, rows are read as with a `Path`.

Keys and passwords come from each library's own chain (environment, profile, machine); a URL that holds one is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, TypeAlias, cast, final

from potstill.errors import ConfigError, InputError, PotstillError
from potstill.extras import EXTRAS, extra_error
from potstill.secrets import MARK, holds_secret, redact_environment, redact_secrets

BLOCK_BYTES = 8 * 2**20  # that are fetched ahead of what is read
_BUFFER_BYTES = 2**20
_SHOWN_NEIGHBOURS = 20

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB = re.compile(r"[*\[]")
# Names of query parameters that sign a URL: who has it may read the file.
_SIGNATURE = re.compile(r"(?i)[?&](?:x-amz-signature|x-amz-security-token|x-goog-signature|sig)=")
_EXTRA_OF_PROTOCOL = {"s3": "s3", "s3a": "s3"}
_PACKAGE_OF_PROTOCOL = {"gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs"}
_READ_ONLY = ("http", "https")
# Where the library of a protocol looks for keys, for errors.
_CREDENTIALS = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "hf": "HF_TOKEN, or `hf auth login`",
}
_CREDENTIALS_OF_OTHERS = "the settings of the protocol's fsspec package"

Action = Literal["read", "written", "listed"]


def is_url(text: object) -> bool:
    """Whether a text names a file by a URL, as `s3://bucket/rows.jsonl` does."""
    return _URL.match(str(text)) is not None


def without_secrets(url: str) -> str:
    """A URL as it may be shown."""
    return redact_environment(redact_secrets(url))


def is_glob(text: str) -> bool:
    """Whether a text is a pattern of several files: with `*` or `[…]`."""
    return _GLOB.search(text) is not None


@final
@dataclass(frozen=True)
class Url:
    """A file or a folder at a URL, with the methods of `Path` that readers and writers of rows use.

    Args:
        text: the URL, without a key or a password.
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse a URL that holds a key."""
        if holds_secret(self.text) or _SIGNATURE.search(self.text):
            raise ConfigError(
                f"a URL holds a key or a password: {self.protocol}://{MARK}",
                expected="a URL without one: it would be stored with the run",
                fix=f"take it out of the URL; keys come from {self.credentials}",
            )

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.text.rstrip('/')}/{name}")

    @property
    def protocol(self) -> str:
        """`s3` of `s3://bucket/rows.jsonl`."""
        return self.text.partition("://")[0].lower()

    @property
    def credentials(self) -> str:
        """Where the protocol's library looks for keys, in words."""
        return _CREDENTIALS.get(self.protocol.removesuffix("a"), _CREDENTIALS_OF_OTHERS)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.text.partition("?")[0]).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name; "" where it has none."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder."""
        return Url(self.text.rstrip("/").rpartition("/")[0])

    def with_name(self, name: str) -> Url:
        """Another file of the same folder."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> Url:
        """The same name with another suffix."""
        return self.with_name(self.stem + suffix)

    def filesystem(self) -> tuple[Any, str]:
        """The fsspec filesystem and the path in it."""
        from fsspec.core import url_to_fs

        try:
            with remote_errors(self, "read"):
                filesystem, path = url_to_fs(self.text)
                # Listings that it keeps would hide what others write meanwhile.
                filesystem.invalidate_cache()
        except ImportError as error:
            raise self._missing_package() from error
        return filesystem, path

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """The file to be read, a few megabytes of it in memory; what breaks on the way is an InputError."""
        filesystem, path = self.filesystem()
        # The library fetches a block ahead; the buffer above it makes lines cheap.
        with remote_errors(self, "read"):
            file = filesystem.open(path, mode, block_size=BLOCK_BYTES)
        return cast("BinaryIO", io.BufferedReader(_RemoteFile(self, file), _BUFFER_BYTES))

    def read_bytes(self) -> bytes:
        """All of the file."""
        with self.open() as file:
            return file.read()

    def size(self) -> int | None:
        """The bytes of the file, as the server says now; None where there is no file."""
        details = self.details()
        return None if details is None else int(details["size"])

    def details(self) -> dict[str, Any] | None:
        """What the server says of the file now (size, ETag, …); None where there is none."""
        filesystem, path = self.filesystem()
        with remote_errors(self, "read"):
            try:
                details = filesystem.info(path)
            except FileNotFoundError:
                return None
        return dict(details) if details["type"] == "file" else None

    def is_file(self) -> bool:
        """Whether a file is there."""
        return self.details() is not None

    def is_dir(self) -> bool:
        """Whether there are files below this."""
        filesystem, path = self.filesystem()
        with remote_errors(self, "listed"):
            return bool(filesystem.isdir(path))

    def names(self) -> list[str]:
        """The names in the folder, in order; none where there is no such folder."""
        filesystem, path = self.filesystem()
        with remote_errors(self, "listed"):
            try:
                entries = filesystem.ls(path, detail=False)
            except FileNotFoundError:
                return []
        # Some stores list the folder itself.
        names = {PurePosixPath(entry).name for entry in entries}
        return sorted(names - {self.name, ""})

    def glob(self) -> list[Url]:
        """The files that this URL is a pattern of, in the order of their names."""
        filesystem, path = self.filesystem()
        with remote_errors(self, "listed"):
            paths = sorted(filesystem.glob(path))
        return [Url(f"{self.protocol}://{match.lstrip('/')}") for match in paths]

    def write_bytes(self, content: bytes) -> None:
        """Replace the file by this content, in one request."""
        filesystem, path = self.filesystem_to_write()
        with remote_errors(self, "written"):
            filesystem.pipe_file(path, content)

    def delete(self) -> None:
        """Delete the file, if it is there."""
        filesystem, path = self.filesystem_to_write()
        with remote_errors(self, "written"), suppress(FileNotFoundError):
            filesystem.rm_file(path)

    def filesystem_to_write(self) -> tuple[Any, str]:
        """As `filesystem`; refuses protocols that can only be read."""
        if self.protocol in _READ_ONLY:
            raise ConfigError(
                f"{self} can't be written: {self.protocol} is for reading",
                expected="a URL of a store that takes files",
                available=("s3://BUCKET/…", "gs://BUCKET/…", "hf://datasets/OWNER/NAME/…"),
            )
        return self.filesystem()

    def _missing_package(self) -> ConfigError:
        extra = _EXTRA_OF_PROTOCOL.get(self.protocol)
        if extra in EXTRAS:
            return extra_error(extra, f"{self.protocol}://")
        package = _PACKAGE_OF_PROTOCOL.get(self.protocol, "the package of this protocol")
        return ConfigError(
            f"{self.protocol}:// needs {package}, which is not installed",
            fix=f"pip install {package}",
        )


Location: TypeAlias = Path | Url
"""A file or folder on this machine, or at a URL."""


def location_of(text: str) -> Location:
    """The file that a text names: by a URL, or by a path in which ~ is expanded."""
    if text.lower().startswith("file://"):
        return Path(text[len("file://") :])
    return Url(text) if is_url(text) else Path(text).expanduser()


def local_path(text: str | Path) -> Path:
    """A path on this machine, with ~ expanded; a URL is refused.

    Raises:
        ConfigError: a URL.
    """
    if is_url(text):
        raise ConfigError(
            f"{without_secrets(str(text))} is a URL, and here a path on this machine is wanted",
            expected="a folder or file on a disk: runs are databases, which no object store holds",
            fix="run here, then send the rows: potstill export RUN --arm ARM --format trl --out s3://BUCKET/NAME",
        )
    return Path(text).expanduser()


@contextmanager
def remote_errors(url: Url, action: Action) -> Iterator[None]:
    """Inside, what a filesystem's library raises becomes an error that says what to do.

    Only calls of the library belong inside: it catches everything, since the clients' errors have no common base.
    """
    try:
        yield
    except (PotstillError, ImportError):
        raise
    except Exception as error:
        raise _remote_error(url, action, error) from error


def _remote_error(url: Url, action: Action, error: Exception) -> InputError:
    # Servers repeat what they were sent: keys are taken out before anything is shown.
    message = " ".join(str(error).split())[:300]
    message = without_secrets(f"{type(error).__name__}: {message}")
    # By name, since botocore is not imported here.
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, FileNotFoundError):
        return _missing_file(url, action, message)
    if isinstance(error, PermissionError) or "NoCredentialsError" in names:
        return InputError(
            f"{url} can't be {action}: no permission ({message})",
            expected=f"an account that may have it {action}",
            fix=f"keys come from {url.credentials}",
        )
    if isinstance(error, ValueError) and "rotocol not known" in message:
        return InputError(
            f"{url}: the protocol {url.protocol}:// is unknown",
            available=("s3://", "gs://", "hf://", "https://"),
            wanted=f"{url.protocol}://",
        )
    return InputError(
        f"{url} can't be {action} ({message})",
        expected="a server that answers",
        fix="check the network and the server's address, then give the same command again",
    )


def _missing_file(url: Url, action: Action, message: str) -> InputError:
    # What is missing is the bucket: files are made by writing them.
    if action == "written":
        bucket = url.text.partition("://")[2].partition("/")[0]
        return InputError(
            f"{url} can't be written: there is no {bucket} ({message})",
            expected="a bucket or repository that exists",
            fix=f"make {bucket}, or check its name",
        )
    neighbours: list[str] = []
    with suppress(PotstillError):  # who may not list a folder is told of the missing file alone
        neighbours = url.parent.names()
    return InputError(
        f"there is no file {url}",
        expected="a file, or a pattern of files with *",
        available=neighbours[:_SHOWN_NEIGHBOURS],
        wanted=url.name,
        fix="check the URL",
    )


@final
class _RemoteFile(io.RawIOBase):
    """A remote file as a raw stream, whose reads raise errors that say what to do."""

    def __init__(self, url: Url, file: Any) -> None:
        super().__init__()
        self._url, self._file = url, file

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """As the file is; not over compressed HTTP."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; Parquet is read from its end."""
        with remote_errors(self._url, "read"):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Where the next byte is read."""
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as bytes come."""
        with remote_errors(self._url, "read"):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the library's file too."""
        if not self.closed:
            self._file.close()
        super().close()
