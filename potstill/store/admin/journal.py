"""The journal of a run: every call a model was asked for, whatever came of it, with what the verifiers said of it.

Read from the tables of completions and attempts; verdicts stand at the traces that the completions became, and are
found by their author: model, digest of the prompt, settings, draw.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from potstill.data.trace_json import to_prompt
from potstill.models.model import FAILURES, Attempt
from potstill.records import Tokens, canonical, digest, split_reasoning
from potstill.store.attempts import Tried
from potstill.store.completions import Stored
from potstill.store.store import Store

_PORTION = 500
_AUTHORS = """
    CREATE TEMP TABLE IF NOT EXISTS authors AS
    SELECT json_extract(record, '$.author') AS author, id FROM traces
    WHERE json_extract(record, '$.author') IS NOT NULL"""


VERDICTS = ("right", "wrong", "unparsed", "unjudged")
ENDINGS = ("stop", "length", "error")


class Judged(NamedTuple):
    """A trace that the completion became, in an arm, and what was said of it there; "" where nothing was."""

    arm: str
    trace: str
    operator: str
    status: str
    answer: str | None
    reason: str
    verifier: str


@dataclass(slots=True)
class Entry:
    """One call: for whom, what was asked (`payload`), what came, how it ended, what it used and cost, its verdicts.

    `number` counts the calls of one key from 1; the last one is the completion, `kept`, unless none came.
    """

    key: str
    number: int
    kept: bool
    arm: str
    role: str
    model: str
    served: str
    payload: dict[str, Any]
    reasoning: str
    reply: str
    finish: str
    error: str
    tokens: dict[str, int]
    cost: float | None
    seconds: float
    created: float
    verdicts: list[Judged] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return {
            **dataclasses.asdict(self),
            "verdicts": [judged._asdict() for judged in self.verdicts],
        }

    @property
    def statuses(self) -> set[str]:
        """What the entry can be asked for by: verdicts, "length" or "stop", "error" and the kind of error."""
        failed = {"error", self.error.split(":")[0]} if self.error else set()
        return (
            {judged.status for judged in self.verdicts if judged.status}
            | {self.finish or "error"}
            | failed
        )


def entries(store: Store, *, arm: str = "", status: str = "") -> Iterator[Entry]:
    """The journal in the order of writing: what an arm paid for or needed, or all; of a status, or all.

    Attempts whose completion is not here, such as the calls of a killed process, come last and have no payload.
    """
    used = _used(store, arm)
    portion: list[Stored] = []
    for stored in store.completions.all():
        if not arm or stored.arm == arm or stored.key in used:
            portion.append(stored)
        if len(portion) == _PORTION:
            yield from _chosen(_told(store, portion, arm), status)
            portion = []
    yield from _chosen(_told(store, portion, arm), status)
    yield from _chosen(_orphans(store, arm), status)


def statuses(store: Store) -> list[str]:
    """All that the journal of this store can be asked for by: verdicts, endings, kinds of errors, known or stored."""
    kinds: list[str] = []
    for table in ("completions", "attempts"):
        sql = f"SELECT DISTINCT substr(error, 1, instr(error || ':', ':') - 1) FROM {table} WHERE error != ''"
        kinds += [kind for (kind,) in store.database.read(sql)]
    return list(dict.fromkeys([*VERDICTS, *ENDINGS, *FAILURES, *sorted(kinds)]))


def _chosen(found: Iterator[Entry], status: str) -> Iterator[Entry]:
    return (entry for entry in found if not status or status in entry.statuses)


def _used(store: Store, arm: str) -> set[str]:
    return (
        {key for (key,) in store.database.read("SELECT key FROM uses WHERE arm = ?", (arm,))}
        if arm
        else set()
    )


def _told(store: Store, portion: Sequence[Stored], arm: str) -> Iterator[Entry]:
    tries = store.attempts.of([stored.key for stored in portion])
    judged = _judged(store, portion, arm)
    for stored in portion:
        asked = json.loads(stored.payload)
        before = tries.get(stored.key, [])
        yield from (_tried(tried, asked) for tried in before)
        done = stored.completion
        yield Entry(
            stored.key,
            len(before) + 1,
            True,
            stored.arm,
            stored.role,
            stored.model,
            done.served,
            asked,
            *split_reasoning(done.text),
            done.finish,
            done.error,
            done.tokens._asdict(),
            done.cost,
            done.seconds,
            stored.created,
            judged.get(stored.key, []),
        )


def _orphans(store: Store, arm: str) -> Iterator[Entry]:
    sql = "SELECT DISTINCT key FROM attempts WHERE key NOT IN (SELECT key FROM completions) AND ? IN ('', arm)"
    keys = [key for (key,) in store.database.read(sql, (arm,))]
    for tried in store.attempts.of(keys).values():
        yield from (_tried(one, {}) for one in tried)


def _tried(tried: Tried, asked: dict[str, Any]) -> Entry:
    one: Attempt = tried.attempt
    tokens: Tokens = one.tokens
    return Entry(
        tried.key,
        tried.number,
        False,
        tried.arm,
        tried.role,
        tried.model,
        "",
        asked,
        *split_reasoning(one.text),
        "",
        one.error,
        tokens._asdict(),
        one.cost,
        one.seconds,
        tried.created,
    )


def _judged(store: Store, portion: Sequence[Stored], arm: str) -> dict[str, list[Judged]]:
    """What was said of the traces that these completions became, by key."""
    _index(store)
    authors: dict[str, list[Stored]] = {}
    for stored in portion:
        authors.setdefault(_author(stored), []).append(stored)
    rows = store.database.among(
        "SELECT author, id FROM temp.authors WHERE author IN ({})", list(authors)
    )
    ids = dict.fromkeys(id for _, id in rows)
    records = {
        id: json.loads(record)
        for id, record in store.database.among(
            "SELECT id, record FROM traces WHERE id IN ({})", list(ids)
        )
    }
    notes: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    sql = "SELECT id, arm, notes FROM made WHERE ? IN ('', arm) AND id IN ({})"
    for id, of, said in store.database.among(sql, list(ids), [arm]):
        notes.setdefault(id, []).append((of, json.loads(said)))
    found: dict[str, list[Judged]] = {}
    for author, id in rows:
        for stored in _writers(authors[author], records[id]):
            found.setdefault(stored.key, []).extend(
                _verdict(of, records[id], said) for of, said in notes.get(id, ())
            )
    return found


def _index(store: Store) -> None:
    """A table in memory or a temporary file, from authors to traces; the store itself is not written to."""
    if not store.database.read("SELECT 1 FROM sqlite_temp_master WHERE name = 'authors'"):
        store.database.read(_AUTHORS)
        store.database.read("CREATE INDEX temp.authors_by_author ON authors (author)")


def _author(stored: Stored) -> str:
    """The author of a trace that this completion became, as the trace's record has it."""
    asked = json.loads(stored.payload)
    shown = digest("prompt", to_prompt(asked["prompt"]))
    return canonical([stored.model, shown, asked["settings"], asked["draw"]])


def _writers(same: Sequence[Stored], record: dict[str, Any]) -> Sequence[Stored]:
    """Which of the completions of one author became the trace.

    They differ in the text that was given: those whose own text the trace ends on; else all, because a truncated answer
    and its continuation are one trace.
    """
    text: str = record["text"]
    whole = [stored for stored in same if text[record["given"] :] == stored.completion.text]
    return whole or same


def _verdict(arm: str, record: dict[str, Any], notes: dict[str, Any]) -> Judged:
    status, answer, reason, verifier = notes.get("verdict") or ("", None, "", "")
    return Judged(arm, record["id"], record["operator"], status, answer, reason, verifier)
