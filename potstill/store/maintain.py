"""Looking after a store: what is in it, whether it is sound, what nobody needs, and completions as JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import InputError, StoreError
from potstill.models.model import Completion
from potstill.records import SCHEME, Tokens, canonical
from potstill.store.completions import Stored
from potstill.store.migrations import SCHEMA, known
from potstill.store.store import Store
from potstill.store.traces import dump, from_json, load

_UNUSED = "FROM completions WHERE key NOT IN (SELECT key FROM uses)"
_SIZE = "coalesce(sum(length(payload) + length(CAST(text AS BLOB))), 0)"
_PORTION = 500  # completions an import keeps at once


class Gone(NamedTuple):
    """Completions that nobody needs: how many, their bytes, and whether they were deleted."""

    completions: int
    bytes: int
    deleted: bool


class Imported(NamedTuple):
    """How many completions of an export were new, and how many were here already."""

    new: int
    known: int


def stats(store: Store) -> dict[str, Any]:
    """What a store holds: entries by table, bytes on disk, completions by role, model and arm, and unused ones."""
    read = store.database.read
    tables = ("completions", "judgements", "traces", "drops", "students")
    counted = {name: read(f"SELECT count(*) FROM {name}")[0][0] for name in tables}
    groups = read(
        "SELECT arm, role, model, count(*), sum(error != ''), sum(prompt_tokens), sum(completion_tokens), sum(seconds) "
        "FROM completions GROUP BY arm, role, model ORDER BY arm, role, model"
    )
    names = ("arm", "role", "model", "completions", "errors", "prompt_tokens", "completion_tokens", "seconds")
    unused, size = read(f"SELECT count(*), {_SIZE} {_UNUSED}")[0]
    files = [store.database.path.with_name(store.database.path.name + end) for end in ("", "-wal")]
    return {
        **counted,
        "bytes": sum(path.stat().st_size for path in files if path.exists()),
        "paid": [dict(zip(names, group, strict=True)) for group in groups],
        "unused": unused,
        "unused_bytes": size,
        "arms": store.history.arms(),
    }


def verify(store: Store) -> list[str]:
    """Everything that is wrong with a store, one sentence each; an empty list is a sound store.

    Checks the file itself, every completion's key and every trace's id against its content, and that parents, dropped
    traces, trained rows and needed completions are there.
    """
    found = [f"file: {line}" for (line,) in store.database.read("PRAGMA integrity_check") if line != "ok"]
    found += [line for stored in store.completions.all() if (line := _unlike(stored))]
    found += [line for row in store.database.pages("traces", "id, record") if (line := _changed(*row))]
    found += [f"trace {child}: its parent {parent} is not stored" for child, parent in store.history.missing()]
    for table, key, of in (("drops", "id", "traces"), ("rows", "id", "traces"), ("uses", "key", "completions")):
        column = "id" if of == "traces" else "key"
        lost = store.database.read(f"SELECT {key}, arm FROM {table} WHERE {key} NOT IN (SELECT {column} FROM {of})")
        found += [f"{table} of arm {arm}: {name} is not in {of}" for name, arm in lost]
    return found


def gc(store: Store, *, dry_run: bool = True) -> Gone:
    """Find the completions that no arm needs, imported ones among them, and delete them unless it is a dry run.

    An arm that was interrupted still holds all that its earlier runs needed.
    """
    count, size = store.database.read(f"SELECT count(*), {_SIZE} {_UNUSED}")[0]
    if not dry_run:
        with store.database.transaction() as connection:
            connection.execute(f"DELETE {_UNUSED}")
    return Gone(count, size, not dry_run)


def export(store: Store, path: Path) -> int:
    """Write every completion as JSONL, a header line with the version first, and return how many."""
    count = 0
    with path.open("w", encoding="ascii") as file:
        file.write(canonical({"potstill": "completions", "scheme": SCHEME, "schema": SCHEMA}) + "\n")
        for stored in store.completions.all():
            file.write(_line(stored) + "\n")
            count += 1
    return count


def import_(store: Store, path: Path) -> Imported:
    """Take the completions of an export; each must have the key its content gives, and what is here stays as it is."""
    seen = new = 0
    for portion in _portions(_read(path), _PORTION):
        new += store.completions.add(portion)
        seen += len(portion)
    return Imported(new, seen - new)


def _unlike(stored: Stored) -> str:
    try:
        now = stored.rehashed()
    except (ValueError, KeyError, TypeError) as error:
        return f"completion {stored.key}: its payload can't be read: {error}"
    return "" if now == stored.key else f"completion {stored.key}: its payload has the key {now}"


def _changed(id: str, record: str) -> str:
    try:
        trace = from_json(record)
    except (StoreError, ValueError) as error:
        return f"trace {id}: {str(error).splitlines()[0]}"
    return "" if trace.id == id else f"trace {id}: its record is that of {trace.id}"


def _line(stored: Stored) -> str:
    done = stored.completion
    kept = {name: getattr(stored, name) for name in ("key", "role", "arm", "model", "draw", "created", "tries")}
    return dump({**kept, "payload": json.loads(stored.payload), "completion": done._asdict()})


def _read(path: Path) -> Iterator[Stored]:
    with path.open(encoding="ascii", errors="surrogateescape") as file:
        _check_header(path, file.readline())
        for number, line in enumerate(file, start=2):
            try:
                stored = _parse(line)
                sound = stored.rehashed() == stored.key
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number} is not a completion: {type(error).__name__}: {error}",
                    expected="a line that potstill cache export wrote",
                    fix="export again, then import again: what was taken already is skipped",
                ) from error
            if not sound:
                raise InputError(
                    f"{path}, line {number} was changed: its content has the key {stored.rehashed()}, not {stored.key}",
                    expected="a line that potstill cache export wrote",
                    fix="export again, then import again: what was taken already is skipped",
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


def _parse(line: str) -> Stored:
    value = load(line)
    done = {name: given for name, given in value["completion"].items() if name != "tries"}
    tokens = Tokens(*(int(count) for count in done["tokens"]))
    logprobs = tuple(float(number) for number in done.get("logprobs", ()))
    cost = None if done.get("cost") is None else float(done["cost"])
    seconds = float(done["seconds"])
    completion = Completion(**{**done, "tokens": tokens, "seconds": seconds, "logprobs": logprobs, "cost": cost})
    if not all(isinstance(text, str) for text in (done["text"], done["finish"], done["error"], completion.served)):
        raise TypeError("text, finish, error and served must be strings")
    rest = {name: value[name] for name in ("key", "role", "arm", "model", "draw", "created")}
    tries = int(value.get("tries", 0))
    return Stored(**rest, payload=canonical(value["payload"]), completion=completion, tries=tries)


def _portions(items: Iterator[Stored], size: int) -> Iterator[Sequence[Stored]]:
    portion: list[Stored] = []
    for item in items:
        portion.append(item)
        if len(portion) == size:
            yield portion
            portion = []
    if portion:
        yield portion
