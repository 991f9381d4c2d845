"""A line of an export and back: completions and attempts as JSON, each with a digest of all that it says.

An export may come from anywhere. A line that was edited is refused by its digest; one that was written by hand, by the
types and ranges of its values and by the key that its content gives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias, get_args, get_type_hints

from potstill.data.trace_json import dump_json, load_json
from potstill.models.model import MAX_CALL_COST, MAX_CALL_TOKENS, Attempt, Completion
from potstill.records import Tokens, canonical, digest
from potstill.store.attempts import StoredAttempt
from potstill.store.completions import StoredCompletion, sample_index_of

ExportedRow: TypeAlias = StoredCompletion | StoredAttempt

DIGEST = "digest"
# A call that a dead process left open counts with all its tries at their worst.
MAX_ATTEMPT_TOKENS, MAX_ATTEMPT_COST = 1000 * MAX_CALL_TOKENS, 1000 * MAX_CALL_COST
MAX_SECONDS = 10**10  # of a duration, and of a time since 1970
MAX_TRIES = 10**9
_FINISH_REASONS: tuple[str, ...] = get_args(get_type_hints(Completion)["finish_reason"])


def format_completion(stored: StoredCompletion) -> str:
    """The line of a completion, under the names and the key of today's scheme."""
    fields = ("key", "role", "arm", "model", "sample_index", "created", "tries", "paid")
    stored = stored.to_current_scheme()
    row: dict[str, Any] = {field: getattr(stored, field) for field in fields}
    row["payload"] = json.loads(stored.payload)
    # What was ignored is told once, and not stored.
    completion = stored.completion._asdict()
    del completion["ignored"]
    row["completion"] = completion
    return _with_digest(row)


def format_attempt(stored: StoredAttempt) -> str:
    """The line of an attempt."""
    return _with_digest({"attempt": {**stored._asdict(), "attempt": stored.attempt._asdict()}})


def parse_row(line: str, *, scheme: str, has_digests: bool) -> ExportedRow:
    """The row of a line.

    Args:
        line: of an export.
        scheme: under which its digest was made.
        has_digests: whether every line must have one; exports of older versions have none.

    Raises:
        ValueError: the line was changed, or holds what no export holds.
    """
    row = _as_object(json.loads(line), "the line")
    stated_digest = row.pop(DIGEST, None)
    if stated_digest is None and has_digests:
        raise ValueError("it has no digest")
    if stated_digest is not None and stated_digest != digest("export", row, scheme=scheme):
        raise ValueError("it was changed: its content has another digest")
    row = load_json(json.dumps(row))
    if "attempt" in row:
        return _parse_attempt(_as_object(row["attempt"], "attempt"))
    stored = _parse_completion_row(row, scheme)
    key = stored.recompute_key()
    if key != stored.key:
        raise ValueError(f"it was changed: its content has the key {key}, not {stored.key}")
    return stored


def _with_digest(row: Mapping[str, Any]) -> str:
    # Through JSON first, so that the digest is of what a reader of the line sees.
    plain = json.loads(dump_json(row))
    return json.dumps({**plain, DIGEST: digest("export", plain)}, sort_keys=True)


def _parse_completion_row(row: Mapping[str, Any], scheme: str) -> StoredCompletion:
    payload = _as_object(row["payload"], "payload")
    # The oldest scheme calls it `draw`.
    name = "sample_index" if "sample_index" in row else "draw"
    sample_index = _whole_number(row, name, 2**63 - 1)
    if sample_index != sample_index_of(payload):
        raise ValueError(f"sample_index is {sample_index}, and another one in its payload")
    return StoredCompletion(
        key=_text(row, "key"),
        role=_text(row, "role"),
        arm=_text(row, "arm"),
        model=_text(row, "model"),
        payload=canonical(payload),
        sample_index=sample_index,
        completion=_parse_completion(_as_object(row["completion"], "completion")),
        created=_number(row, "created", MAX_SECONDS),
        # Exports of schema 1 have neither.
        tries=_whole_number(row, "tries", MAX_TRIES) if "tries" in row else 0,
        paid=_flag(row, "paid") if "paid" in row else True,
        scheme=scheme,
    )


def _parse_completion(row: Mapping[str, Any]) -> Completion:
    fields = {name: value for name, value in row.items() if name != "tries"}
    if "finish" in fields:  # the oldest scheme's name
        fields["finish_reason"] = fields.pop("finish")
    for name in ("text", "finish_reason", "error"):
        fields[name] = _text(fields, name)
    if "stop_string" in row:
        fields["stop_string"] = _text(row, "stop_string")
    if fields["finish_reason"] not in _FINISH_REASONS:
        raise ValueError(f"finish_reason is {fields['finish_reason']!r:.40}")
    for name in ("served", "stop_string"):
        if name in row:
            fields[name] = _text(row, name)
    fields["tokens"] = _tokens(row, MAX_CALL_TOKENS)
    fields["seconds"] = _number(row, "seconds", MAX_SECONDS)
    fields["logprobs"] = tuple(_logprob(value) for value in row.get("logprobs", ()))
    fields["cost"] = _cost(row, MAX_CALL_COST)
    if "rate" in row:
        fields["rate"] = _number(row, "rate", 1)
    return Completion(**fields)


def _parse_attempt(row: Mapping[str, Any]) -> StoredAttempt:
    fields = _as_object(row["attempt"], "attempt")
    attempt = Attempt(
        **{
            **fields,
            "error": _text(fields, "error"),
            "tokens": _tokens(fields, MAX_ATTEMPT_TOKENS),
            "cost": _cost(fields, MAX_ATTEMPT_COST),
            "seconds": _number(fields, "seconds", MAX_SECONDS),
            "text": _text(fields, "text"),
            "billed": _flag(fields, "billed"),
        }
    )
    for name in ("key", "role", "arm", "model"):
        _text(row, name)
    _whole_number(row, "number", MAX_TRIES)
    _number(row, "created", MAX_SECONDS)
    return StoredAttempt(**{**row, "attempt": attempt})


def _as_object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is a {type(value).__name__}, not an object")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.40}, not a text")
    return value


def _flag(row: Mapping[str, Any], name: str) -> bool:
    value = row[name]
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r:.40}, not true or false")
    return value


def _whole_number(row: Mapping[str, Any], name: str, highest: int) -> int:
    value = row[name]
    if type(value) is not int or not 0 <= value <= highest:
        raise ValueError(f"{name} is {value!r:.40}, not a whole number from 0 to {highest:,}")
    return value


def _number(row: Mapping[str, Any], name: str, highest: float) -> float:
    value = row[name]
    if type(value) not in (int, float) or not 0 <= value <= highest:
        raise ValueError(f"{name} is {value!r:.40}, not a number from 0 to {highest:,}")
    return float(value)


def _cost(row: Mapping[str, Any], highest: float) -> float | None:
    return None if row.get("cost") is None else _number(row, "cost", highest)


def _tokens(row: Mapping[str, Any], highest: int) -> Tokens:
    counts = row["tokens"]
    if not isinstance(counts, list) or len(counts) != len(Tokens._fields):
        raise ValueError(f"tokens are {counts!r:.40}, not {len(Tokens._fields)} numbers")
    named_counts = dict(zip(Tokens._fields, counts, strict=True))
    return Tokens(*(_whole_number(named_counts, name, highest) for name in Tokens._fields))


def _logprob(value: Any) -> float:
    if type(value) not in (int, float) or math.isnan(value):
        raise ValueError(f"a log-probability is {value!r:.40}")
    return float(value)
