"""Completions as JSON lines, out of a store and into another; out of a damaged one as far as it can be read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from potstill.data.trace_json import dump, load
from potstill.errors import InputError, StoreError
from potstill.models.model import Attempt, Completion
from potstill.records import SCHEME, Tokens, canonical
from potstill.store.admin import salvage
from potstill.store.admin.migrations import SCHEMA, known
from potstill.store.attempts import Tried
from potstill.store.completions import Stored
from potstill.store.database import DamagedError
from potstill.store.store import Store

_PORTION = 500  # completions an import keeps at once
_AGAIN = "export again, then import again: what was taken already is skipped"


class Exported(NamedTuple):
    """How many completions were written, and how many are lost to damage; None where nothing says how many there were.

    A lost one could not be read, or is not what was written any more.
    """

    completions: int
    lost: int | None


class Imported(NamedTuple):
    """How many completions of an export were new, and how many were here already."""

    new: int
    known: int


def export(store: Store, path: Path) -> Exported:
    """Write every completion that can be read as JSONL, a header line with the version first.

    The file is written as a draft, brought to the disk and renamed: it is there whole, or as it was.
    """
    draft = path.with_name(f"{path.name}.part")
    written = 0
    try:
        with draft.open("w", encoding="ascii") as file:
            file.write(
                canonical({"potstill": "completions", "scheme": SCHEME, "schema": SCHEMA}) + "\n"
            )
            for stored in store.completions.readable():
                if not damage(stored):
                    file.write(_line(stored) + "\n")
                    written += 1
            for tried in _attempts(store):
                file.write(
                    dump({"attempt": {**tried._asdict(), "attempt": tried.attempt._asdict()}})
                    + "\n"
                )
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    total = salvage.count(store.database)
    return Exported(written, None if total is None else total - written)


def import_(store: Store, path: Path, *, paid: bool = False) -> Imported:
    """Take the completions of an export; each must have the key its content gives, and what is here stays as it is.

    With `paid` what the exporting store had paid for, attempts too, counts as paid here: it is the same run, rescued.
    """
    seen = new = 0
    for portion in _portions(_read(path), _PORTION):
        taken = [one._replace(paid=paid and one.paid) for one in portion if isinstance(one, Stored)]
        new += store.completions.add(taken)
        seen += len(taken)
        if paid:
            store.attempts.add([one for one in portion if isinstance(one, Tried)])
    return Imported(new, seen - new)


def damage(stored: Stored) -> str:
    """What is wrong with a stored completion, or ""."""
    if not stored.sound:
        return f"completion {stored.key}: its text is not the one that was written"
    try:
        now = stored.rehashed()
    except (ValueError, KeyError, TypeError) as error:
        return f"completion {stored.key}: its payload can't be read: {error}"
    return "" if now == stored.key else f"completion {stored.key}: its payload has the key {now}"


def _attempts(store: Store) -> Iterator[Tried]:
    """The attempts, as far as they can be read."""
    try:
        yield from store.attempts.all()
    except DamagedError:
        return  # the completions are what an export is for


def _line(stored: Stored) -> str:
    done = stored.completion
    names = ("key", "role", "arm", "model", "draw", "created", "tries", "paid")
    kept = {name: getattr(stored, name) for name in names}
    return dump({**kept, "payload": json.loads(stored.payload), "completion": done._asdict()})


def _read(path: Path) -> Iterator[Stored | Tried]:
    with path.open(encoding="ascii", errors="surrogateescape") as file:
        _check_header(path, file.readline())
        for number, line in enumerate(file, start=2):
            try:
                stored = _parse(line)
                sound = isinstance(stored, Tried) or stored.rehashed() == stored.key
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number} is not a completion: {type(error).__name__}: {error}",
                    expected="a line that potstill cache export wrote",
                    fix=_AGAIN,
                ) from error
            if not sound and isinstance(stored, Stored):
                raise InputError(
                    f"{path}, line {number} was changed: its content has the key {stored.rehashed()}, not {stored.key}",
                    expected="a line that potstill cache export wrote",
                    fix=_AGAIN,
                )
            yield stored


def _check_header(path: Path, line: str) -> None:
    try:
        header = json.loads(line)
        found = (header["potstill"], header["scheme"], header["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not an export of a potstill store",
            expected="a JSONL file that starts with scheme and schema",
            fix="potstill cache export",
        ) from error
    if found[:2] != ("completions", SCHEME) or not known(str(found[2])):
        raise StoreError(
            f"{path} was written by another version of potstill: scheme {found[1]}, schema {found[2]}",
            expected=f"completions of scheme {SCHEME}, schema {SCHEMA}",
            fix="export with this version of potstill",
        )


def _parse(line: str) -> Stored | Tried:
    value = load(line)
    if "attempt" in value:
        tried = value["attempt"]
        one = Attempt(**{**tried["attempt"], "tokens": Tokens(*tried["attempt"]["tokens"])})
        return Tried(**{**tried, "attempt": one})
    done = {name: given for name, given in value["completion"].items() if name != "tries"}
    tokens = Tokens(*(int(count) for count in done["tokens"]))
    logprobs = tuple(float(number) for number in done.get("logprobs", ()))
    cost = None if done.get("cost") is None else float(done["cost"])
    seconds = float(done["seconds"])
    completion = Completion(
        **{**done, "tokens": tokens, "seconds": seconds, "logprobs": logprobs, "cost": cost}
    )
    if not all(
        isinstance(text, str)
        for text in (done["text"], done["finish"], done["error"], completion.served)
    ):
        raise TypeError("text, finish, error and served must be strings")
    rest = {name: value[name] for name in ("key", "role", "arm", "model", "draw", "created")}
    tries, paid = int(value.get("tries", 0)), bool(value.get("paid", True))
    return Stored(
        **rest, payload=canonical(value["payload"]), completion=completion, tries=tries, paid=paid
    )


def _portions(items: Iterator[Stored | Tried], size: int) -> Iterator[Sequence[Stored | Tried]]:
    portion: list[Stored | Tried] = []
    for item in items:
        portion.append(item)
        if len(portion) == size:
            yield portion
            portion = []
    if portion:
        yield portion
