"""The operators on a text that need no model: `segment` marks units, `edit` makes another text of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, get_args

from potstill.errors import ConfigError
from potstill.records import FinishReason, Span, Trace
from potstill.traces import requests, session
from potstill.traces.keys import Key, function_name, problem
from potstill.traces.learning import shown_length, spans_after_edit
from potstill.traces.prompts import Context, GoldRecorder, RenderedPrompt, context_of_each

Cuts: TypeAlias = str | re.Pattern[str] | Callable[[str], Iterable[int]]
Edited: TypeAlias = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None

FINISH_REASONS = ("", "cut", *get_args(FinishReason))
# What an edit may set. The learner's prompt is not among them: only `pose` sets it.
FIELDS = ("text", "prefix_length", "finish_reason", "spans", "weight", "scores")


def segment(at: Cuts, traces: Sequence[Trace]) -> list[Trace]:
    """Mark the units of each text with spans that tile it, so that joining the units gives the text back.

    Args:
        at: a unit begins at each match of this pattern (a lookbehind cuts after a match), or at each position that
            this function of the text returns.
        traces: what is segmented; units that were there are replaced.

    Returns:
        The traces with spans of kind "unit"; an errored trace passes unchanged.

    Raises:
        ConfigError: a function returned a position outside the text.
    """
    result = [trace if trace.error else _mark_units(trace, at) for trace in traces]
    label = function_name(at) if callable(at) else ""
    session.record_step("segment", label, len(traces), len(result))
    return result


def _mark_units(trace: Trace, at: Cuts) -> Trace:
    boundaries: list[int] = []  # an empty text has no unit
    if trace.text:
        boundaries = [0, *_cut_positions(at, trace.text), len(trace.text)]
    # From each boundary to the next, so that the units tile the text.
    units = [Span(start, stop, "unit") for start, stop in pairwise(boundaries)]
    others = [span for span in trace.spans if span.kind != "unit"]
    return trace.annotate(spans=(*units, *others))


def _cut_positions(at: Cuts, text: str) -> list[int]:
    """Where units begin, sorted; the beginning of the text is left out."""
    if callable(at):
        cuts = set(at(text))
    else:
        cuts = {match.start() for match in re.finditer(at, text)}
    positions = sorted(cuts - {0, len(text)})
    if positions and not 0 < positions[0] <= positions[-1] < len(text):
        raise ConfigError(
            f"segment cuts at {positions[0]} and {positions[-1]}",
            expected=f"positions from 0 to {len(text)}",
        )
    return positions


def edit(
    fn: Callable[..., Edited],
    traces: Sequence[Trace],
    *,
    context: Context | None = None,
    by: Key = problem,
) -> list[Trace]:
    """Make another text of each trace without a model; the author stays, verdict, scores, units and steps go.

    Spans that say who wrote a stretch, or that it is not learnt, stay where the edit left the text as it was. Text that
    the edit adds counts as the author's; what it changes within a stretch of somebody else stays that one's.

    Args:
        fn: takes a view of the trace and, by name, lists of views of the context. It returns a text, a mapping with
            `text` and other fields (`prefix_length`, `finish_reason`, `spans`, `weight`, `scores`), a list of either,
            or None to drop the trace. Its `spans` come beside those that stay. The same text alone is the trace itself.
        traces: what is edited.
        context: more traces for `fn`, looked up by `by`; they become parents.
        by: the key under which a trace finds its context.

    Returns:
        The edited traces in the place of each trace; an errored trace passes unchanged.

    Raises:
        ConfigError: `fn` set a field that an edit may not set.
    """
    result: list[Trace] = []
    created: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace, context_lists in zip(traces, context_of_each(traces, context, by), strict=True):
        edits = [trace] if trace.error else _edit_trace(fn, trace, context_lists)
        result += edits
        created += [new for new in edits if new is not trace]
        if not edits:
            drops.append((trace, f"{function_name(fn)} returned nothing"))
    session.record_traces(created)
    session.record_drops("edit", function_name(fn), drops)
    session.record_step("edit", function_name(fn), len(traces), len(result))
    return result


def _edit_trace(
    fn: Callable[..., Edited], trace: Trace, context_lists: Mapping[str, Sequence[Trace]]
) -> list[Trace]:
    # The recorder notes whether `fn` reads the gold answer from one of its views.
    recorder = GoldRecorder()
    views: dict[str, list[Any]] = {}
    sources: list[Trace] = []
    for name, context_traces in context_lists.items():
        views[name] = [recorder.view(source) for source in context_traces]
        sources += context_traces

    # None, one text or mapping, or a list of them.
    returned = fn(recorder.view(trace), **views)
    if returned is None:
        returned = []
    elif isinstance(returned, str | Mapping) or not isinstance(returned, Iterable):
        returned = [returned]
    rendered = RenderedPrompt(trace.prompt, recorder.saw_gold, tuple(sources))

    edits: list[Trace] = []
    for option in returned:
        if option is not None and not isinstance(option, str | Mapping):
            raise ConfigError(
                f"{function_name(fn)} returned {option!r}",
                expected="a text, {'text': …}, a list of these, or None",
            )
        if option is not None:
            edits.append(_apply_edit(fn, trace, rendered, option))
    return edits


def _apply_edit(
    fn: Callable[..., Edited],
    trace: Trace,
    rendered: RenderedPrompt,
    option: str | Mapping[str, Any],
) -> Trace:
    """Make the trace of one returned text or mapping."""
    fields: dict[str, Any] = {"text": option} if isinstance(option, str) else dict(option)
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise ConfigError(
            f"{function_name(fn)} sets the field {unknown[0]!r}",
            available=FIELDS,
            wanted=unknown[0],
            fix="only pose sets the learner's prompt",
        )
    _check_fields(function_name(fn), fields, fields.get("text", trace.text))
    # Without a change the trace is itself; else what the edit does not say is derived from the old text.
    text = fields.setdefault("text", trace.text)
    if set(fields) == {"text"} and text == trace.text:
        return trace
    fields.setdefault("prefix_length", shown_length(trace, text))
    fields.setdefault("finish_reason", _finish_reason(trace, text))
    if fields["finish_reason"] == "stop_string":
        fields["stop_string"] = trace.stop_string
    # Equal spans once: what the function returns may hold those that stay.
    spans = (*spans_after_edit(trace, text), *fields.get("spans", ()))
    fields["spans"] = tuple(dict.fromkeys(spans))
    author = trace.author
    if not text:
        author = None  # nobody has written anything
    return requests.derive_trace(trace, "edit", rendered, author=author, **fields)


def _check_fields(name: str, fields: Mapping[str, Any], text: Any) -> None:
    """Refuse what would train the wrong text later, or end the run there."""
    if not isinstance(text, str):
        raise ConfigError(f"{name} sets the text {text!r}", expected="a string; None drops a trace")
    finish_reason = fields.get("finish_reason", "")
    if finish_reason not in FINISH_REASONS:
        raise ConfigError(
            f"{name} sets the finish reason {finish_reason!r}",
            available=FINISH_REASONS,
            wanted=str(finish_reason),
        )
    places = [(0, fields.get("prefix_length", 0))]
    for span in fields.get("spans", ()):
        if not isinstance(span, Span):
            raise ConfigError(f"{name} sets the span {span!r}", expected="Span(start, stop, kind)")
        places.append((span.start, span.stop))
    for start, stop in places:
        if not 0 <= start <= stop <= len(text):
            raise ConfigError(
                f"{name} sets the stretch {start} to {stop} of a text of {len(text)} characters",
                expected="spans and a prefix_length within the text",
            )


def _finish_reason(trace: Trace, text: str) -> str:
    """How the new text ended: a proper beginning of the old one is cut, so that no end token follows it."""
    if not text:
        return ""
    if trace.text.startswith(text) and text != trace.text:
        return "cut"
    return trace.finish_reason or "stop"
