"""A folder with a transformers checkpoint: what must be in it, and its content id. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.records import digest

PARTS = ("config.json", "generation_config.json", "tokenizer*", "chat_template*", "special_tokens_map.json",
         "added_tokens.json", "vocab*", "merges.txt", "*.safetensors", "*.safetensors.index.json")  # fmt: skip
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LEADS_TO = (
    "transformers:PATH, where PATH is a folder with config.json, tokenizer.json and *.safetensors"
)

_seen: dict[tuple[str, int, int], str] = {}


def check(path: Path) -> None:
    """Refuse a folder that is not a checkpoint, saying which part is missing."""
    if not path.is_dir():
        raise ModelError(
            f"no checkpoint folder {path}" + (" (it is a file)" if path.is_file() else ""),
            expected=LEADS_TO,
            available=_checkpoints(path.parent),
            wanted=path.name,
            fix="download the model into a folder and give the folder's path",
        )
    inside = sorted(p.name for p in path.iterdir())
    if not (path / "config.json").is_file():
        fix = "give the folder that holds config.json"
        nested = _checkpoints(path)
        raise ModelError(
            f"{path} has no config.json",
            expected=LEADS_TO,
            available=nested or inside[:12],
            fix=fix,
        )
    if not list(path.glob("*.safetensors")):
        pickled = [name for name in inside if name.endswith((".bin", ".pt", ".pth"))]
        raise ModelError(
            f"{path} has no *.safetensors"
            + (f", only {pickled[0]}, which could run code when loaded" if pickled else ""),
            expected=LEADS_TO,
            available=inside[:12],
            fix="save the weights again with save_pretrained(…, safe_serialization=True)",
        )
    if not any((path / name).is_file() for name in TOKENIZERS):
        fix = f"copy the tokenizer there: AutoTokenizer.from_pretrained(BASE).save_pretrained({str(path)!r})"
        raise ModelError(
            f"{path} has no tokenizer", expected=LEADS_TO, available=inside[:12], fix=fix
        )


def config(path: Path) -> dict[str, Any]:
    """The checkpoint's config.json."""
    try:
        content = json.loads((path / "config.json").read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        fix = "copy config.json from the model again"
        raise ModelError(
            f"{path}/config.json is not JSON ({error})", expected=LEADS_TO, fix=fix
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{path}/config.json is no JSON object",
            expected=LEADS_TO,
            fix="copy it from the model again",
        )
    return content


def content_id(path: Path, kind: str = "hf") -> str:
    """`hf-` and a digest over the bytes of config, tokenizer and weights: moving or copying a checkpoint keeps it."""
    files = sorted({file for part in PARTS for file in path.glob(part) if file.is_file()})
    return digest(kind, [[file.name, file_digest(file)] for file in files])


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces; remembered while size and time of change stay."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _seen:
        with path.open("rb") as file:
            _seen[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _seen[key]


def _checkpoints(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and (p / "config.json").is_file())[
        :12
    ]
