"""The run folder's manifest: what made it. A folder of another recipe or version is refused before a write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill import __version__
from potstill.config import join_key
from potstill.data.atomic_write import write_text
from potstill.errors import StoreError
from potstill.records import SCHEME, canonical, digest
from potstill.store.admin.migrations import SCHEMA, is_readable
from potstill.store.database import move_away_command
from potstill.store.lock import unwritable_folder_error

FILE = "manifest.json"
MARK = "complete.json"
MAX_DIFFERENCES = 8  # differing settings that an error lists
MAX_VALUE = 60  # characters of a value in such a list


class Manifest(NamedTuple):
    """What made a run folder: potstill's version, the ids' scheme, the store's schema, the settings of the run."""

    potstill: str
    scheme: str
    schema: str
    settings: Mapping[str, Any]


def start(folder: Path, settings: Mapping[str, Any], *, empty: bool = False) -> Manifest:
    """Write the manifest of a new run folder, or check that of an old one; takes the completion mark away.

    Args:
        folder: the run folder; made where there is none.
        settings: everything that decides the results (method, models, values, problems, seed), as JSON values. Not what
            may change between two runs of the same thing, such as the number of workers.
        empty: the store holds nothing: a mistaken setting that stopped a run at once does not keep its folder.
    """
    manifest = Manifest(__version__, SCHEME, SCHEMA, json.loads(canonical(settings)))
    path = folder / FILE
    if not path.exists():
        write(path, manifest._asdict())
    else:
        old = read(folder)
        has_equal_versions = old._replace(settings=manifest.settings) == manifest
        if empty and has_equal_versions and old != manifest:
            write(path, manifest._asdict())
            old = read(folder)
        check_same_run(folder, old, manifest)
    (folder / MARK).unlink(missing_ok=True)
    return manifest


def check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a run folder of another version or of other settings; nothing is written."""
    manifest = Manifest(__version__, SCHEME, SCHEMA, json.loads(canonical(settings)))
    check_same_run(folder, read(folder), manifest)


def read(folder: Path) -> Manifest:
    """The manifest of a run folder, whatever version wrote it."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{name: data[name] for name in Manifest._fields})
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} is not a run folder: it has no {FILE}",
            expected="a folder that a run made",
            fix="give the folder of a run, or start one: potstill run …",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} can't be read: {type(error).__name__}: {error}",
            expected=f"JSON with {', '.join(Manifest._fields)}",
            fix=move_away_command(folder),
        ) from error


def finish(folder: Path, files: Sequence[str] = ()) -> None:
    """Mark the run complete: the very last write of a run, naming its results by content.

    Args:
        folder: the run folder.
        files: results that must be there, relative to the folder, such as "results.json".
    """
    contents = {name: file_digest(folder / name) for name in files}
    write(folder / MARK, {"manifest": manifest_id(read(folder)), "files": contents})


def is_finished(folder: Path) -> bool:
    """Whether the run came to its end and its results are still those it wrote."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if mark["manifest"] != manifest_id(read(folder)):
            return False
        files = mark["files"].items()
        return all(file_digest(folder / name) == content for name, content in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # No mark, or one that was cut short: either way the run must be looked at again.
        return False


def write(path: Path, value: Any) -> None:
    """Write JSON so that the file is there whole, or as it was."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    try:
        write_text(path, f"{text}\n")
    except OSError as error:
        raise unwritable_folder_error(path.parent, error) from error


def check_same_run(folder: Path, old: Manifest, new: Manifest) -> None:
    """Refuse a folder of another version or of other settings."""
    same_version = (old.scheme, release_series(old)) == (new.scheme, release_series(new))
    if not same_version or not is_readable(old.schema):
        raise StoreError(
            f"{folder} was made by another version: potstill {old.potstill}, scheme {old.scheme}, "
            f"schema {old.schema}",
            expected=f"potstill {release_series(new)}.x, scheme {new.scheme}, schema {new.schema}",
            fix=move_away_command(folder),
        )
    differences = list_differences(old.settings, new.settings)
    if not differences:
        return
    lines = differences[:MAX_DIFFERENCES]
    if len(differences) > len(lines):
        lines.append(f"and {len(differences) - len(lines)} more")
    raise StoreError(
        f"{folder} holds a run with other settings: {'; '.join(lines)}",
        expected="the settings that made the folder, so that its run can be taken up again",
        fix="run with those settings, or choose another run folder",
    )


def list_differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Where two settings differ, as lines `key: value found, value asked`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for name in sorted({*old, *new}):
            lines += list_differences(old.get(name), new.get(name), join_key(key, str(name)))
        return lines
    if canonical(old) == canonical(new):
        return []
    return [f"{key or 'settings'}: {_shorten(old)} found, {_shorten(new)} asked"]


def release_series(manifest: Manifest) -> str:
    """The version without its last number: a patch release never changes what a folder means."""
    return ".".join(str(manifest.potstill).split(".")[:2])


def manifest_id(manifest: Manifest) -> str:
    """The content id of a manifest."""
    return digest("manifest", manifest._asdict())


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shorten(value: Any) -> str:
    text = "nothing" if value is None else canonical(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."
