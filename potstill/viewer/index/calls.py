"""The third phase of the index: which completion became which trace, and what was used in each minute.

A trace names its author by model, digest of the prompt, settings and sample index. A completion has the prompt itself,
so its digest is computed here, once.
"""

from __future__ import annotations

import json

from potstill.data.trace_json import to_prompt
from potstill.records import digest
from potstill.store.database import Database, from_column

PORTION = 1000
LINKED_PORTION = 4000  # entries whose calls are looked up in one transaction
MINUTE = 60
COUNTED_ROWS = 20_000  # that are counted one by one: some milliseconds


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
        # A bare column beside max() is that of the row which has it: the name that was served last.
        database.read(
            """INSERT OR REPLACE INTO view.served
            SELECT model, served FROM (
                SELECT model, served, max(rowid) FROM completions
                WHERE rowid > ? AND rowid <= ? AND served != '' GROUP BY model)""",
            (done, last),
        )
        database.read("INSERT OR REPLACE INTO view.meta VALUES ('calls', ?)", (last,))
        return True


def link_next_entries(database: Database) -> bool:
    """Note beside the next entries which call they came from, and what it took; whether there were any.

    Runs after `index_next_calls`: a completion is stored before its trace, so an entry's call is there by now.
    """
    with database.attached_transaction():
        [(last,)] = database.read(
            "SELECT max(seq) FROM (SELECT seq FROM view.entries WHERE call IS NULL ORDER BY seq LIMIT ?)",
            (LINKED_PORTION,),
        )
        if last is None:
            return False
        # Calls of one author that differ in settings alone can't be told apart here: the first one counts.
        database.read(
            """UPDATE view.entries SET (call, seconds, cost, created) = (
                SELECT coalesce(min(c.place), 0), c.seconds, c.cost, c.created
                FROM view.calls c JOIN view.groups g ON g.number = entries."group" AND g.model = c.model
                WHERE c.prompt = entries.prompt AND c.draw = entries.draw)
            WHERE call IS NULL AND seq <= ?""",
            (last,),
        )
        return True


def served_name(database: Database, model: str) -> str:
    """What the server called a model when it last answered; "" where it never said."""
    rows = database.read("SELECT name FROM view.served WHERE model = ?", (model,))
    return from_column(rows[0][0]) if rows else ""


def forget_moved_calls(database: Database) -> None:
    """Begin anew where completions were deleted or replaced since they were read: their sums would be wrong."""
    with database.attached_transaction():
        # As many up to the place as were read up to there, unless some are gone or stand elsewhere. All are counted
        # by the index over keys, and those behind the place, which are few: up to it they lie among their texts.
        done = read_place(database)
        [(read,)] = database.read("SELECT coalesce(sum(calls), 0) FROM view.minutes")
        if not read:
            return
        [(total,)] = database.read("SELECT count(*) FROM completions")
        [(behind,)] = database.read("SELECT count(*) FROM completions WHERE rowid > ?", (done,))
        there = total - behind
        if read != there:
            for table in ("calls", "minutes", "served"):
                database.read(f"DELETE FROM view.{table}")
            database.read("UPDATE view.entries SET call = NULL")
            database.read("DELETE FROM view.meta WHERE name = 'calls'")


def read_place(database: Database) -> int:
    """The place of the last completion that was read; 0 before the first."""
    rows = database.read("SELECT value FROM view.meta WHERE name = 'calls'")
    return int(rows[0][0]) if rows else 0


def has_all_calls(database: Database) -> bool:
    """Whether every completion of the store was read."""
    [(last,)] = database.read("SELECT coalesce(max(rowid), 0) FROM completions")
    return bool(last == read_place(database))


def count_calls(database: Database) -> int:
    """How many completions the store has: those that the index knows, and those behind them."""
    done = read_place(database)
    [(last,)] = database.read("SELECT coalesce(max(rowid), 0) FROM completions")
    # Without an index, or far behind it, all are counted by their keys.
    if not done or last - done > COUNTED_ROWS:
        [(count,)] = database.read("SELECT count(*) FROM completions")
        return int(count)
    [(known,)] = database.read("SELECT coalesce(sum(calls), 0) FROM view.minutes")
    [(behind,)] = database.read("SELECT count(*) FROM completions WHERE rowid > ?", (done,))
    return int(known + behind)
