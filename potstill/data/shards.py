"""A set of files that hold rows together, and the manifest that is written when all of them are there.

`shards.json` names each shard with its rows, bytes and SHA-256, and is written last. While a set is being written,
`shards.partial.json` stands in its place: who finds it refuses to read.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from potstill.data.urls import Location, Url, is_glob
from potstill.errors import InputError

MANIFEST_FILE = "shards.json"
PARTIAL_FILE = "shards.partial.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a set.

    Args:
        name: in the folder.
        rows: in it.
        bytes: of the file as it lies there, compressed or not.
        sha256: of the file, as hexadecimal digits.
        etag: what the server called this content when it arrived; "" where it says nothing, and in a finished manifest.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    etag: str = ""


def render_manifest(shards: Sequence[Shard]) -> bytes:
    """`shards.json`: the same bytes for the same shards, whoever stores them."""
    entries = []
    for shard in shards:
        entry = asdict(shard)
        del entry["etag"]
        entries.append(entry)
    return _render(entries)


def render_progress(shards: Sequence[Shard]) -> bytes:
    """`shards.partial.json`: the shards that have arrived so far."""
    return _render([asdict(shard) for shard in shards])


def read_manifest(file: Location) -> list[Shard] | None:
    """The shards that a manifest names; None where there is none.

    Raises:
        InputError: a file of this name that is no manifest.
    """
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
        version = content["version"]
        shards = [Shard(**entry) for entry in content["shards"]]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{file} is no manifest of shards ({type(error).__name__}: {str(error)[:100]})",
            expected="what potstill export writes there",
            fix="write the set again, into an empty folder",
        ) from error
    if version != VERSION:
        raise InputError(
            f"{file} has version {version!r}",
            expected=f"version {VERSION}",
            fix="read it with the version of potstill that wrote it",
        )
    for shard in shards:
        is_typed = isinstance(shard.name, str) and type(shard.bytes) is type(shard.rows) is int
        # A name leads nowhere else than into the folder.
        if not is_typed or Path(shard.name).name != shard.name:
            raise InputError(f"{file} names {shard.name!r}", expected="names of files beside it")
    return shards


def find_parts(location: Location) -> list[tuple[Location, Shard | None]] | None:
    """The files of a pattern or of a set of shards, each with what the manifest says of it; None of a single file.

    Raises:
        InputError: a set that is not complete, or a pattern that no file has.
    """
    if is_glob(str(location)) and (isinstance(location, Url) or not location.exists()):
        return _files_of_pattern(location)
    # A URL with a suffix is a file: no server is asked whether it is a folder.
    if (isinstance(location, Url) and location.suffix) or not location.is_dir():
        return None
    # No manifest: an ordinary folder, or a set that was not finished.
    shards = read_manifest(location / MANIFEST_FILE)
    if shards is None:
        _refuse_partial(location)
        return None
    parts: list[tuple[Location, Shard | None]] = []
    for shard in shards:
        file = location / shard.name
        _check_size(file, shard)
        parts.append((file, shard))
    return parts


def _files_of_pattern(pattern: Location) -> list[tuple[Location, Shard | None]]:
    # By name, so that everybody reads them in one order.
    files: list[Location] = []
    if isinstance(pattern, Url):
        files += pattern.glob()
    else:
        files += [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    files = [file for file in files if file.name not in (MANIFEST_FILE, PARTIAL_FILE)]
    if not files:
        raise InputError(
            f"no file is called {pattern}",
            expected="a pattern of files, such as 'train-*.jsonl'",
            fix="check the folder and the pattern",
        )
    # A pattern may reach into a set: what its manifest says of a file holds here too.
    shards: dict[str, Shard] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        manifest = read_manifest(folder / MANIFEST_FILE)
        if manifest is None:
            _refuse_partial(folder)
        for shard in manifest or ():
            shards[str(folder / shard.name)] = shard
    return [(file, shards.get(str(file))) for file in files]


def _refuse_partial(folder: Location) -> None:
    """Refuse a set that is still being written, or whose writer was stopped."""
    shards = read_manifest(folder / PARTIAL_FILE)
    if shards is None:
        return
    raise InputError(
        f"{folder} is an incomplete set of shards: {len(shards)} have arrived, and {MANIFEST_FILE} is not there",
        expected="a finished set",
        fix="give the command that writes it once more: it goes on where it stopped",
    )


def _check_size(file: Location, shard: Shard) -> None:
    size = file_size(file)
    if size == shard.bytes:
        return
    problem = f"{file} is missing" if size is None else f"{file} has {size:,} bytes"
    raise InputError(
        f"{problem}, and {MANIFEST_FILE} says {shard.bytes:,}",
        expected="the set as it was written",
        fix="give the command that writes it once more: it sends what is missing",
    )


def file_size(file: Location) -> int | None:
    """The bytes of a file; None where there is none."""
    if isinstance(file, Url):
        return file.size()
    return file.stat().st_size if file.is_file() else None


def _render(entries: Sequence[dict[str, Any]]) -> bytes:
    content = {
        "version": VERSION,
        "rows": sum(entry["rows"] for entry in entries),
        "bytes": sum(entry["bytes"] for entry in entries),
        "shards": entries,
    }
    return (json.dumps(content, indent=1) + "\n").encode("ascii")
