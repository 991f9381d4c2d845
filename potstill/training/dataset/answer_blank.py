"""Rows as their texts stand behind the prompt: with the white space that a chat template writes before an answer.

What the student wrote itself begins with it already. A text of another author does not, and would be learnt to begin
with a token that no answer begins with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from potstill.models.local.text_codec import begin_answer
from potstill.records import Span, Trace


def begin_answers(traces: Sequence[Trace], answer_blank: str) -> Sequence[Trace]:
    """The traces with their texts, and those of their rivals, behind the template's blank."""
    return [_begin_answer(trace, answer_blank) for trace in traces] if answer_blank else traces


def _begin_answer(trace: Trace, answer_blank: str) -> Trace:
    rejected = trace.rejected
    if rejected is not None:
        rejected = _begin_answer(rejected, answer_blank)
    text = begin_answer(trace.text, answer_blank)
    added = len(text) - len(trace.text)
    return replace(
        trace,
        text=text,
        # The blank belongs to whoever wrote the first character.
        prefix_length=trace.prefix_length + added if trace.prefix_length else 0,
        spans=tuple(_move_span(span, added) for span in trace.spans),
        rejected=rejected,
    )


def _move_span(span: Span, added: int) -> Span:
    start = span.start + added if span.start else 0
    return span._replace(start=start, stop=span.stop + added)
