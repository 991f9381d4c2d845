"""Rows of JSON, JSONL and YAML files, with errors that name the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.errors import InputError


def read(path: Path, what: str) -> Any:
    """The content of a .json, .yaml or .yml file, or the list of a .jsonl file's rows.

    Args:
        what: what the file should be, for the error ("a file of scripted answers").
    """
    if not path.is_file():
        found = f"{path} is a folder" if path.is_dir() else f"no file {path}"
        raise InputError(found, expected=what, available=_beside(path), wanted=path.name, fix="give an existing file")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        fix = "save the file as UTF-8"
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", expected=what, fix=fix) from error
    if path.suffix in (".yaml", ".yml"):
        content = _yaml(text, path)
    elif path.suffix == ".json":
        content = _json(text, path, 1)
    else:
        content = list(_lines(text, path))
    if not content:
        raise InputError(f"{path} is empty", expected=what, fix="write at least one row")
    return content


def _lines(text: str, path: Path) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _json(line, path, number)


def _json(text: str, path: Path, first: int) -> Any:
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise InputError(
            f"{path}, line {first}: half a character ({half}), which no model can learn",
            expected="surrogates (\\ud800 to \\udfff) in pairs only",
            fix="write the file again from its source, or take the half characters out",
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        line = first + getattr(error, "lineno", 1) - 1
        found = f"{path}, line {line}: not JSON ({getattr(error, 'msg', 'nested too deeply')})"
        raise InputError(
            found, expected="one JSON object a line (.jsonl) or one JSON value (.json)", fix="correct it"
        ) from error


def _yaml(text: str, path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})", expected="YAML", fix="correct it") from error


def _beside(path: Path) -> list[str]:
    if not path.parent.is_dir():
        return []
    return sorted(p.name for p in path.parent.iterdir() if p.suffix in (".json", ".jsonl", ".yaml", ".yml"))[:20]
