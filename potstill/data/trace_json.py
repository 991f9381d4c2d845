"""A trace as one line of JSON and back, nothing lost; and apart: what makes the trace, and what was noted on it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from potstill.errors import StoreError
from potstill.records import (
    NO_SCORES,
    NO_TOKENS,
    UNJUDGED,
    Author,
    Message,
    Problem,
    Prompt,
    Span,
    Tokens,
    Trace,
    Verdict,
    canonical,
)

_NOTES = ("verdict", "scores", "spans", "weight", "tokens", "rival")
_MADE = tuple(f.name for f in dataclasses.fields(Trace) if f.repr and f.name not in _NOTES)
_NO_NOTES = {
    "verdict": UNJUDGED,
    "scores": {},
    "spans": (),
    "weight": 1.0,
    "tokens": NO_TOKENS,
    "rival": None,
}


def to_json(trace: Trace) -> str:
    """The whole trace, rival included, as one line of canonical JSON with its id."""
    return canonical(to_record(trace))


def from_json(text: str) -> Trace:
    """The trace that `to_json` wrote; StoreError where the content no longer has the id that is written beside it."""
    record: Any = json.loads(text)
    if not isinstance(record, dict):
        raise StoreError(
            f"not a trace: {text[:80]!r}", expected="a JSON object with the fields of a trace"
        )
    return from_record(record)


def to_record(trace: Trace) -> dict[str, Any]:
    """The trace as plain JSON values."""
    return {**made_part(trace), **notes_part(trace)}


def from_record(record: Mapping[str, Any]) -> Trace:
    """The trace of a record."""
    try:
        trace = _trace(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"not a trace: {type(error).__name__}: {error}",
            expected=f"the fields {', '.join(_MADE + _NOTES)}",
        ) from error
    if record.get("id", trace.id) != trace.id:
        raise StoreError(
            f"the trace stored as {record['id']} was changed: its content has the id {trace.id}",
            fix="potstill cache verify lists every damaged entry of a store",
        )
    return trace


def is_trace_record(row: Mapping[str, Any]) -> bool:
    """Whether a row is a trace, as `to_json` writes them."""
    return isinstance(row.get("problem"), Mapping) and {"text", "operator", "prompt"} <= row.keys()


def made_part(trace: Trace) -> dict[str, Any]:
    """Id, problem, prompt, text and whatever else an annotation never changes."""
    return {
        "id": trace.id,
        **{name: getattr(trace, name) for name in _MADE},
        "problem": dataclasses.asdict(trace.problem),
        "author": list(trace.author) if trace.author else None,
    }


def notes_part(trace: Trace) -> dict[str, Any]:
    """The annotations that say something, as plain JSON values: verdict, scores, spans, weight, tokens, rival."""
    notes = {name: getattr(trace, name) for name in _NOTES}
    said = {name: value for name, value in notes.items() if value != _NO_NOTES[name]}
    if trace.rival:
        said["rival"] = to_record(trace.rival)
    plain: dict[str, Any] = _plain(said)
    return plain


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Notes on notes: what was said stays until it is said anew, and scores of other names stay in any case."""
    both = {**old, **new}
    if "scores" in both:
        both["scores"] = {**old.get("scores", {}), **new.get("scores", {})}
    return both


def _trace(record: Mapping[str, Any]) -> Trace:
    fields = {name: record[name] for name in _MADE}
    fields["problem"] = Problem(
        **{name: _tupled(value) for name, value in record["problem"].items()}
    )
    fields["prompt"] = to_prompt(record["prompt"])
    fields["parents"] = tuple(record["parents"])
    if record["author"]:
        model, shown, settings, draw = record["author"]
        fields["author"] = Author(model, shown, _tupled(settings), draw)
    return Trace(**fields, **_notes(record))


def _notes(record: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: _unplain(record[name]) for name in _NOTES if name in record}
    return {
        "verdict": Verdict(*said["verdict"]) if "verdict" in said else UNJUDGED,
        "scores": said.get("scores") or NO_SCORES,
        "spans": tuple(Span(*span) for span in said.get("spans", ())),
        "weight": said.get("weight", 1.0),
        "tokens": Tokens(*said["tokens"]) if "tokens" in said else NO_TOKENS,
        "rival": _trace(record["rival"]) if record.get("rival") else None,
    }


def to_prompt(value: Any) -> Prompt:
    """A prompt read from JSON: a string, or messages."""
    return value if isinstance(value, str) else tuple(Message(*message) for message in value)


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Lists for tuples, and a tag for infinity and NaN: a likelihood may be either, and canonical JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {name: _unplain(item) for name, item in value.items()}
    return [_unplain(item) for item in value] if isinstance(value, list) else value


def dump(value: Any) -> str:
    """Canonical JSON of plain values in which floats may be infinite or NaN."""
    return canonical(_plain(value))


def load(text: str) -> Any:
    """The value that `dump` was given, tuples as lists."""
    return _unplain(json.loads(text))
