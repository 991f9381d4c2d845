"""The operators on a text that need no model: `segment` marks units, `edit` makes another text of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from potstill.errors import ConfigError
from potstill.records import Span, Trace
from potstill.traces import requests, session
from potstill.traces.keys import Key, name_of, problem
from potstill.traces.prompts import Context, Recorder, Shown, beside

Cuts: TypeAlias = str | re.Pattern[str] | Callable[[str], Iterable[int]]
Edited: TypeAlias = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None

# What an edit may set. The learner's prompt is not among them: only `pose` sets it.
FIELDS = ("text", "given", "finish", "spans", "weight", "scores")


def segment(at: Cuts, traces: Sequence[Trace]) -> list[Trace]:
    """Mark the units of each text: spans that tile it, so that joining the units gives it back.

    Args:
        at: a unit begins at each match of this pattern (a lookbehind cuts after), or where a function of the text says.
    """
    result = [t if t.error else _segmented(t, _positions(at, t.text)) for t in traces]
    session.step("segment", name_of(at) if callable(at) else "", len(traces), len(result))
    return result


def _positions(at: Cuts, text: str) -> list[int]:
    cuts = at(text) if callable(at) else (match.start() for match in re.finditer(at, text))
    inside = sorted(set(cuts) - {0, len(text)})
    if inside and not 0 < inside[0] <= inside[-1] < len(text):
        raise ConfigError(
            f"segment cuts at {inside[0]} and {inside[-1]}",
            expected=f"positions from 0 to {len(text)}",
        )
    return inside


def _segmented(trace: Trace, cuts: Sequence[int]) -> Trace:
    ends = [0, *cuts, len(trace.text)] if trace.text else []
    units = tuple(Span(start, stop, "unit") for start, stop in pairwise(ends))
    return trace.annotate(spans=units + tuple(span for span in trace.spans if span.kind != "unit"))


def edit(
    fn: Callable[..., Edited],
    traces: Sequence[Trace],
    *,
    context: Context | None = None,
    by: Key = problem,
) -> list[Trace]:
    """Make another text of each trace without a model; the author stays, verdict, scores and spans go.

    Args:
        fn: takes a view of the trace and views of the context by name; returns a text, a mapping with `text` and
            other fields (`given`, `finish`, `spans`, `weight`, `scores`), a list of either, or None for nothing. The
            same text alone is the trace itself.
    """
    result, created, losses = [], [], []
    for trace, lists in zip(traces, beside(traces, context, by), strict=True):
        made = [trace] if trace.error else _edited(fn, trace, lists)
        result += made
        created += [t for t in made if t is not trace]
        losses += [] if made else [(trace, f"{name_of(fn)} returned nothing")]
    session.made(created)
    session.dropped("edit", name_of(fn), losses)
    session.step("edit", name_of(fn), len(traces), len(result))
    return result


def _edited(
    fn: Callable[..., Edited], trace: Trace, lists: Mapping[str, Sequence[Trace]]
) -> list[Trace]:
    recorder = Recorder()
    views = {name: [recorder.view(t) for t in held] for name, held in lists.items()}
    returned = fn(recorder.view(trace), **views)
    options = (
        [returned] if returned is None or isinstance(returned, str | Mapping) else list(returned)
    )
    shown = Shown(trace.prompt, recorder.gold, tuple(t for held in lists.values() for t in held))
    return [_one(trace, shown, option, fn) for option in options if option is not None]


def _one(
    trace: Trace, shown: Shown, option: str | Mapping[str, Any], fn: Callable[..., Edited]
) -> Trace:
    fields: dict[str, Any] = {"text": option} if isinstance(option, str) else dict(option)
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        found = f"{name_of(fn)} sets the field {unknown[0]!r}"
        raise ConfigError(
            found, available=FIELDS, wanted=unknown[0], fix="only pose sets the learner's prompt"
        )
    text = fields.setdefault("text", trace.text)
    if set(fields) == {"text"} and text == trace.text:
        return trace
    fields.setdefault("given", _still_given(trace, text))
    fields.setdefault("finish", _finish(trace, text))
    return requests.child(trace, "edit", shown, author=trace.author if text else None, **fields)


def _still_given(trace: Trace, text: str) -> int:
    held = trace.text[: trace.given]
    return len(held) if text.startswith(held) else len(text) if held.startswith(text) else 0


def _finish(trace: Trace, text: str) -> str:
    """A proper beginning of the text is cut: no end token may follow it."""
    return (
        ""
        if not text
        else "cut"
        if trace.text.startswith(text) and text != trace.text
        else trace.finish or "stop"
    )
