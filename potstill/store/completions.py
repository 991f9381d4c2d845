"""What models wrote, under the key of what they were asked; and which arm needed which of it."""

from __future__ import annotations

import array
import json
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

from potstill.models.keys import payload
from potstill.models.model import Completion, Request
from potstill.records import Tokens, digest
from potstill.store import attempts
from potstill.store.admin import salvage
from potstill.store.database import DamagedError, Database, from_column, rescued, to_column

_COLUMNS = (
    "key, role, arm, model, payload, draw, text, finish, error, prompt_tokens, completion_tokens, cached_tokens, "
    "reasoning_tokens, seconds, created, logprobs, cost, served, tries, paid, sum"
)
_INSERT = f"INTO completions ({_COLUMNS}) VALUES ({','.join('?' * 21)})"
_GENERATION = "(SELECT coalesce(max(generation), 0) FROM arms WHERE arm = ?)"
_USE = (
    "INSERT INTO uses VALUES (?, ?, ?, ?) "
    "ON CONFLICT (arm, role, key) DO UPDATE SET generation = excluded.generation"
)
_ANSWERS = """
    SELECT key, text, finish, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, error, seconds,
        logprobs, cost, served, sum
    FROM completions WHERE key IN ({})"""
# The list as one JSON value: a statement that is prepared once, and only what is missing comes back.
_UNSETTLED = "SELECT j.value FROM json_each(?) j WHERE NOT EXISTS (SELECT 1 FROM completions c WHERE c.key = j.value{})"
_LOOKED_UP = 5000
_USAGE = f"""
    SELECT u.role, count(*), sum(c.arm != u.arm OR c.role != u.role), sum(c.prompt_tokens), sum(c.completion_tokens),
        sum(c.seconds), sum(c.error != ''), coalesce(sum(c.cost), 0.0)
    FROM uses u JOIN completions c ON c.key = u.key
    WHERE u.arm = ? AND u.generation = {_GENERATION} GROUP BY u.role ORDER BY u.role"""


class Stored(NamedTuple):
    """One completion as it is kept; `payload` is the canonical JSON of what was asked.

    Its `completion` has no `tries`: those are attempts of the same key, `tries` says how many. `paid` is whether this
    store paid for it; an imported one was paid elsewhere. `sound` is whether the text is the one that was written.
    """

    key: str
    role: str
    arm: str
    model: str
    payload: str
    draw: int
    completion: Completion
    created: float
    tries: int = 0
    paid: bool = True
    sound: bool = True

    def rehashed(self) -> str:
        """The key that the stored payload has now; another one than `key` means damage."""
        asked = json.loads(self.payload)
        parts = [asked[name] for name in ("prompt", "prefix", "settings", "seed", "draw")]
        return digest("completion", [self.model, *parts])


@final
class Completions:
    """The table of completions. Every `put` is one transaction, so a batch is there as a whole or not at all."""

    def __init__(self, database: Database) -> None:
        """Read and write through this connection."""
        self._database = database

    def get(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there."""
        rows = self._database.among(_ANSWERS, keys)
        for key, text, *_, error, _, logprobs, _, _, kept in rows:
            if kept is not None and kept != _sum(text, error, logprobs):
                raise DamagedError(
                    f"{self._database.path} is damaged: the text of completion {key} is not the one that was written",
                    expected="the bytes that a model wrote",
                    fix=rescued(self._database.path.parent),
                )
        return {row[0]: _answered(row) for row in rows}

    def unsettled(
        self, keys: Sequence[str], *, errors: bool = False, cut: bool = False
    ) -> set[str]:
        """Those of the keys without a stored completion; with `errors` also failures, with `cut` also truncated ones.

        Reads no text, so that a long run finds its first new request before it has read everything old.
        """
        sql = _UNSETTLED.format(
            (" AND c.error = ''" if errors else "") + (" AND c.finish != 'length'" if cut else "")
        )
        parts = (keys[start : start + _LOOKED_UP] for start in range(0, len(keys), _LOOKED_UP))
        return {key for part in parts for (key,) in self._database.read(sql, (json.dumps(part),))}

    def put(
        self,
        model: str,
        role: str,
        arm: str,
        written: Sequence[tuple[Request, Completion]],
        keys: Sequence[str] = (),
    ) -> None:
        """Keep one batch and that this arm's role needed it; in the same transaction its tries, and no intent is left.

        `cost` is kept as it stands in the completion: settle it first. A failure that was stored under a key and asked
        again becomes an attempt. `keys` are the requests' keys, where the caller has them.
        """
        now = time.time()
        keys = keys or [request.key(model) for request, _ in written]
        rows = [
            Stored(
                key,
                role,
                arm,
                model,
                payload(request, request.seed),
                request.draw,
                done,
                now,
                len(done.tries),
            )
            for key, (request, done) in zip(keys, written, strict=True)
        ]
        with self._database.transaction() as connection:
            attempts.replaced(connection, keys)
            attempts.write(
                connection, model, role, arm, [(s.key, t) for s in rows for t in s.completion.tries]
            )
            attempts.settled(connection, keys)
            connection.executemany(
                f"INSERT OR REPLACE {_INSERT}", [_row(stored) for stored in rows]
            )
            _use(connection, arm, role, keys)

    def need(self, arm: str, role: str, keys: Sequence[str]) -> None:
        """Enter that this arm's role needed these stored completions, whoever paid for them."""
        if keys and not self._database.readonly:
            with self._database.transaction() as connection:
                _use(connection, arm, role, keys)

    def add(self, rows: Sequence[Stored]) -> int:
        """Take completions as they are and return how many were new; what is already here stays as it is."""
        with self._database.transaction() as connection:
            before = connection.total_changes
            connection.executemany(f"INSERT OR IGNORE {_INSERT}", [_row(stored) for stored in rows])
            return connection.total_changes - before

    def all(self) -> Iterator[Stored]:
        """Every stored completion in the order of writing."""
        return (_stored(row) for row in self._database.pages("completions", _COLUMNS))

    def readable(self) -> Iterator[Stored]:
        """Every completion that can still be read, in the order of writing, around damaged pages."""
        return (_stored(row) for row in salvage.rows(self._database, _COLUMNS))

    def usage(self, arm: str) -> dict[str, dict[str, float]]:
        """What an arm needed, by role: calls, reused, prompt_tokens, completion_tokens, seconds, errors, cost.

        Computed from what is stored, so a fast-forwarded run shows the same costs as the run that paid. `reused` are
        the calls that another arm or role had paid first; tokens, seconds and money count all calls. What was lost in
        tries before them is no part of it, so that it does not depend on a kill: see `Attempts.spent`.
        """
        names = (
            "calls",
            "reused",
            "prompt_tokens",
            "completion_tokens",
            "seconds",
            "errors",
            "cost",
        )
        return {
            row[0]: dict(zip(names, row[1:], strict=True))
            for row in self._database.read(_USAGE, (arm, arm))
        }


def _use(connection: sqlite3.Connection, arm: str, role: str, keys: Sequence[str]) -> None:
    (generation,) = connection.execute(f"SELECT {_GENERATION}", (arm,)).fetchone()
    connection.executemany(_USE, [(arm, role, key, generation) for key in keys])


def _row(stored: Stored) -> tuple[Any, ...]:
    done = stored.completion
    text, error, logprobs = to_column(done.text), to_column(done.error), _packed(done.logprobs)
    return (
        *stored[:6],
        text,
        done.finish,
        error,
        *done.tokens,
        done.seconds,
        stored.created,
        logprobs,
        done.cost,
        to_column(done.served),
        stored.tries,
        stored.paid,
        _sum(text, error, logprobs),
    )


def _sum(text: str | bytes, error: str | bytes, logprobs: bytes) -> int:
    """A checksum of what was written: SQLite has none, and a page of a long text may go wrong unseen."""
    found = zlib.crc32(text.encode() if isinstance(text, str) else text)
    return zlib.crc32(
        logprobs, zlib.crc32(error.encode() if isinstance(error, str) else error, found)
    )


def _answered(row: tuple[Any, ...]) -> Completion:
    (
        _,
        text,
        finish,
        prompt,
        completion,
        cached,
        reasoning,
        error,
        seconds,
        logprobs,
        cost,
        served,
        _,
    ) = row
    return Completion(
        text if type(text) is str else from_column(text),
        finish,
        Tokens(prompt, completion, cached, reasoning),
        from_column(error) if error else "",
        seconds,
        _unpacked(logprobs) if logprobs else (),
        cost,
        served=from_column(served) if served else "",
    )


def _stored(row: tuple[Any, ...]) -> Stored:
    key, role, arm, model, asked, draw, text, finish, error = row[:9]
    seconds, created, logprobs, cost, served, tries, paid, kept = row[13:]
    sound = kept is None or kept == _sum(text, error, logprobs)
    completion = Completion(
        from_column(text),
        finish,
        Tokens(*row[9:13]),
        from_column(error),
        seconds,
        _unpacked(logprobs),
        cost,
        served=from_column(served),
    )
    return Stored(key, role, arm, model, asked, draw, completion, created, tries, bool(paid), sound)


def _packed(logprobs: Sequence[float]) -> bytes:
    """Eight bytes a number, the small end first: exact, and a third of what JSON takes."""
    if not logprobs:
        return b""
    values = array.array("d", logprobs)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _unpacked(packed: bytes) -> tuple[float, ...]:
    if not packed:
        return ()
    values = array.array("d", packed)
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)
