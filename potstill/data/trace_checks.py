"""What a trace of a file may hold beside its identity: types and ranges, since an id says nothing of annotations."""

from __future__ import annotations

from typing import Any, get_args

from potstill.data.metadata_columns import is_metadata_mapping
from potstill.errors import InputError
from potstill.records import Problem, Span, Status, Tokens, Trace, Verdict

FINISH_REASONS = ("stop", "stop_string", "length", "cut", "")
MAX_TOKENS = 10**12  # of one trace: a sum of many fits into 64 bits
MAX_WEIGHT = 10**6


def check_trace(trace: Trace) -> None:
    """Refuse values that no trace has; the rejected side is checked too.

    Raises:
        InputError: says which value is wrong.
    """
    if trace.finish_reason not in FINISH_REASONS:
        allowed = ", ".join(map(repr, FINISH_REASONS))
        raise _wrong("finish_reason", trace.finish_reason, f"one of {allowed}")
    if not isinstance(trace.saw_gold, bool):
        raise _wrong("saw_gold", trace.saw_gold, "true or false")
    for name in ("root", "stop_string"):
        if not isinstance(getattr(trace, name), str):
            raise _wrong(name, getattr(trace, name), "a text")
    _check_problem(trace.problem)
    _check_weight("weight", trace.weight)
    _check_tokens(trace.tokens)
    _check_verdict(trace.verdict)
    for span in trace.spans:
        _check_span(span, len(trace.text))
    for name, score in trace.scores.items():
        if score is not None and not isinstance(score, str) and not _is_number(score):
            raise _wrong(f"scores.{name}", score, "a number, a text or null")
    if trace.rejected is not None:
        check_trace(trace.rejected)


def _check_problem(problem: Problem) -> None:
    if not is_metadata_mapping(problem.metadata):
        raise _wrong("problem.metadata", problem.metadata, "texts and numbers by name")
    if not isinstance(problem.parents, tuple) or not all(
        isinstance(parent, str) for parent in problem.parents
    ):
        raise _wrong("problem.parents", problem.parents, "ids of traces")


def _check_tokens(tokens: Tokens) -> None:
    for name, count in tokens._asdict().items():
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            raise _wrong(f"tokens.{name}", count, f"a whole number from 0 to {MAX_TOKENS:,}")


def _check_verdict(verdict: Verdict) -> None:
    if verdict.status not in get_args(Status):
        raise _wrong("verdict.status", verdict.status, f"one of {', '.join(get_args(Status))}")
    for name in ("answer", "reason", "verifier"):
        value = getattr(verdict, name)
        may_be_null = name == "answer" and value is None
        if not may_be_null and not isinstance(value, str):
            raise _wrong(f"verdict.{name}", value, "a text")


def _check_span(span: Span, length: int) -> None:
    has_places = type(span.start) is int and type(span.stop) is int
    if not has_places or not 0 <= span.start <= span.stop <= length:
        places = [span.start, span.stop]
        raise _wrong("spans", places, f"a stretch of the text's {length:,} characters")
    for name in ("kind", "author"):
        if not isinstance(getattr(span, name), str):
            raise _wrong(f"spans.{name}", getattr(span, name), "a text")
    _check_weight("spans.weight", span.weight)
    if span.score is not None and not _is_number(span.score):
        raise _wrong("spans.score", span.score, "a number or null")


def _check_weight(name: str, value: Any) -> None:
    if not _is_number(value) or not -MAX_WEIGHT <= value <= MAX_WEIGHT:
        raise _wrong(name, value, f"a number from {-MAX_WEIGHT:,} to {MAX_WEIGHT:,}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"{name} of the trace is {value!r:.60}", expected=expected)
