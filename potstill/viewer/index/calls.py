"""The third phase of the index: which completion became which trace, and what was used in each minute.

A trace names its author by model, digest of the prompt, settings and sample index. A completion has the prompt itself,
so its digest is computed here, once.
"""

from __future__ import annotations

import json

from potstill.data.trace_json import to_prompt
from potstill.records import digest
from potstill.store.database import Database

PORTION = 1000
MINUTE = 60


def add_functions(database: Database) -> None:
    """What the statements below need beside SQLite's own functions."""
    scheme = database.scheme

    def prompt_digest(payload: str) -> str:
        prompt = to_prompt(json.loads(payload)["prompt"])
        return digest("prompt", prompt, scheme=scheme).removeprefix("prompt-")

    database.create_function("prompt_digest", 1, prompt_digest)


def index_next_calls(database: Database) -> bool:
    """Read the next completions; whether there were any."""
    with database.attached_transaction():
        done = read_place(database)
        [(last,)] = database.read(
            "SELECT max(place) FROM (SELECT rowid AS place FROM completions WHERE rowid > ? ORDER BY rowid LIMIT ?)",
            (done, PORTION),
        )
        if last is None:
            return False
        # One row a completion, so that a trace finds the call that wrote it.
        database.read(
            """INSERT OR REPLACE INTO view.calls
            SELECT rowid, key, prompt_digest(payload), draw, model, seconds, cost, created
            FROM completions WHERE rowid > ? AND rowid <= ?""",
            (done, last),
        )
        # And sums by minute: a chart over a million calls reads some thousands of rows.
        database.read(
            f"""INSERT INTO view.minutes
            SELECT CAST(created / {MINUTE} AS INTEGER), arm, role, model, count(*), sum(error != ''),
                sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(reasoning_tokens),
                sum(coalesce(cost, 0.0)), sum(seconds), sum((prompt_tokens + completion_tokens) * paid),
                sum(coalesce(cost, 0.0) * paid)
            FROM completions WHERE rowid > ? AND rowid <= ? GROUP BY 1, 2, 3, 4
            ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, errors = errors + excluded.errors,
                prompt_tokens = prompt_tokens + excluded.prompt_tokens,
                completion_tokens = completion_tokens + excluded.completion_tokens,
                cached_tokens = cached_tokens + excluded.cached_tokens,
                reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
                cost = cost + excluded.cost, seconds = seconds + excluded.seconds,
                paid_tokens = paid_tokens + excluded.paid_tokens, paid_cost = paid_cost + excluded.paid_cost""",
            (done, last),
        )
        database.read("INSERT OR REPLACE INTO view.meta VALUES ('calls', ?)", (last,))
        return True


def forget_moved_calls(database: Database) -> None:
    """Begin anew where completions were deleted or replaced since they were read: their sums would be wrong."""
    with database.attached_transaction():
        # As many up to the place as were read up to there, unless some are gone or stand elsewhere.
        done = read_place(database)
        [(read,)] = database.read("SELECT count(*) FROM view.calls")
        [(there,)] = database.read("SELECT count(*) FROM completions WHERE rowid <= ?", (done,))
        if read != there:
            for table in ("calls", "minutes"):
                database.read(f"DELETE FROM view.{table}")
            database.read("DELETE FROM view.meta WHERE name = 'calls'")


def read_place(database: Database) -> int:
    """The place of the last completion that was read; 0 before the first."""
    rows = database.read("SELECT value FROM view.meta WHERE name = 'calls'")
    return int(rows[0][0]) if rows else 0


def has_all_calls(database: Database) -> bool:
    """Whether every completion of the store was read."""
    [(last,)] = database.read("SELECT coalesce(max(rowid), 0) FROM completions")
    return bool(last == read_place(database))
