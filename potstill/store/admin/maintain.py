"""Looking after a store: what is in it and what it cost, whether it is sound, and what nobody needs any more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data.trace_json import from_json
from potstill.errors import InputError, StoreError
from potstill.store.admin import parquet
from potstill.store.admin.transfer import damage
from potstill.store.database import DamagedError
from potstill.store.store import Store

_UNUSED = "FROM completions WHERE key NOT IN (SELECT key FROM uses)"
_SIZE = "coalesce(sum(length(payload) + length(CAST(text AS BLOB))), 0)"
_STALE = "FROM traces WHERE id NOT IN (SELECT id FROM made)"
_NAMED = "SELECT DISTINCT json_extract(notes, '$.verdict[3]') FROM made"
_COUNTED = ("completions", "attempts", "intents", "judgements", "traces", "drops", "students")
_COSTS = (
    "count(*), sum(error != ''), sum(prompt_tokens), sum(completion_tokens), "
    "coalesce(sum(cost), 0.0), sum(seconds)"
)


class Gone(NamedTuple):
    """What nobody needs, by number: completions with their bytes, traces, judgements, students; whether it is gone."""

    completions: int
    bytes: int
    deleted: bool
    traces: int = 0
    judgements: int = 0
    students: int = 0


def stats(store: Store, specs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a store holds and what it cost.

    Entries by table, bytes on disk, completions by who asked first, attempts by role, model and kind of failure, what
    each role has spent (attempts and open calls included), and what is unused.

    Args:
        store: open, for reading is enough.
        specs: by role, what the run calls its model.
    """
    read = store.database.read
    counted = {name: read(f"SELECT count(*) FROM {name}")[0][0] for name in _COUNTED}
    names = ("completions", "errors", "prompt_tokens", "completion_tokens", "cost", "seconds")
    groups = read(
        f"SELECT arm, role, model, {_COSTS} FROM completions GROUP BY arm, role, model ORDER BY 1, 2, 3"
    )
    tried = read(
        "SELECT role, model, substr(error, 1, instr(error || ':', ':') - 1) AS kind, count(*), sum(billed), "
        "sum(prompt_tokens + completion_tokens), coalesce(sum(cost), 0.0) FROM attempts "
        "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    unused, size = read(f"SELECT count(*), {_SIZE} {_UNUSED}")[0]
    called = _called(store, specs or {})
    files = [store.database.path.with_name(store.database.path.name + end) for end in ("", "-wal")]
    return {
        **counted,
        "bytes": sum(path.stat().st_size for path in files if path.exists()),
        "paid": [_named(called, ("arm", "role", "model", *names), group) for group in groups],
        "tried": [
            _named(
                called, ("role", "model", "failure", "attempts", "billed", "tokens", "cost"), row
            )
            for row in tried
        ],
        "spent": {role: spent._asdict() for role, spent in store.attempts.spent().items()},
        "unused": unused,
        "unused_bytes": size,
        "arms": store.history.arms(),
    }


def _called(store: Store, specs: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """What people call the model of a role: the student's folder, the run's spec of the role, what its server says."""
    trained = {
        student.model: f"{student.folder.parent.name}/{student.folder.name}"
        for student in store.students.all()
    }
    sql = "SELECT role, model, max(served) FROM completions GROUP BY 1, 2 UNION SELECT role, model, '' FROM attempts"
    found: dict[tuple[str, str], str] = {}
    for role, model, served in store.database.read(sql):
        spec = specs.get("student" if role == "evaluation" else role, "")
        found[role, model] = trained.get(model) or spec or found.get((role, model)) or served
    return found


def _named(
    called: Mapping[tuple[str, str], str], names: Sequence[str], row: Sequence[Any]
) -> dict[str, Any]:
    """A row of a table by its columns, with the model's name before its id."""
    told = dict(zip(names, row, strict=True))
    name = {"name": called.get((told["role"], told["model"]), "")}
    at = names.index("model")
    return {**dict(list(told.items())[:at]), **name, **dict(list(told.items())[at:])}


def verify(store: Store) -> list[str]:
    """Everything that is wrong with a store, one sentence each; an empty list is a sound store.

    Checks the file itself, every completion's key and text and every trace's id against its content, that parents,
    dropped traces, trained rows and needed completions are there, and the Parquet files of the arms that ended.
    """
    found = _file(store)
    found += [line for stored in store.completions.readable() if (line := damage(stored))]
    try:
        found += _references(store)
        found += parquet.faults(store.database, store.folder)
    except (StoreError, InputError) as error:
        found.append(error.found)
    return found


def _file(store: Store) -> list[str]:
    try:
        return [
            f"file: {line}"
            for (line,) in store.database.read("PRAGMA integrity_check")
            if line != "ok"
        ]
    except DamagedError as error:  # so damaged that the check itself stops
        return [f"file: {error.found}"]


def _references(store: Store) -> list[str]:
    found = [
        line for row in store.database.pages("traces", "id, record") if (line := _changed(*row))
    ]
    found += [
        f"trace {child}: its parent {parent} is not stored"
        for child, parent in store.history.missing()
    ]
    for table, key, of in (
        ("drops", "id", "traces"),
        ("rows", "id", "traces"),
        ("uses", "key", "completions"),
    ):
        column = "id" if of == "traces" else "key"
        lost = store.database.read(
            f"SELECT {key}, arm FROM {table} WHERE {key} NOT IN (SELECT {column} FROM {of})"
        )
        found += [f"{table} of arm {arm}: {name} is not in {of}" for name, arm in lost]
    return found


def gc(
    store: Store, *, dry_run: bool = True, versions: Collection[str] = (), students: bool = False
) -> Gone:
    """Find what no arm needs, and delete it unless it is a dry run.

    An arm that was interrupted still holds all completions that its earlier runs needed. Traces, judgements and
    students are looked at only where every arm has come to its end, because an interrupted one's are known no more.

    Args:
        versions: today's verifiers, such as "math@2": verdicts by them are kept. Without any, all verdicts are.
        students: also the students and leftovers of trainings that no arm's rows name.
    """
    count, size = store.database.read(f"SELECT count(*), {_SIZE} {_UNUSED}")[0]
    arms = store.history.arms()
    ended = bool(arms) and all(arms.values())
    traces = store.database.read(f"SELECT count(*) {_STALE}")[0][0] if ended else 0
    verdicts = _superseded(store, versions) if ended and versions else []
    folders = _idle(store) if ended and students else []
    if not dry_run:
        with store.database.transaction() as connection:
            connection.execute(f"DELETE {_UNUSED}")
            if ended:
                connection.execute(f"DELETE {_STALE}")
            connection.executemany(
                "DELETE FROM judgements WHERE key = ?", [(key,) for key in verdicts]
            )
            # The entry goes first: a student whose folder is gone is trained again, one without an entry is not seen.
            connection.executemany(
                "DELETE FROM students WHERE stage = ?", [(folder.name,) for folder in folders]
            )
        for folder in folders:
            shutil.rmtree(folder)
    return Gone(count, size, not dry_run, traces, len(verdicts), len(folders))


def _superseded(store: Store, versions: Collection[str]) -> list[str]:
    """The keys of verdicts by verifiers that neither any arm's ledger names nor `versions`."""
    named = {*versions, *(name for (name,) in store.database.read(_NAMED) if name)}
    found = []
    for key, value in store.database.pages("judgements", "key, value"):
        if key.startswith("verdict-") and (verifier := _verifier(value)) and verifier not in named:
            found.append(key)
    return found


def _verifier(value: str | bytes) -> str:
    """Which verifier a stored verdict is by; "" for a judgement of another shape, which is then kept."""
    try:
        return str(json.loads(value)["verdict"][3])
    except (ValueError, KeyError, TypeError, IndexError):
        return ""


def _idle(store: Store) -> list[Path]:
    """The folders of students that no arm's rows name, unfinished ones among them; links are left alone."""
    used = {stage for (stage,) in store.database.read("SELECT DISTINCT stage FROM rows")}
    kept = {student.folder.resolve() for student in store.students.all() if student.stage in used}
    folders = sorted((store.folder / "students").glob("*"))
    return [
        folder
        for folder in folders
        if folder.is_dir()
        and not folder.is_symlink()
        and folder.name not in used
        and folder.resolve() not in kept
    ]


def _changed(id: str, record: str) -> str:
    try:
        trace = from_json(record)
    except (StoreError, ValueError) as error:
        return f"trace {id}: {str(error).splitlines()[0]}"
    return "" if trace.id == id else f"trace {id}: its record is that of {trace.id}"
