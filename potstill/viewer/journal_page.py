"""The page Journal: every call in the order of writing, with its tries and what became of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.data.trace_json import to_prompt
from potstill.errors import InputError
from potstill.records import Prompt, split_reasoning
from potstill.store.admin.journal import ENDINGS, VERDICTS
from potstill.store.attempts import StoredAttempt
from potstill.store.completions import PlacedCompletion
from potstill.store.store import Store

EXCERPT = 200
MAX_LIMIT = 500
# A call's traces: those of its author, in any arm.
_TRACES_OF_CALL = """view.calls c JOIN view.entries e ON e.prompt = c.prompt AND e.draw = c.draw
    JOIN view.groups g ON g.number = e."group" AND g.model = c.model"""


class JournalRequest(NamedTuple):
    """Which calls: of an arm, a role, a status (a verdict, an ending, a kind of error); or failed tries alone."""

    arm: str = ""
    role: str = ""
    status: str = ""
    after: str = ""
    limit: int = 100
    is_of_attempts: bool = False
    is_newest_first: bool = False


def describe_journal(store: Store, request: JournalRequest) -> dict[str, Any]:
    """A page of the journal."""
    # Places are rowids, so a page costs the same wherever it lies.
    limit = max(1, min(request.limit, MAX_LIMIT))
    after = _read_place(request.after) if request.after else None
    condition, args = _condition(request)
    table = "attempts" if request.is_of_attempts else "completions"
    [(count,)] = store.database.read(f"SELECT count(*) FROM {table} WHERE {condition}", args)
    if request.is_of_attempts:
        items, last = _read_attempts(store, request, after, limit)
    else:
        page = store.completions.read_page(
            after, limit, condition=condition, args=args, is_newest_first=request.is_newest_first
        )
        items = _describe_calls(store, page)
        last = page[-1].place if len(page) == limit else None
    return {
        "count": count,
        "statuses": _list_statuses(store),
        "items": items,
        "next": str(last) if last is not None else None,
    }


def _read_place(text: str) -> int:
    # A cursor is the place of the last line of a page; 18 digits fit into SQLite's integers.
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InputError(f"{text[:40]!r} is no cursor", expected="what `next` said")
    return int(text)


def _condition(request: JournalRequest) -> tuple[str, list[Any]]:
    """The condition of a journal in SQL, over completions or over attempts."""
    parts: list[str] = ["1"]
    args: list[Any] = []
    if request.arm:
        # An arm's calls are also those that it found here, paid by another.
        parts.append("(arm = ? OR key IN (SELECT u.key FROM uses u WHERE u.arm = ?))")
        args += [request.arm, request.arm]
    if request.role:
        parts.append("role = ?")
        args.append(request.role)
    # A status is a verdict, an ending or a kind of failure; their names do not meet.
    status = request.status
    if status == "error":
        parts.append("error != ''")
    elif status in VERDICTS and not request.is_of_attempts:
        parts.append(f"rowid IN (SELECT c.place FROM {_TRACES_OF_CALL} WHERE g.status = ?)")
        args.append(status)
    elif status in ENDINGS and not request.is_of_attempts:
        parts.append("finish = ?")
        args.append(status)
    elif status:
        parts.append("substr(error, 1, instr(error || ':', ':') - 1) = ?")
        args.append(status)
    return " AND ".join(parts), args


def _list_statuses(store: Store) -> list[str]:
    """What the journal can be asked for by; kinds of failures as the index and the attempts have them."""
    sql = """SELECT DISTINCT failure FROM view.groups WHERE failure != ''
        UNION SELECT DISTINCT substr(error, 1, instr(error || ':', ':') - 1) FROM attempts"""
    failures = [kind for (kind,) in store.database.read(sql)]
    return list(dict.fromkeys([*VERDICTS, *ENDINGS, *failures]))


def _describe_calls(store: Store, page: Sequence[PlacedCompletion]) -> list[dict[str, Any]]:
    # Tries and verdicts of the whole page at once.
    keys = [placed.stored.key for placed in page]
    tries = store.attempts.by_key(keys)
    verdicts = _read_verdicts(store, [placed.place for placed in page])
    return [
        _describe_call(placed, tries.get(placed.stored.key, []), verdicts.get(placed.place, []))
        for placed in page
    ]


def _describe_call(
    placed: PlacedCompletion, tries: Sequence[StoredAttempt], verdicts: list[dict[str, Any]]
) -> dict[str, Any]:
    stored = placed.stored
    completion = stored.completion
    prompt = to_prompt(json.loads(stored.payload)["prompt"])
    return {
        "key": stored.key,
        "number": len(tries) + 1,
        "is_completion": True,
        "arm": stored.arm,
        "role": stored.role,
        "model": stored.model,
        "served": completion.served,
        "finish": completion.finish_reason,
        "error": completion.error[:EXCERPT],
        "tokens": completion.tokens._asdict(),
        "cost": completion.cost,
        "seconds": completion.seconds,
        "created": stored.created,
        "prompt": _last_turn(prompt)[:EXCERPT],
        "reply": split_reasoning(completion.text)[1][:EXCERPT] or completion.text[:EXCERPT],
        "length": len(completion.text),
        "attempts": len(tries),
        "verdicts": verdicts,
    }


def _last_turn(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return prompt[-1].content if prompt else ""


def _read_verdicts(store: Store, places: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """By the place of a call, the traces that it became, and what was said of them."""
    sql = f"""SELECT c.place, g.arm, i.id, g.operator, g.status, e.answer, e.reason
        FROM {_TRACES_OF_CALL} JOIN view.ids i ON i.number = e.trace
        WHERE c.place IN (SELECT value FROM json_each(?)) ORDER BY e.seq"""
    verdicts: dict[int, list[dict[str, Any]]] = {}
    for place, arm, trace, operator, status, answer, reason in store.database.read(
        sql, (json.dumps(list(places)),)
    ):
        verdicts.setdefault(place, []).append(
            {
                "arm": arm,
                "trace": trace,
                "operator": operator,
                "status": status,
                "answer": answer,
                "reason": reason or "",
            }
        )
    return verdicts


def _read_attempts(
    store: Store, request: JournalRequest, after: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    condition, args = _condition(request)
    sign, direction = ("<", "DESC") if request.is_newest_first else (">", "ASC")
    if after is not None:
        condition += f" AND rowid {sign} ?"
        args.append(after)
    sql = f"SELECT rowid, key, number FROM attempts WHERE {condition} ORDER BY rowid {direction} LIMIT ?"
    # Which attempts first, by their places; their texts are read for one page only.
    rows = store.database.read(sql, [*args, limit])
    by_key = store.attempts.by_key([key for _, key, _ in rows])
    items = []
    for _, key, number in rows:
        for attempt in by_key.get(key, []):
            if attempt.number == number:
                items.append(_describe_attempt(attempt))
    return items, rows[-1][0] if len(rows) == limit else None


def _describe_attempt(stored: StoredAttempt) -> dict[str, Any]:
    attempt = stored.attempt
    return {
        "key": stored.key,
        "number": stored.number,
        "is_completion": False,
        "arm": stored.arm,
        "role": stored.role,
        "model": stored.model,
        "served": "",
        "finish": "",
        "error": attempt.error,
        "tokens": attempt.tokens._asdict(),
        "cost": attempt.cost,
        "seconds": attempt.seconds,
        "created": stored.created,
        "is_billed": attempt.billed,
        "text": attempt.text,
    }


def describe_call(store: Store, key: str) -> dict[str, Any]:
    """Every try of one call, whole, the completion last.

    Raises:
        InputError: there is none of this key.
    """
    # What came to nothing first, then the completion, if there is one.
    tries = store.attempts.by_key([key]).get(key, [])
    entries = [_describe_attempt(attempt) for attempt in tries]
    # There is none while the call is still being tried, or where the run was killed before its answer.
    for placed in store.completions.read_page(None, 1, condition="key = ?", args=(key,)):
        [line] = _describe_calls(store, [placed])
        completion = placed.stored.completion
        reasoning, reply = split_reasoning(completion.text)
        payload = json.loads(placed.stored.payload)
        whole = {
            "error": completion.error,
            "payload": payload,
            "reasoning": reasoning,
            "reply": reply,
        }
        entries.append(
            {**line, **whole, "text": completion.text, "stop_string": completion.stop_string}
        )
    if not entries:
        raise InputError(f"there is no call {key[:60]!r}", fix="look for it on the page Journal")
    return {"entries": entries}
