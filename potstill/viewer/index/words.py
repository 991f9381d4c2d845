"""The second phase of the index: the words of texts and questions, 1,000 traces in a transaction, and how far it is."""

from __future__ import annotations

from potstill.store.database import Database

PORTION = 1000
# SQLite's JSON ends a text at this escape, and a model may write one.
NUL_ESCAPE = "\\u0000"


def has_words(database: Database) -> bool:
    """Whether words can be looked for: this SQLite has FTS5."""
    return bool(database.read("SELECT 1 FROM view.sqlite_master WHERE name = 'words'"))


def index_next_words(database: Database) -> bool:
    """Read the words of the next traces; whether there were any."""
    if not has_words(database):
        return False
    with database.attached_transaction():
        done = _read_place(database)
        [(last,)] = database.read(
            "SELECT max(number) FROM (SELECT number FROM view.ids WHERE number > ? ORDER BY number LIMIT ?)",
            (done, PORTION),
        )
        if last is None:
            return False
        # What is named as a parent and is in no ledger has no text.
        database.read(
            """INSERT INTO view.words (rowid, text, question)
            SELECT number, json_extract(record, '$.text'), json_extract(record, '$.problem.question') FROM (
                SELECT i.number AS number, replace(t.record, ?, ' ') AS record
                FROM view.ids i JOIN traces t ON t.id = i.id WHERE i.number > ? AND i.number <= ?)""",
            (NUL_ESCAPE, done, last),
        )
        database.read("INSERT OR REPLACE INTO view.meta VALUES ('words', ?)", (last,))
        return True


def share_indexed(database: Database) -> float:
    """The share of the known traces whose words are there, from 0 to 1."""
    [(total,)] = database.read("SELECT coalesce(max(number), 0) FROM view.ids")
    return min(1.0, _read_place(database) / total) if total else 1.0


def _read_place(database: Database) -> int:
    rows = database.read("SELECT value FROM view.meta WHERE name = 'words'")
    return int(rows[0][0]) if rows else 0
