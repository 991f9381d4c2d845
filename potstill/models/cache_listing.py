"""What lies in the cache folder, and what of it is damaged: nothing there is listed as a model that can't be one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from potstill.errors import ModelError, PotstillError
from potstill.models import cache_folder, fetch
from potstill.models.local import checkpoint

MAX_HEADER_BYTES = 100_000_000  # of a safetensors file; the format's own bound
LENGTH_BYTES = 8  # in front of the header, its length


class CachedModel(NamedTuple):
    """A folder of the cache.

    Args:
        name: of the model, or of the file that it was made of; "" where nothing says so.
        folder: where it lies.
        damage: what is wrong with it; "" where nothing is.
        fix: what to do then.
    """

    name: str
    folder: Path
    damage: str = ""
    fix: str = ""

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return cache_folder.folder_bytes(self.folder)


def find_fetched(model: fetch.FetchableModel) -> CachedModel | None:
    """The folder of a model that can be fetched; None where nothing is. Its weights are digested, as before a use."""
    folder = fetch.default_folder(model)
    if not folder.exists():
        return None
    return _checked(model.name, folder, partial(fetch.is_fetched, model, folder))


def list_students() -> list[CachedModel]:
    """The students that a warm-up has put there, and what else is no fetched model."""
    fetchable_names = {model.name for model in fetch.FETCHABLE}
    students: list[CachedModel] = []
    for folder in _folders_in(cache_folder.models_folder()):
        if folder.name not in fetchable_names:
            students.append(_checked(folder.name, folder, partial(_check_student, folder)))
    return students


def list_converted() -> list[CachedModel]:
    """The checkpoints that were made of GGUF files."""
    converted: list[CachedModel] = []
    for folder in _folders_in(cache_folder.gguf_folder()):
        entry = _checked("", folder, partial(_check_converted, folder))
        if not entry.damage:
            source = cache_folder.read_source(folder) or {}
            entry = entry._replace(name=str(source.get("file", "")))
        converted.append(entry)
    return converted


def _folders_in(folder: Path) -> list[Path]:
    """What lies in a folder; a draft that is being written begins with a full stop."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def _checked(name: str, folder: Path, check: Callable[[], object]) -> CachedModel:
    """The entry of a folder, with what a check says of it."""
    try:
        check()
    except PotstillError as error:
        return CachedModel(name, folder, error.found, error.fix)
    return CachedModel(name, folder)


def _check_student(folder: Path) -> None:
    source = cache_folder.read_source(folder)
    if source is None:
        raise ModelError(
            f"{folder} is no finished student: it has no {cache_folder.SOURCE_FILE}",
            fix="the warm-up that was stopped goes on with the same command, or delete the folder",
        )
    if source.get("checkpoint") != checkpoint.content_id(folder):
        raise ModelError(
            f"{folder} is not as it was trained: its files have changed",
            fix="delete it and run potstill models warm-up again",
        )


def _check_converted(folder: Path) -> None:
    fix = f"delete {folder}; it is made again when its file is next used"
    if cache_folder.read_source(folder) is None:
        raise ModelError(f"{folder} has no {cache_folder.SOURCE_FILE}", fix=fix)
    try:
        checkpoint.check_checkpoint(folder)
    except PotstillError as error:
        raise ModelError(error.found, fix=fix) from error
    for file in sorted(folder.glob("*.safetensors")):
        if not is_whole(file):
            raise ModelError(f"{file} is damaged, or was not written to its end", fix=fix)


def is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says. The weights are not read."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        header_length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if header_length > min(size, MAX_HEADER_BYTES):
            return False
        header = opened.read(header_length)
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name[:2] != "__"]
        return bool(size == LENGTH_BYTES + header_length + max(ends, default=0))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return False
