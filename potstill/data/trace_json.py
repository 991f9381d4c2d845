"""A trace as one line of JSON and back, nothing lost; and apart: what makes the trace, and its annotations."""

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
    OLDER_SCHEMES,
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
    digest,
)

_ANNOTATIONS = (
    *("verdict", "scores", "spans", "weight", "tokens", "rejected"),
    "teacher_prompt",
)
# What the oldest scheme calls a few fields; a record that has them keeps the id that it has under that scheme.
_OLDEST_NAMES = {"prefix_length": "given", "finish_reason": "finish", "rejected": "rival"}
_OLDEST_SCHEME, _OLDER_SCHEME = OLDER_SCHEMES
_IDENTITY_PARTS = (
    "problem",
    "prompt",
    "text",
    "prefix_length",
    "author",
    "parents",
    "operator",
    "error",
)
_IDENTITY_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(Trace)
    if field.repr and field.name not in _ANNOTATIONS
)
_PROBLEM_FIELDS = tuple(field.name for field in dataclasses.fields(Problem))
_DEFAULT_ANNOTATIONS = {
    "verdict": UNJUDGED,
    "scores": {},
    "spans": (),
    "weight": 1.0,
    "tokens": NO_TOKENS,
    "rejected": None,
    "teacher_prompt": "",
}


def to_json(trace: Trace) -> str:
    """The whole trace, its rejected side included, as one line of canonical JSON with its id."""
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
    return {**identity_record(trace), **annotation_record(trace)}


def from_record(record: Mapping[str, Any]) -> Trace:
    """The trace of a record; one of an older scheme keeps the id that it has there."""
    try:
        trace = _trace_of(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"not a trace: {type(error).__name__}: {error}",
            expected=f"the fields {', '.join(_IDENTITY_FIELDS + _ANNOTATIONS)}",
        ) from error
    if record.get("id", trace.id) != trace.id:
        raise StoreError(
            f"the trace stored as {record['id']} was changed: its content has the id {trace.id}",
            fix="potstill cache verify lists every damaged entry of a store",
        )
    return trace


def from_own_json(text: str | bytes) -> Trace:
    """The trace of a line that the same work wrote into its own scratch files: its id is taken as it stands there."""
    record = json.loads(text)
    trace = _trace_of(record)
    object.__setattr__(trace, "_id", record["id"])
    return trace


def identity_record(trace: Trace) -> dict[str, Any]:
    """Id, problem, prompt, text and whatever else an annotation never changes."""
    record: dict[str, Any] = {"id": trace.id}
    for name in _IDENTITY_FIELDS:
        record[name] = getattr(trace, name)
    record["problem"] = problem_record(trace.problem)
    record["author"] = list(trace.author) if trace.author else None
    return record


def problem_record(problem: Problem) -> dict[str, Any]:
    """The problem as plain JSON values; metadata and parents only where it has any."""
    record: dict[str, Any] = {}
    for name in _PROBLEM_FIELDS:
        value = getattr(problem, name)
        if value or name not in ("metadata", "parents"):
            record[name] = value
    return record


def annotation_record(trace: Trace) -> dict[str, Any]:
    """The annotations that are not at their defaults, as plain JSON values."""
    annotations: dict[str, Any] = {}
    for name in _ANNOTATIONS:
        value = getattr(trace, name)
        if value != _DEFAULT_ANNOTATIONS[name]:
            annotations[name] = value
    if trace.rejected:
        annotations["rejected"] = to_record(trace.rejected)
    plain: dict[str, Any] = _to_plain(annotations)
    return plain


def merge_annotations(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Annotations over annotations: a new value replaces an old one, and scores of other names stay."""
    merged = {**old, **new}
    if "scores" in merged:
        merged["scores"] = {**old.get("scores", {}), **new.get("scores", {})}
    return merged


def to_prompt(value: Any) -> Prompt:
    """A prompt read from JSON: a string, or messages."""
    if isinstance(value, str):
        return value
    return tuple(Message(*message) for message in value)


def dump_json(value: Any) -> str:
    """Canonical JSON of plain values in which floats may be infinite or NaN."""
    return canonical(_to_plain(value))


def load_json(text: str) -> Any:
    """The value that `dump_json` was given, tuples as lists."""
    return _from_plain(json.loads(text))


def prefix_length_of(record: Mapping[str, Any]) -> int:
    """How many characters of a record's text its author did not write."""
    length: int = record["given"] if "given" in record else record["prefix_length"]
    return length


def _trace_of(record: Mapping[str, Any]) -> Trace:
    if "stop_string" in record:
        return _trace_of_today(record)
    renamed = {new: record[old] for new, old in _OLDEST_NAMES.items() if old in record}
    trace = _trace_of_today({**record, **renamed, "stop_string": ""})
    if "id" in record:
        object.__setattr__(trace, "_id", _older_id(record))
    return trace


def _older_id(record: Mapping[str, Any]) -> str:
    """The id of a record under its older scheme: the same parts, one of them by another name in the oldest."""
    is_oldest = "given" in record
    identity = {}
    for name in _IDENTITY_PARTS:
        if is_oldest:
            name = _OLDEST_NAMES.get(name, name)
        identity[name] = record[name]
    return digest("trace", identity, scheme=_OLDEST_SCHEME if is_oldest else _OLDER_SCHEME)


def _trace_of_today(record: Mapping[str, Any]) -> Trace:
    fields = {name: record[name] for name in _IDENTITY_FIELDS}
    problem_fields = {name: _lists_as_tuples(value) for name, value in record["problem"].items()}
    fields["problem"] = Problem(**problem_fields)
    fields["prompt"] = to_prompt(record["prompt"])
    fields["parents"] = tuple(record["parents"])
    if record["author"]:
        model, prompt_digest, settings, sample_index = record["author"]
        fields["author"] = Author(model, prompt_digest, _lists_as_tuples(settings), sample_index)
    return Trace(**fields, **_annotations_of(record))


def _annotations_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """All annotations of a trace, those that the record lacks at their defaults."""
    stored = {name: _from_plain(record[name]) for name in _ANNOTATIONS if name in record}
    annotations: dict[str, Any] = {**_DEFAULT_ANNOTATIONS}
    annotations["scores"] = stored.get("scores") or NO_SCORES
    annotations["weight"] = stored.get("weight", 1.0)
    annotations["spans"] = tuple(Span(*span) for span in stored.get("spans", ()))
    if "verdict" in stored:
        annotations["verdict"] = Verdict(*stored["verdict"])
    if "tokens" in stored:
        annotations["tokens"] = Tokens(*stored["tokens"])
    if record.get("rejected"):
        annotations["rejected"] = _trace_of(record["rejected"])
    if "teacher_prompt" in record:
        annotations["teacher_prompt"] = to_prompt(record["teacher_prompt"])
    return annotations


def _lists_as_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_lists_as_tuples(item) for item in value)
    return value


def _to_plain(value: Any) -> Any:
    """Lists for tuples, and a tag for infinity and NaN: a likelihood may be either, and canonical JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _to_plain(item) for name, item in value.items()}
    if isinstance(value, Iterable):
        return [_to_plain(item) for item in value]
    return value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {name: _from_plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_from_plain(item) for item in value]
    return value
