"""The journal of a run: every call a model was asked for, whatever came of it, with what the verifiers said of it.

Read from the tables of completions and attempts. Verdicts stand at the traces that the completions became; a trace is
found by its author, which is model, digest of the prompt, settings and draw.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from potstill.data.trace_json import prefix_length_of, to_prompt
from potstill.models.model import FAILURES
from potstill.records import canonical, digest, split_reasoning
from potstill.store.attempts import StoredAttempt
from potstill.store.completions import StoredCompletion, sample_index_of
from potstill.store.store import Store

VERDICTS = ("right", "wrong", "unparsed", "unjudged")
ENDINGS = ("stop", "stop_string", "length", "error")

_COMPLETIONS_AT_ONCE = 500
_AUTHORS = """
    CREATE TEMP TABLE IF NOT EXISTS authors AS
    SELECT json_extract(record, '$.author') AS author, id FROM traces
    WHERE json_extract(record, '$.author') IS NOT NULL"""


class EntryVerdict(NamedTuple):
    """A trace that the completion became, in an arm, and what was said of it there; "" where nothing was."""

    arm: str
    trace: str
    operator: str
    status: str
    answer: str | None
    reason: str
    verifier: str


@dataclass(slots=True, kw_only=True)
class Entry:
    """One call: for whom, what was asked (`payload`), what came, how it ended, what it used and cost, its verdicts.

    `number` counts the calls of one key from 1; the last one `is_completion`, unless none came.
    """

    key: str
    number: int
    is_completion: bool
    arm: str
    role: str
    model: str
    served: str
    payload: dict[str, Any]
    reasoning: str
    reply: str
    finish_reason: str
    error: str
    tokens: dict[str, int]
    cost: float | None
    seconds: float
    created: float
    verdicts: list[EntryVerdict] = field(default_factory=list)

    def to_json_dict(self) -> dict[str, Any]:
        """The entry as JSON values."""
        values = dataclasses.asdict(self)
        values["verdicts"] = [verdict._asdict() for verdict in self.verdicts]
        return values

    @property
    def is_scoring(self) -> bool:
        """Whether log-probabilities of the text in `prefix` were asked for, and no text."""
        return ["score", True] in self.payload.get("settings", [])

    @property
    def statuses(self) -> set[str]:
        """What the entry can be asked for by: verdicts, how it ended, "error" and the kind of error."""
        statuses = {verdict.status for verdict in self.verdicts if verdict.status}
        statuses.add(self.finish_reason or "error")
        if self.error:
            error_kind = self.error.split(":")[0]
            statuses |= {"error", error_kind}
        return statuses


def read_entries(store: Store, *, arm: str = "", status: str = "") -> Iterator[Entry]:
    """The journal in the order of writing: what an arm paid for or needed, or all; of a status, or all.

    Attempts whose completion is not here, such as the calls of a killed process, come last and have no payload.
    """
    for entry in _all_entries(store, arm):
        if not status or status in entry.statuses:
            yield entry


def list_statuses(store: Store) -> list[str]:
    """All that the journal of this store can be asked for by: verdicts, endings, kinds of errors, known or stored."""
    error_kinds: list[str] = []
    for table in ("completions", "attempts"):
        sql = f"SELECT DISTINCT substr(error, 1, instr(error || ':', ':') - 1) FROM {table} WHERE error != ''"
        error_kinds += [kind for (kind,) in store.database.read(sql)]
    statuses = [*VERDICTS, *ENDINGS, *FAILURES, *sorted(error_kinds)]
    return list(dict.fromkeys(statuses))


def _all_entries(store: Store, arm: str) -> Iterator[Entry]:
    used_keys: set[str] = set()
    if arm:
        rows = store.database.read("SELECT key FROM uses WHERE arm = ?", (arm,))
        used_keys = {key for (key,) in rows}
    part: list[StoredCompletion] = []
    for stored in store.completions.iterate():
        if not arm or stored.arm == arm or stored.key in used_keys:
            part.append(stored)
        if len(part) == _COMPLETIONS_AT_ONCE:
            yield from _entries_of(store, part, arm)
            part = []
    yield from _entries_of(store, part, arm)
    yield from _attempts_without_completion(store, arm)


def _entries_of(store: Store, part: Sequence[StoredCompletion], arm: str) -> Iterator[Entry]:
    """The entries of these completions, each after those of its attempts."""
    # All tries and verdicts of the part at once, not a SELECT a completion.
    attempts = store.attempts.by_key([stored.key for stored in part])
    verdicts = _verdicts_by_key(store, part, arm)
    for stored in part:
        payload = json.loads(stored.payload)
        earlier_attempts = attempts.get(stored.key, [])
        for attempt in earlier_attempts:
            yield _attempt_entry(attempt, payload)
        completion = stored.completion
        reasoning, reply = split_reasoning(completion.text)
        yield Entry(
            key=stored.key,
            number=len(earlier_attempts) + 1,
            is_completion=True,
            arm=stored.arm,
            role=stored.role,
            model=stored.model,
            served=completion.served,
            payload=payload,
            reasoning=reasoning,
            reply=reply,
            finish_reason=completion.finish_reason,
            error=completion.error,
            tokens=completion.tokens._asdict(),
            cost=completion.cost,
            seconds=completion.seconds,
            created=stored.created,
            verdicts=verdicts.get(stored.key, []),
        )


def _attempts_without_completion(store: Store, arm: str) -> Iterator[Entry]:
    sql = "SELECT DISTINCT key FROM attempts WHERE key NOT IN (SELECT key FROM completions) AND ? IN ('', arm)"
    keys = [key for (key,) in store.database.read(sql, (arm,))]
    for attempts in store.attempts.by_key(keys).values():
        for attempt in attempts:
            yield _attempt_entry(attempt, payload={})


def _attempt_entry(stored: StoredAttempt, payload: dict[str, Any]) -> Entry:
    attempt = stored.attempt
    # What had come before the connection broke, if anything.
    reasoning, reply = split_reasoning(attempt.text)
    return Entry(
        key=stored.key,
        number=stored.number,
        is_completion=False,
        arm=stored.arm,
        role=stored.role,
        model=stored.model,
        served="",
        payload=payload,
        reasoning=reasoning,
        reply=reply,
        finish_reason="",
        error=attempt.error,
        tokens=attempt.tokens._asdict(),
        cost=attempt.cost,
        seconds=attempt.seconds,
        created=stored.created,
    )


def _verdicts_by_key(
    store: Store, part: Sequence[StoredCompletion], arm: str
) -> dict[str, list[EntryVerdict]]:
    """By completion key, what was said of the traces that these completions became."""
    _create_author_index(store)
    by_author: dict[str, list[StoredCompletion]] = {}
    for stored in part:
        by_author.setdefault(_author_json(stored), []).append(stored)

    # The traces by these authors, their records, and what each arm noted of them.
    sql = "SELECT author, id FROM temp.authors WHERE author IN ({})"
    authors_and_traces = store.database.read_by_keys(sql, list(by_author))
    trace_ids = list(dict.fromkeys(trace_id for _, trace_id in authors_and_traces))
    records: dict[str, dict[str, Any]] = {}
    sql = "SELECT id, record FROM traces WHERE id IN ({})"
    for trace_id, record in store.database.read_by_keys(sql, trace_ids):
        records[trace_id] = json.loads(record)
    notes: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    sql = "SELECT id, arm, notes FROM made WHERE ? IN ('', arm) AND id IN ({})"
    for trace_id, noting_arm, text in store.database.read_by_keys(sql, trace_ids, [arm]):
        notes.setdefault(trace_id, []).append((noting_arm, json.loads(text)))

    # Give each trace's verdicts to the completions that it came from.
    verdicts: dict[str, list[EntryVerdict]] = {}
    for author, trace_id in authors_and_traces:
        for stored in _sources_of_trace(by_author[author], records[trace_id]):
            entry_verdicts = verdicts.setdefault(stored.key, [])
            for noting_arm, arm_notes in notes.get(trace_id, ()):
                entry_verdicts.append(_entry_verdict(noting_arm, records[trace_id], arm_notes))
    return verdicts


def _create_author_index(store: Store) -> None:
    """Make a table in memory or a temporary file, from authors to traces; the store itself is not written to."""
    if not store.database.read("SELECT 1 FROM sqlite_temp_master WHERE name = 'authors'"):
        # Traces have no index by author: one pass over all of them, once a connection.
        store.database.read(_AUTHORS)
        store.database.read("CREATE INDEX temp.authors_by_author ON authors (author)")


def _author_json(stored: StoredCompletion) -> str:
    """The author of a trace that this completion became, as the trace's record has it."""
    payload = json.loads(stored.payload)
    prompt_digest = digest("prompt", to_prompt(payload["prompt"]), scheme=stored.scheme)
    return canonical([stored.model, prompt_digest, payload["settings"], sample_index_of(payload)])


def _sources_of_trace(
    candidates: Sequence[StoredCompletion], record: Mapping[str, Any]
) -> Sequence[StoredCompletion]:
    """Which of the completions of one author became the trace.

    They differ in the text that they continue: those whose own text the trace ends on; else all, because a truncated
    answer and its continuation are one trace.
    """
    new_text = record["text"][prefix_length_of(record) :]
    sources = [stored for stored in candidates if stored.completion.text == new_text]
    return sources or candidates


def _entry_verdict(arm: str, record: Mapping[str, Any], notes: Mapping[str, Any]) -> EntryVerdict:
    status, answer, reason, verifier = notes.get("verdict") or ("", None, "", "")
    return EntryVerdict(
        arm=arm,
        trace=record["id"],
        operator=record["operator"],
        status=status,
        answer=answer,
        reason=reason,
        verifier=verifier,
    )
