"""What models wrote, under the key of what they were asked; and which arm needed which of it."""

from __future__ import annotations

import array
import itertools
import json
import sqlite3
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

from potstill.models.model import Completion, Request, request_json
from potstill.records import SCHEME, Tokens, canonical, digest
from potstill.store import attempts
from potstill.store.admin import salvage
from potstill.store.database import (
    DamagedError,
    Database,
    from_column,
    rescue_command,
    to_column,
)

_COLUMNS = (
    "key, role, arm, model, payload, draw, text, finish, error, prompt_tokens, completion_tokens, cached_tokens, "
    "reasoning_tokens, seconds, created, logprobs, cost, served, tries, paid, sum, stop_string"
)
_INSERT = f"INTO completions ({_COLUMNS}) VALUES ({','.join('?' * 22)})"
_GENERATION = "(SELECT coalesce(max(generation), 0) FROM arms WHERE arm = ?)"
_USE = (
    "INSERT INTO uses VALUES (?, ?, ?, ?) "
    "ON CONFLICT (arm, role, key) DO UPDATE SET generation = excluded.generation"
)
_ANSWERS = """
    SELECT key, text, finish, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, error, seconds,
        logprobs, cost, served, stop_string, sum
    FROM completions WHERE key IN ({})"""
# The list as one JSON value: a statement that is prepared once, and only what is missing comes back.
_UNFINISHED = """
    SELECT j.value FROM json_each(?) j
    WHERE NOT EXISTS (SELECT 1 FROM completions c WHERE c.key = j.value{})"""
_LOOKUP_KEYS = 5000  # in one such list
_USAGE = f"""
    SELECT u.role, count(*), sum(c.arm != u.arm OR c.role != u.role), sum(c.prompt_tokens), sum(c.completion_tokens),
        sum(c.seconds), sum(c.error != ''), coalesce(sum(c.cost), 0.0)
    FROM uses u JOIN completions c ON c.key = u.key
    WHERE u.arm = ? AND u.generation = {_GENERATION} GROUP BY u.role ORDER BY u.role"""
_CUT = f"""
    SELECT u.role, count(*) FROM uses u JOIN completions c ON c.key = u.key
    WHERE u.arm = ? AND u.generation = {_GENERATION} AND c.finish = 'length' GROUP BY u.role"""
_USAGE_FIELDS = (
    "calls",
    "reused",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "errors",
    "cost",
)


class StoredCompletion(NamedTuple):
    """One completion as it is stored; `payload` is the canonical JSON of the request.

    Its `completion` has no `tries`: those are attempts of the same key, `tries` says how many. `paid` is whether this
    store paid for it; an imported one was paid elsewhere. `is_sound` is whether the text is the one that was written.
    `scheme` is that of its store, under which its key was made.
    """

    key: str
    role: str
    arm: str
    model: str
    payload: str
    sample_index: int
    completion: Completion
    created: float
    tries: int = 0
    paid: bool = True
    is_sound: bool = True
    scheme: str = SCHEME

    def recompute_key(self) -> str:
        """The key that the stored payload has now; another one than `key` means damage."""
        request = json.loads(self.payload)
        parts = [request[name] for name in ("prompt", "prefix", "settings", "seed")]
        parts = [self.model, *parts, sample_index_of(request)]
        return digest("completion", parts, scheme=self.scheme)

    def to_current_scheme(self) -> StoredCompletion:
        """The completion with the names and the key of today's scheme; as it is where it has them.

        The older schemes do not say whether a stop string ended it: where one was asked for, nobody knows.
        """
        if self.scheme == SCHEME:
            return self
        request = json.loads(self.payload)
        if "draw" in request:
            request["sample_index"] = request.pop("draw")
        settings = {_RENAMED_SETTINGS.get(name, name): value for name, value in request["settings"]}
        request["settings"] = list(settings.items())
        completion = self.completion
        if settings.get("stop") and completion.finish_reason == "stop":
            completion = completion._replace(finish_reason="stop_string")
        current = self._replace(payload=canonical(request), completion=completion, scheme=SCHEME)
        return current._replace(key=current.recompute_key())


class PlacedCompletion(NamedTuple):
    """A completion and its place in the order of writing."""

    place: int
    stored: StoredCompletion


# Settings that the older scheme calls otherwise.
_RENAMED_SETTINGS = {"max_tokens": "max_new_tokens"}


def sample_index_of(request: Mapping[str, Any]) -> int:
    """The sample index of a stored request; stores of the older scheme call it `draw`."""
    index: int = request["sample_index"] if "sample_index" in request else request["draw"]
    return index


@final
class Completions:
    """The table of completions. Every `put` is one transaction, so a batch is there as a whole or not at all."""

    def __init__(self, database: Database) -> None:
        """Read and write through this connection."""
        self._database = database

    def get(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there."""
        completions: dict[str, Completion] = {}
        # A text that a bad disk has changed must not be taken for what a model wrote: it would be trained on.
        for row in self._database.read_by_keys(_ANSWERS, keys):
            key, text, *_, error, _, logprobs, _, _, _, checksum = row
            if checksum is not None and checksum != _checksum(text, error, logprobs):
                raise DamagedError(
                    f"{self._database.path} is damaged: the text of completion {key} is not the one that was written",
                    expected="the bytes that a model wrote",
                    fix=rescue_command(self._database.path.parent),
                )
            completions[key] = _completion_from_answer(row)
        return completions

    def find_unfinished(
        self, keys: Sequence[str], *, errors: bool = False, truncated: bool = False
    ) -> set[str]:
        """Those of the keys without a stored completion; with `errors` also failures, with `truncated` also cut ones.

        Reads no text, so that a long run finds its first new request before it has read everything old.
        """
        conditions = ""
        if errors:
            conditions += " AND c.error = ''"
        if truncated:
            conditions += " AND c.finish != 'length'"
        sql = _UNFINISHED.format(conditions)
        unfinished: set[str] = set()
        for start in range(0, len(keys), _LOOKUP_KEYS):
            # One SELECT for thousands of keys: a statement each would be most of the time that a finished run takes.
            part = json.dumps(keys[start : start + _LOOKUP_KEYS])
            unfinished.update(key for (key,) in self._database.read(sql, (part,)))
        return unfinished

    def put(
        self,
        model: str,
        role: str,
        arm: str,
        answered: Sequence[tuple[Request, Completion]],
        keys: Sequence[str] = (),
    ) -> None:
        """Store one batch and that this arm's role needed it, in one transaction.

        In the same transaction its tries become attempts, its intents are deleted, and a failure that was stored under
        one of the keys becomes an attempt: whatever moment a process is killed at, a call is counted once.

        Args:
            model: the id of the model that was asked.
            role: whose calls they are.
            arm: whose calls they are.
            answered: requests and completions; `cost` is stored as it stands, so settle it first.
            keys: the requests' keys, where the caller has them.
        """
        now = time.time()
        keys = keys or [request.key(model) for request, _ in answered]
        rows, tries = [], []
        for key, (request, completion) in zip(keys, answered, strict=True):
            stored = StoredCompletion(
                key=key,
                role=role,
                arm=arm,
                model=model,
                payload=request_json(request, request.seed),
                sample_index=request.sample_index,
                completion=completion,
                created=now,
                tries=len(completion.tries),
            )
            rows.append(_to_row(stored))
            tries += [(key, attempt) for attempt in completion.tries]
        with self._database.transaction() as connection:
            # First what stands there: the row is replaced below, and what it cost must not be forgotten.
            attempts.completions_to_attempts(connection, keys)
            attempts.append_attempts(connection, model, role, arm, tries)
            # What was counted at its worst while the calls were under way is now counted as it was.
            attempts.delete_intents(connection, keys)
            connection.executemany(f"INSERT OR REPLACE {_INSERT}", rows)
            _insert_uses(connection, arm, role, keys)

    def record_use(self, arm: str, role: str, keys: Sequence[str]) -> None:
        """Record that this arm's role needed these stored completions, whoever paid for them."""
        if keys and not self._database.readonly:
            with self._database.transaction() as connection:
                _insert_uses(connection, arm, role, keys)

    def copy_uses(self, stage: str, arm: str) -> None:
        """Record that an arm needed all that the training of a stage asked for."""
        sql = "SELECT role, key FROM uses WHERE arm = ? ORDER BY role"
        for role, rows in itertools.groupby(self._database.read(sql, (stage,)), lambda row: row[0]):
            self.record_use(arm, role, [key for _, key in rows])

    def add_exported(self, rows: Sequence[StoredCompletion]) -> int:
        """Take completions as they are and return how many were new; what is already here stays as it is."""
        with self._database.transaction() as connection:
            # Rows that IGNORE leaves out are no changes, so the difference is what was new.
            before = connection.total_changes
            connection.executemany(
                f"INSERT OR IGNORE {_INSERT}", [_to_row(stored) for stored in rows]
            )
            return connection.total_changes - before

    def iterate(self) -> Iterator[StoredCompletion]:
        """Every stored completion in the order of writing."""
        scheme = self._database.scheme
        return (_from_row(row, scheme) for row in self._database.pages("completions", _COLUMNS))

    def read_page(
        self,
        after: int | None,
        limit: int,
        *,
        condition: str = "1",
        args: Sequence[Any] = (),
        is_newest_first: bool = False,
    ) -> list[PlacedCompletion]:
        """The next completions in the order of writing, or against it.

        Args:
            after: the place of the last one that was read; None for the first page.
            limit: how many at most.
            condition: in SQL, over the columns of the table `completions` and `rowid`.
            args: values of its placeholders.
            is_newest_first: whether the last written one comes first.
        """
        sign, direction = ("<", "DESC") if is_newest_first else (">", "ASC")
        values = list(args)
        if after is not None:
            condition += f" AND rowid {sign} ?"
            values.append(after)
        sql = f"SELECT rowid, {_COLUMNS} FROM completions WHERE {condition} ORDER BY rowid {direction} LIMIT ?"
        rows = self._database.read(sql, [*values, limit])
        scheme = self._database.scheme
        return [PlacedCompletion(place, _from_row(tuple(row), scheme)) for place, *row in rows]

    def iterate_readable(self) -> Iterator[StoredCompletion]:
        """Every completion that can still be read, in the order of writing, around damaged pages."""
        scheme = self._database.scheme
        return (_from_row(row, scheme) for row in salvage.readable_rows(self._database, _COLUMNS))

    def first_models(self) -> dict[str, str]:
        """The model that was asked first under each account of a role (`models.phase`), by that account."""
        sql = "SELECT role, model, min(rowid) AS first FROM completions GROUP BY role, model ORDER BY first"
        models: dict[str, str] = {}
        for role, model, _ in self._database.read(sql):
            models.setdefault(role, model)
        return models

    def last_served(self, model: str) -> str:
        """What the server called the model when it last answered for a model's id; "" where it never said."""
        sql = "SELECT served FROM completions WHERE model = ? AND served != '' ORDER BY rowid DESC LIMIT 1"
        rows = list(self._database.read(sql, (model,)))
        return from_column(rows[0][0]) if rows else ""

    def count_failures(self) -> Counter[str]:
        """How many of the completions that an arm needs failed, by the kind of failure (`model.FAILURES`)."""
        sql = (
            "SELECT error FROM completions c WHERE error != '' "
            "AND EXISTS (SELECT 1 FROM uses u WHERE u.key = c.key)"
        )
        return Counter(
            from_column(error).partition(":")[0] for (error,) in self._database.read(sql)
        )

    def usage(self, arm: str) -> dict[str, dict[str, float]]:
        """What an arm needed, by role: calls, reused, prompt_tokens, completion_tokens, seconds, errors, cost.

        Computed from what is stored, so a fast-forwarded run shows the same costs as the run that paid. `reused` are
        the calls that another arm or role had paid first; tokens, seconds and money count all calls. What was lost in
        tries before them is no part of it, so that it does not depend on a kill: see `Attempts.spent_by_role`.
        """
        usage: dict[str, dict[str, float]] = {}
        for role, *values in self._database.read(_USAGE, (arm, arm)):
            usage[role] = dict(zip(_USAGE_FIELDS, values, strict=True))
        return usage

    def count_cut(self, arm: str) -> dict[str, int]:
        """How many of the completions that an arm needed ended at the limit of tokens, by role."""
        return dict(self._database.read(_CUT, (arm, arm)))


def _insert_uses(connection: sqlite3.Connection, arm: str, role: str, keys: Sequence[str]) -> None:
    (generation,) = connection.execute(f"SELECT {_GENERATION}", (arm,)).fetchone()
    # The generation is that of the arm's present run: `Ledger.finish` deletes the uses of earlier ones.
    connection.executemany(_USE, [(arm, role, key, generation) for key in keys])


def _to_row(stored: StoredCompletion) -> tuple[Any, ...]:
    completion = stored.completion
    text, error = to_column(completion.text), to_column(completion.error)
    logprobs = _pack_logprobs(completion.logprobs)
    return (
        stored.key,
        stored.role,
        stored.arm,
        stored.model,
        stored.payload,
        stored.sample_index,
        text,
        completion.finish_reason,
        error,
        *completion.tokens,
        completion.seconds,
        stored.created,
        logprobs,
        completion.cost,
        to_column(completion.served),
        stored.tries,
        stored.paid,
        _checksum(text, error, logprobs),
        to_column(completion.stop_string),
    )


def _from_row(row: tuple[Any, ...], scheme: str) -> StoredCompletion:
    key, role, arm, model, payload_json, draw, text, finish, error = row[:9]
    seconds, created, logprobs, cost, served, tries, paid, checksum, stop_string = row[13:]
    completion = Completion(
        text=from_column(text),
        finish_reason=finish,
        tokens=Tokens(*row[9:13]),
        error=from_column(error),
        seconds=seconds,
        logprobs=_unpack_logprobs(logprobs),
        cost=cost,
        served=from_column(served),
        stop_string=from_column(stop_string),
    )
    return StoredCompletion(
        key=key,
        role=role,
        arm=arm,
        model=model,
        payload=payload_json,
        sample_index=draw,
        completion=completion,
        created=created,
        tries=tries,
        paid=bool(paid),
        is_sound=checksum is None or checksum == _checksum(text, error, logprobs),
        scheme=scheme,
    )


def _completion_from_answer(row: tuple[Any, ...]) -> Completion:
    """A completion from the columns of `_ANSWERS`; the hot path of a run that goes on, so it avoids calls."""
    _, text, finish, prompt, completion, cached, reasoning, error = row[:8]
    seconds, logprobs, cost, served, stop_string, _ = row[8:]
    return Completion(
        text=text if type(text) is str else from_column(text),
        finish_reason=finish,
        tokens=Tokens(prompt, completion, cached, reasoning),
        error=from_column(error) if error else "",
        seconds=seconds,
        logprobs=_unpack_logprobs(logprobs) if logprobs else (),
        cost=cost,
        served=from_column(served) if served else "",
        stop_string=from_column(stop_string) if stop_string else "",
    )


def _checksum(text: str | bytes, error: str | bytes, logprobs: bytes) -> int:
    """A checksum of what was written: SQLite has none, and a page of a long text may go wrong unseen."""
    # The sum of the columns as they are stored, one after the other.
    checksum = 0
    for column in (text, error):
        content = column.encode() if isinstance(column, str) else column
        checksum = zlib.crc32(content, checksum)
    return zlib.crc32(logprobs, checksum)


def _pack_logprobs(logprobs: Sequence[float]) -> bytes:
    """Eight bytes a number, the small end first: exact, and a third of what JSON takes."""
    if not logprobs:
        return b""
    values = array.array("d", logprobs)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _unpack_logprobs(packed: bytes) -> tuple[float, ...]:
    if not packed:
        return ()
    values = array.array("d", packed)
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)
