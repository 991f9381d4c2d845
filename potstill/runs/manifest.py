"""The run folder's manifest: what made it. A folder of another recipe or version is refused before a write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill import __version__
from potstill.data.atomic_write import write_text
from potstill.errors import StoreError
from potstill.records import SCHEME, canonical, digest
from potstill.store.admin.migrations import SCHEMA, is_readable
from potstill.store.database import move_away_command
from potstill.store.lock import unwritable_folder_error

FILE = "manifest.json"
MARK = "complete.json"


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
    asked = Manifest(__version__, SCHEME, SCHEMA, json.loads(canonical(settings)))
    if (folder / FILE).exists():
        found = read(folder)
        if empty and found[:3] == asked[:3] and found != asked:
            write(folder / FILE, asked._asdict())
        _compare(folder, read(folder), asked)
    else:
        write(folder / FILE, asked._asdict())
    (folder / MARK).unlink(missing_ok=True)
    return asked


def read(folder: Path) -> Manifest:
    """The manifest of a run folder, whatever version wrote it."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{name: found[name] for name in Manifest._fields})
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
        files: results that must be there, relative to the folder, such as "results.json".
    """
    contents = {name: _hash(folder / name) for name in files}
    write(folder / MARK, {"manifest": _id(read(folder)), "files": contents})


def finished(folder: Path) -> bool:
    """Whether the run came to its end and its results are still those it wrote."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return bool(
            mark["manifest"] == _id(read(folder))
            and all(_hash(folder / name) == content for name, content in mark["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return (
            False  # no mark, or one that was cut short: either way the run must be looked at again
        )


def write(path: Path, value: Any) -> None:
    """Write JSON so that the file is there whole, or as it was."""
    try:
        write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
    except OSError as error:
        raise unwritable_folder_error(path.parent, error) from error


def _compare(folder: Path, found: Manifest, asked: Manifest) -> None:
    if (found.scheme, _series(found)) != (asked.scheme, _series(asked)) or not is_readable(
        found.schema
    ):
        raise StoreError(
            f"{folder} was made by another version: potstill {found.potstill}, scheme {found.scheme}, "
            f"schema {found.schema}",
            expected=f"potstill {_series(asked)}.x, scheme {asked.scheme}, schema {asked.schema}",
            fix=move_away_command(folder),
        )
    differences = differing(found.settings, asked.settings)
    if differences:
        shown = differences[:8] + (
            [f"and {len(differences) - 8} more"] if len(differences) > 8 else []
        )
        raise StoreError(
            f"{folder} holds a run with other settings: {'; '.join(shown)}",
            expected="the settings that made the folder, so that its run can be taken up again",
            fix="run with those settings, or choose another run folder",
        )


def differing(found: Any, asked: Any, name: str = "") -> list[str]:
    """Where two settings differ, as lines `name: found here, asked there`."""
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        return [
            line
            for key in sorted({*found, *asked})
            for line in differing(
                found.get(key), asked.get(key), f"{name}.{key}" if name else str(key)
            )
        ]
    if canonical(found) == canonical(asked):
        return []
    return [f"{name or 'settings'}: {_short(found)} found, {_short(asked)} asked"]


def _series(manifest: Manifest) -> str:
    return ".".join(
        str(manifest.potstill).split(".")[:2]
    )  # a patch release never changes what a folder means


def _id(manifest: Manifest) -> str:
    return digest("manifest", manifest._asdict())


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _short(value: Any) -> str:
    text = "nothing" if value is None else canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
