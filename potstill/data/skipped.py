"""Bad rows: an error that names file and line, or, inside `skipping`, an entry in the list of what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data.atomic_write import write_text
from potstill.errors import InputError

FILE = "bad_rows.jsonl"
SHOWN = 80  # characters of a bad row that are kept, escaped


class Bad(NamedTuple):
    """A row that was left out: its file, where it stands there, why, and how it begins (escaped)."""

    file: str
    where: str
    reason: str
    start: str


_SKIPPED: ContextVar[list[Bad] | None] = ContextVar("skipped rows", default=None)


@contextmanager
def skipping(on: bool = True) -> Iterator[list[Bad]]:
    """Inside, bad rows are left out of whatever is read and listed here; with `on=False` the first one is an error."""
    bad: list[Bad] = []
    token = _SKIPPED.set(bad if on else None)
    try:
        yield bad
    finally:
        _SKIPPED.reset(token)


def is_skipping() -> bool:
    """Whether bad rows are left out here."""
    return _SKIPPED.get() is not None


def skipped() -> list[Bad]:
    """What was left out so far, each once, although a file may be read several times (as problems and as answers)."""
    return list(dict.fromkeys(_SKIPPED.get() or ()))


def refuse(error: InputError, file: object, where: str, row: object = "") -> None:
    """Raise the error of a row, or list the row where bad ones are skipped."""
    bad = _SKIPPED.get()
    if bad is None:
        raise error
    reason = error.found.removeprefix(f"{file}").removeprefix(f", {where}").lstrip(",: ")
    bad.append(Bad(str(file), where, reason, start_of(row)))


@contextmanager
def checked(file: object, where: str, row: object = "") -> Iterator[None]:
    """An InputError inside is the row's: it is raised, or the row is listed where bad ones are skipped."""
    try:
        yield
    except InputError as error:
        refuse(error, file, where, row)


@contextmanager
def row_at(file: object, where: str, row: object = "") -> Iterator[None]:
    """As `checked`, with file and place put before what the error found."""
    with checked(file, where, row):
        try:
            yield
        except InputError as error:
            error.found = f"{file}, {where}: {error.found}"
            error.args = (error.render(),)
            raise


def start_of(row: object) -> str:
    """The first characters of a row in printable ASCII."""
    if isinstance(row, bytes | bytearray):
        return repr(bytes(row[:SHOWN]))[2:-1]
    text = row if isinstance(row, str) else _text(row)
    return ascii(text[:SHOWN])[1:-1]


def _text(row: Any) -> str:
    try:
        return json.dumps(row, default=str)
    except (ValueError, RecursionError):
        return repr(type(row))


def save(folder: Path) -> list[Bad]:
    """Write what was left out to `bad_rows.jsonl` in a run folder, where anything was; a stale list is removed."""
    return _save(folder / FILE)


def save_beside(file: Path) -> list[Bad]:
    """Write what was left out beside a file that was made without it: `rows.jsonl` has `rows.bad_rows.jsonl`."""
    return _save(file.with_name(f"{file.stem}.{FILE}"))


def _save(path: Path) -> list[Bad]:
    bad = skipped()
    if not bad:
        path.unlink(missing_ok=True)
        return []
    write_text(path, "".join(json.dumps(item._asdict()) + "\n" for item in bad))
    return bad


def notes() -> list[str]:
    """A sentence for the run's summary, where rows were left out."""
    bad = skipped()
    if not bad:
        return []
    files: dict[str, int] = {}
    for item in bad:
        files[item.file] = files.get(item.file, 0) + 1
    told = ", ".join(f"{count:,} of {Path(file).name}" for file, count in files.items())
    return [f"Bad rows left out: {told}; {FILE} lists them with the reasons."]
