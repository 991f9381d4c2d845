"""The run folders that are looked at: found below the paths of a command, each with a name for its address."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from potstill.errors import InputError
from potstill.runs import manifest
from potstill.runs.folder_layout import RESULTS_FILE
from potstill.store import database

SEARCH_DEPTH = 4  # folders below a path in which runs are looked for
# Of these nothing is a run: what a run holds, and what a checkout holds beside its runs.
SKIPPED_FOLDERS = ("students", "rows", "traces", "node_modules", "__pycache__")

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class RunFolder(NamedTuple):
    """A run folder and its name in addresses; `readable_path` is for people."""

    name: str
    path: Path
    readable_path: str


def find_runs(paths: Sequence[Path]) -> dict[str, RunFolder]:
    """The runs at these paths and below them, by name; a path may also be a run's results.json.

    Raises:
        InputError: there is none.
    """
    folders = list_run_folders(paths)
    if not folders:
        places = ", ".join(str(path) for path in paths)
        raise InputError(
            f"no run in {places}",
            expected=f"a folder that a run made, with {manifest.FILE}, or a folder of such folders",
            fix="potstill quickstart makes one in runs/quickstart",
        )
    return name_folders(folders)


def find_meant_runs(paths: Sequence[Path]) -> dict[str, RunFolder]:
    """The runs that paths name themselves, without others that lie within them; where none is named, all below.

    Raises:
        InputError: there is none.
    """
    runs = find_runs(paths)
    places = {(path.parent if path.is_file() else path).resolve() for path in paths}
    meant_runs = {name: run for name, run in runs.items() if run.path in places}
    return meant_runs or runs


def list_run_folders(paths: Sequence[Path]) -> list[Path]:
    """The real paths of the runs at these paths and below them, each once."""
    folders: dict[Path, None] = {}
    for path in paths:
        start = path
        if path.is_file():
            start = path.parent
            # Of a file that is no run's, the other folders beside it were not asked for.
            if not is_run(start):
                continue
        for folder in _runs_below(start, SEARCH_DEPTH):
            folders[folder.resolve()] = None
    return list(folders)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    files = (manifest.FILE, database.FILE, RESULTS_FILE)
    return any((folder / name).is_file() for name in files)


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
        # A run may hold another one: the quickstart's walks lie in the folder of its stories.
        depth = min(depth, 1)
    if depth == 0 or not folder.is_dir():
        return
    try:
        children = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except PermissionError:
        # A folder that may not be listed holds no run that could be shown.
        return
    for child in map(Path, children):
        if child.name not in SKIPPED_FOLDERS and not child.name.startswith("."):
            yield from _runs_below(child, depth - 1)


def name_folders(
    folders: Sequence[Path], taken_names: Collection[str] = ()
) -> dict[str, RunFolder]:
    """A name for each folder that stays the same from one start of the server to the next.

    Args:
        folders: the real paths of runs.
        taken_names: that other runs have already.
    """
    runs: dict[str, RunFolder] = {}
    plain_names = [_NOT_IN_NAMES.sub("-", folder.name).strip(".-") or "run" for folder in folders]
    for folder, name in zip(folders, plain_names, strict=True):
        # Equal names, and those that had to be changed, get a few characters of the path.
        if plain_names.count(name) > 1 or name in taken_names or name != folder.name:
            name += "-" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]
        runs[name] = RunFolder(name, folder, shorten_path(folder))
    return runs


def shorten_path(path: Path) -> str:
    """A path relative to the current folder, or with `~` for the home folder, where it lies below."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base) and path != base:
            return prefix + str(path.relative_to(base))
    return str(path)
