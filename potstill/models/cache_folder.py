"""The folder for what can be fetched or made again: models of `potstill models get`, checkpoints made of GGUF files.

Beside a checkpoint lies `potstill-source.json`, which says what it was made of.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.data.user_cache import VARIABLE, cache_folder
from potstill.errors import ModelError, StoreError

SOURCE_FILE = "potstill-source.json"


def models_folder() -> Path:
    """Where `potstill models get` puts a model, unless it is told another folder."""
    return cache_folder() / "models"


def gguf_folder() -> Path:
    """Where the checkpoints lie that were made of GGUF files."""
    return cache_folder() / "gguf"


def write_source(folder: Path, source: Mapping[str, Any]) -> None:
    """Write down what a checkpoint was made of."""
    (folder / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", "utf-8")


def read_source(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint was made of; None where nothing says so."""
    file = folder / SOURCE_FILE
    if not file.is_file():
        return None
    try:
        source = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{file} is not JSON ({error})", fix=f"delete {folder}; it can be made again"
        ) from error
    if not isinstance(source, dict):
        raise StoreError(f"{file} holds no object", fix=f"delete {folder}; it can be made again")
    return source


def check_free_space(folder: Path, needed: int) -> None:
    """Refuse a disk with fewer free bytes than are needed, before anything is written."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ModelError(
            f"{needed / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free on the disk of {folder}",
            fix=f"free some space, or name a folder on another disk: {VARIABLE}=FOLDER",
        )


def folder_bytes(folder: Path) -> int:
    """The size of all files of a folder."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # renamed or deleted meanwhile by who is writing it
            continue
    return total
