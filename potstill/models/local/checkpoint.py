"""A folder with a transformers checkpoint: what must be in it, and its content id. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.records import digest

CONTENT_FILES = ("config.json", "generation_config.json", "tokenizer*", "chat_template*", "special_tokens_map.json",
                 "added_tokens.json", "vocab*", "merges.txt", "*.safetensors", "*.safetensors.index.json")  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
EXPECTED_CHECKPOINT = (
    "transformers:PATH, where PATH is a folder with config.json, tokenizer.json and *.safetensors"
)
LISTED_NAMES = 12  # of files or folders in an error

_digests: dict[tuple[str, int, int], str] = {}  # of files, by path, size and time of change


def check_checkpoint(path: Path) -> None:
    """Refuse a folder that is not a checkpoint, saying which part is missing."""
    if not path.is_dir():
        raise ModelError(
            f"no checkpoint folder {path}" + (" (it is a file)" if path.is_file() else ""),
            expected=EXPECTED_CHECKPOINT,
            available=_checkpoints_in(path.parent),
            wanted=path.name,
            fix="download the model into a folder and give the folder's path",
        )
    file_names = sorted(entry.name for entry in path.iterdir())
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} has no config.json",
            expected=EXPECTED_CHECKPOINT,
            available=_checkpoints_in(path) or file_names[:LISTED_NAMES],
            fix="give the folder that holds config.json",
        )
    if not list(path.glob("*.safetensors")):
        message = f"{path} has no *.safetensors"
        pickle_names = [name for name in file_names if name.endswith((".bin", ".pt", ".pth"))]
        if pickle_names:
            message += f", only {pickle_names[0]}, which could run code when loaded"
        raise ModelError(
            message,
            expected=EXPECTED_CHECKPOINT,
            available=file_names[:LISTED_NAMES],
            fix="save the weights again with save_pretrained(…, safe_serialization=True)",
        )
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{path} has no tokenizer",
            expected=EXPECTED_CHECKPOINT,
            available=file_names[:LISTED_NAMES],
            fix=f"copy the tokenizer there: AutoTokenizer.from_pretrained(BASE).save_pretrained({str(path)!r})",
        )


def read_config(path: Path) -> dict[str, Any]:
    """The checkpoint's config.json."""
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}/config.json is not JSON ({error})",
            expected=EXPECTED_CHECKPOINT,
            fix="copy config.json from the model again",
        ) from error
    if not isinstance(config, dict):
        raise ModelError(
            f"{path}/config.json is no JSON object",
            expected=EXPECTED_CHECKPOINT,
            fix="copy it from the model again",
        )
    return config


def content_id(path: Path, kind: str = "hf") -> str:
    """`hf-` and a digest over the bytes of config, tokenizer and weights: moving or copying a checkpoint keeps it."""
    files: set[Path] = set()
    for pattern in CONTENT_FILES:
        files.update(file for file in path.glob(pattern) if file.is_file())
    return digest(kind, [[file.name, file_digest(file)] for file in sorted(files)])


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces; remembered while size and time of change stay."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _checkpoints_in(folder: Path) -> list[str]:
    """Names of the folders below this one that look like checkpoints."""
    if not folder.is_dir():
        return []
    names = sorted(p.name for p in folder.iterdir() if (p / "config.json").is_file())
    return names[:LISTED_NAMES]
