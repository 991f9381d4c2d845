"""Looking after a store: what is in it and what it cost, whether it is sound, and what nobody needs any more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data.trace_json import from_json
from potstill.errors import InputError, StoreError
from potstill.models.phase import split_account
from potstill.store.admin import parquet
from potstill.store.admin.transfer import describe_damage
from potstill.store.database import DamagedError
from potstill.store.store import Store

_UNUSED_COMPLETIONS = "FROM completions WHERE key NOT IN (SELECT key FROM uses)"
_SIZE = "coalesce(sum(length(payload) + length(CAST(text AS BLOB))), 0)"
_STALE_TRACES = "FROM traces WHERE id NOT IN (SELECT id FROM made)"
_VERIFIERS_OF_NOTES = "SELECT DISTINCT json_extract(notes, '$.verdict[3]') FROM made"

# What is counted, by its name in the statistics; the table of verdicts has kept its first name.
_COUNTED_TABLES = {
    "completions": "completions",
    "attempts": "attempts",
    "intents": "intents",
    "verdicts": "judgements",
    "traces": "traces",
    "drops": "drops",
    "students": "students",
}

_PAID = """
    SELECT arm, role, model, count(*), sum(error != ''), sum(prompt_tokens), sum(completion_tokens),
        coalesce(sum(cost), 0.0), sum(seconds)
    FROM completions GROUP BY arm, role, model ORDER BY 1, 2, 3"""
_PAID_FIELDS = (
    "arm",
    "role",
    "model",
    "completions",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "seconds",
)
_TRIED = """
    SELECT role, model, substr(error, 1, instr(error || ':', ':') - 1) AS kind, count(*), sum(billed),
        sum(prompt_tokens + completion_tokens), coalesce(sum(cost), 0.0)
    FROM attempts GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
_TRIED_FIELDS = ("role", "model", "failure", "attempts", "billed", "tokens", "cost")


class GcResult(NamedTuple):
    """What nobody needs, by number: completions with their bytes, traces, verdicts, students; whether it is deleted."""

    completions: int
    bytes: int
    deleted: bool
    traces: int = 0
    verdicts: int = 0
    students: int = 0


def store_stats(store: Store, specs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a store holds and what it cost.

    Entries by table, bytes on disk, completions by who asked first, attempts by role, model and kind of failure, what
    each role has spent (attempts and open calls included), and what is unused.

    Args:
        store: open, for reading is enough.
        specs: by role, what the run calls its model.
    """
    read = store.database.read
    stats: dict[str, Any] = {}
    for name, table in _COUNTED_TABLES.items():
        stats[name] = read(f"SELECT count(*) FROM {table}")[0][0]
    # Until SQLite folds its log into the file, much of the store lies in the log.
    path = store.database.path
    files = [path, path.with_name(f"{path.name}-wal")]
    stats["bytes"] = sum(file.stat().st_size for file in files if file.exists())
    model_names = _name_models(store, specs or {})
    stats["paid"] = [_named_row(model_names, _PAID_FIELDS, row) for row in read(_PAID)]
    stats["tried"] = [_named_row(model_names, _TRIED_FIELDS, row) for row in read(_TRIED)]
    stats["spent"] = {
        role: spent._asdict() for role, spent in store.attempts.spent_by_role().items()
    }
    unused, unused_bytes = read(f"SELECT count(*), {_SIZE} {_UNUSED_COMPLETIONS}")[0]
    stats["unused"], stats["unused_bytes"] = unused, unused_bytes
    stats["arms"] = store.history.arms()
    return stats


def _name_models(store: Store, specs: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """By role and model id, its name for people: the student's folder, the role's spec, or what its server calls it."""
    folders = {}
    for student in store.students.all():
        folders[student.model] = f"{student.folder.parent.name}/{student.folder.name}"
    sql = "SELECT role, model, max(served) FROM completions GROUP BY 1, 2 UNION SELECT role, model, '' FROM attempts"
    names: dict[tuple[str, str], str] = {}
    for role, model, served in store.database.read(sql):
        role_name, _ = split_account(role)
        if role == "evaluation":
            role_name = "student"  # as stores before potstill-3 called the student that is measured
        spec = specs.get(role_name, "")
        names[role, model] = folders.get(model) or spec or names.get((role, model)) or served
    return names


def _named_row(
    model_names: Mapping[tuple[str, str], str], fields: Sequence[str], values: Sequence[Any]
) -> dict[str, Any]:
    """A row of a table by its columns, with the model's name before its id."""
    columns = dict(zip(fields, values, strict=True))
    row: dict[str, Any] = {}
    for field, value in columns.items():
        if field == "model":
            row["name"] = model_names.get((columns["role"], value), "")
        row[field] = value
    return row


def check_store(store: Store) -> list[str]:
    """Everything that is wrong with a store, one sentence each; an empty list is a sound store.

    Checks the file itself, every completion's key and text and every trace's id against its content, that parents,
    dropped traces, trained rows and needed completions are there, and the Parquet files of the arms that ended.
    """
    problems = _check_file(store)
    # Around bad pages: `integrity_check` has named those, and the sound entries are still checked one by one.
    for stored in store.completions.iterate_readable():
        damage = describe_damage(stored)
        if damage:
            problems.append(damage)
    try:
        problems += _check_traces(store)
        problems += _check_references(store)
        problems += parquet.find_faults(store.database, store.folder)
    except (StoreError, InputError) as error:
        problems.append(error.found)
    return problems


def _check_file(store: Store) -> list[str]:
    try:
        lines = [line for (line,) in store.database.read("PRAGMA integrity_check")]
    except DamagedError as error:  # so damaged that the check itself stops
        lines = [error.found]
    return [f"file: {line}" for line in lines if line != "ok"]


def _check_traces(store: Store) -> list[str]:
    problems = []
    for trace_id, record in store.database.pages("traces", "id, record"):
        try:
            trace = from_json(record)
        except (StoreError, ValueError) as error:
            first_line = str(error).splitlines()[0]
            problems.append(f"trace {trace_id}: {first_line}")
            continue
        if trace.id != trace_id:
            problems.append(f"trace {trace_id}: its record is that of {trace.id}")
    for child, parent in store.history.missing_parents():
        problems.append(f"trace {child}: its parent {parent} is not stored")
    return problems


def _check_references(store: Store) -> list[str]:
    problems = []
    for table, target, column in (
        ("drops", "traces", "id"),
        ("rows", "traces", "id"),
        ("uses", "completions", "key"),
    ):
        sql = f"SELECT {column}, arm FROM {table} WHERE {column} NOT IN (SELECT {column} FROM {target})"
        for name, arm in store.database.read(sql):
            problems.append(f"{table} of arm {arm}: {name} is not in {target}")
    return problems


def collect_garbage(
    store: Store, *, dry_run: bool = True, versions: Collection[str] = (), students: bool = False
) -> GcResult:
    """Find what no arm needs, and delete it unless it is a dry run.

    An arm that was interrupted still holds all completions that its earlier runs needed. Traces, verdicts and
    students are looked at only where every arm has come to its end, because an interrupted one's are known no more.

    Args:
        store: open for writing, unless it is a dry run.
        dry_run: only count.
        versions: today's verifiers, such as "math@2": verdicts by them are kept. Without any, all verdicts are.
        students: also the students and leftovers of trainings that no arm's rows name.
    """
    read = store.database.read
    count, size = read(f"SELECT count(*), {_SIZE} {_UNUSED_COMPLETIONS}")[0]
    # An arm that was begun and has not ended may need anything that no ledger names yet.
    arms = store.history.arms()
    all_ended = bool(arms) and all(arms.values())
    trace_count = 0
    verdict_keys: list[str] = []
    folders: list[Path] = []
    if all_ended:
        trace_count = read(f"SELECT count(*) {_STALE_TRACES}")[0][0]
    if all_ended and versions:
        verdict_keys = _superseded_verdicts(store, versions)
    if all_ended and students:
        folders = _unused_student_folders(store)

    if not dry_run:
        with store.database.transaction() as connection:
            connection.execute(f"DELETE {_UNUSED_COMPLETIONS}")
            if all_ended:
                connection.execute(f"DELETE {_STALE_TRACES}")
            connection.executemany(
                "DELETE FROM judgements WHERE key = ?", [(key,) for key in verdict_keys]
            )
            # With a student go its notes of what its training asked: the next collection finds that unused.
            stages = [(folder.name,) for folder in folders]
            connection.executemany("DELETE FROM students WHERE stage = ?", stages)
            connection.executemany("DELETE FROM uses WHERE arm = ?", stages)
        # After the commit: killed in between, a folder without an entry is only a leftover, which is found again.
        for folder in folders:
            shutil.rmtree(folder)
    return GcResult(
        completions=count,
        bytes=size,
        deleted=not dry_run,
        traces=trace_count,
        verdicts=len(verdict_keys),
        students=len(folders),
    )


def _superseded_verdicts(store: Store, versions: Collection[str]) -> list[str]:
    """The keys of verdicts by verifiers that neither any arm's ledger names nor `versions`."""
    needed = set(versions)
    needed.update(name for (name,) in store.database.read(_VERIFIERS_OF_NOTES) if name)
    # What is no verdict has no verifier, and is kept.
    superseded = []
    for key, value in store.database.pages("judgements", "key, value"):
        if not key.startswith("verdict-"):
            continue
        verifier = _verifier_of(value)
        if verifier and verifier not in needed:
            superseded.append(key)
    return superseded


def _verifier_of(value: str | bytes) -> str:
    """Which verifier a stored verdict is by; "" for a value of another shape, which is then kept."""
    try:
        return str(json.loads(value)["verdict"][3])
    except (ValueError, KeyError, TypeError, IndexError):
        return ""


def _unused_student_folders(store: Store) -> list[Path]:
    """The folders of students that no arm's rows name, unfinished ones among them; links are left alone."""
    used_stages = {stage for (stage,) in store.database.read("SELECT DISTINCT stage FROM rows")}
    used_folders = set()
    for student in store.students.all():
        if student.stage in used_stages:
            used_folders.add(student.folder.resolve())
    unused = []
    for folder in sorted((store.folder / "students").glob("*")):
        if folder.is_symlink() or not folder.is_dir():
            continue
        if folder.name not in used_stages and folder.resolve() not in used_folders:
            unused.append(folder)
    return unused
