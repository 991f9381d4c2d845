"""Which text of a trace is learnt, and who wrote it: what follows from how it came about, and the operator `learn`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple, TypeAlias

from potstill.errors import ConfigError
from potstill.records import LEARNING_KINDS, Span, Trace
from potstill.traces import session
from potstill.traces.keys import function_name

Stretches: TypeAlias = Callable[[Trace], Iterable[tuple[int, int]]]
DECISIONS = ("learnt", "masked")  # kinds of spans that `learn` makes
_WORD = re.compile(r"\w+|[^\w\s]")
LEAST_SHARED = 0.5  # of the words of two texts; a text that shares less is another one


def learn(what: Literal["all", "new"] | Stretches, traces: Sequence[Trace]) -> list[Trace]:
    """Decide which text of each trace is learnt; without it, what models wrote in this run is, and nothing else.

    Args:
        what: "all" is the whole text, whoever wrote it; "new" is what the last author wrote; a function of the trace
            returns the stretches, as (start, stop) in characters of its text.
        traces: what is decided for. The text that a later `sample` adds is learnt again.

    Returns:
        The traces with spans of the kinds "learnt" and "masked"; an errored trace passes unchanged.

    Raises:
        ConfigError: another word, or a stretch outside the text.
    """
    if not callable(what) and what not in ("all", "new"):
        raise ConfigError(
            f"learn does not know {what!r}",
            expected="'all', 'new', or a function from a trace to stretches of its text",
        )
    result = [trace if trace.error else _decide(what, trace) for trace in traces]
    label = function_name(what) if callable(what) else what
    session.record_step("learn", label, len(traces), len(result))
    return result


def _decide(what: Literal["all", "new"] | Stretches, trace: Trace) -> Trace:
    if callable(what):
        stretches = sorted(what(trace))
    else:
        stretches = [(0 if what == "all" else trace.prefix_length, len(trace.text))]
    # Stretches and what lies between them tile the text.
    decided: list[Span] = []
    position = 0
    for start, stop in stretches:
        if not 0 <= start <= stop <= len(trace.text):
            raise ConfigError(
                f"learn got the stretch {start} to {stop} of a text of {len(trace.text)} characters",
                expected="(start, stop) within the text",
            )
        if start > position:
            decided.append(Span(position, start, "masked", 0.0))
        if stop > max(start, position):
            decided.append(Span(max(start, position), stop, "learnt"))
        position = max(position, stop)
    if position < len(trace.text):
        decided.append(Span(position, len(trace.text), "masked", 0.0))
    others = [span for span in trace.spans if span.kind not in DECISIONS]
    return trace.annotate(spans=(*others, *decided))


def spans_of_prefix(trace: Trace) -> tuple[Span, ...]:
    """The spans of a trace that is continued, with one more for what its author wrote."""
    if trace.author is None or len(trace.text) == trace.prefix_length:
        return trace.spans
    written = Span(trace.prefix_length, len(trace.text), "written", author=trace.author.model)
    return (*trace.spans, written)


class Change(NamedTuple):
    """An edit of a text as one stretch that was replaced: what stands before and behind it is as it was.

    Args:
        head: characters at the beginning that are unchanged.
        tail: characters at the end that are unchanged.
        old_length: of the text before the edit.
        new_length: of the text behind it.
    """

    head: int
    tail: int
    old_length: int
    new_length: int

    def stretch(self, start: int, stop: int) -> tuple[int, int]:
        """Where a stretch of the old text stands in the new one; empty (start >= stop) where nothing of it is left.

        A stretch that held all that was replaced holds what stands there now; text that is put in at its edge is no
        part of it.
        """
        tail_start = self.old_length - self.tail
        growth = self.new_length - self.old_length
        is_insertion = tail_start == self.head
        if is_insertion:
            holds_change = start < self.head < stop
        else:
            holds_change = start <= self.head and tail_start <= stop
        if holds_change:
            return start, stop + growth
        if self.head <= start:
            # Behind the head it begins in the tail, or in what was replaced: then with the tail.
            start = max(start, tail_start) + growth
        if stop > tail_start:
            stop += growth
        else:
            stop = min(stop, self.head)
        return start, stop


def change_of(old: str, new: str) -> Change:
    """How an edit changed a text: most cut off an end or a beginning, or go on with it."""
    if old.startswith(new) or new.startswith(old):
        head, tail = min(len(old), len(new)), 0
    elif old.endswith(new) or new.endswith(old):
        head, tail = 0, min(len(old), len(new))
    else:
        head = _shared_length(old, new)
        tail = _shared_length(old[head:][::-1], new[head:][::-1])
    return Change(head, tail, len(old), len(new))


def changes_of(old: str, new: str) -> list[Change]:
    """How an edit changed a text, in as many stretches as their words tell apart, from the last to the first.

    Each change is one of the text that those before it in the list have made.
    """
    whole = change_of(old, new)
    if whole.head + whole.tail == min(len(old), len(new)):
        return [whole]  # something was put in or taken out at one place
    shared = _shared_words(old, new, whole)
    if not shared:
        return [whole]
    shared.append((len(old) - whole.tail, len(new) - whole.tail, whole.tail))
    changes: list[Change] = []
    old_start = new_start = whole.head
    for old_stop, new_stop, length in shared:
        if old[old_start:old_stop] != new[new_start:new_stop]:
            # What stands behind it is as it will be, and what stands before it is as it was.
            tail = len(new) - new_stop
            old_length = old_stop + tail
            new_length = old_start + new_stop - new_start + tail
            changes.append(Change(old_start, tail, old_length, new_length))
        old_start, new_start = old_stop + length, new_stop + length
    return changes[::-1]


def _shared_words(old: str, new: str, whole: Change) -> list[tuple[int, int, int]]:
    """The words that stand in both texts in the same order: place in the old text, in the new one, and length.

    There are none where too few are shared: then the new text did not come from the old one word by word.
    """
    old_words = list(_WORD.finditer(old, whole.head, len(old) - whole.tail))
    new_words = list(_WORD.finditer(new, whole.head, len(new) - whole.tail))
    matcher = SequenceMatcher(None, [w[0] for w in old_words], [w[0] for w in new_words])
    shared: list[tuple[int, int, int]] = []
    if matcher.ratio() < LEAST_SHARED:
        return shared
    for first, second, count in matcher.get_matching_blocks():
        for number in range(count):
            word, same_word = old_words[first + number], new_words[second + number]
            shared.append((word.start(), same_word.start(), len(word[0])))
    return shared


def shown_length(trace: Trace, text: str) -> int:
    """How much of an edited text stood there before the author wrote: as much of the old prefix as is still there."""
    stop = trace.prefix_length
    if stop:
        _, stop = _place_after(changes_of(trace.text, text), 0, stop)
    return max(0, stop)


def spans_after_edit(trace: Trace, text: str) -> tuple[Span, ...]:
    """The spans that say who wrote a text or what is not learnt of it, where that stands now."""
    if not trace.spans:
        return ()
    spans: list[Span] = []
    changes = changes_of(trace.text, text)
    for span in trace.spans:
        start, stop = _place_after(changes, span.start, span.stop)
        says_learning = span.kind in LEARNING_KINDS or span.weight == 0.0
        if says_learning and start < stop:
            spans.append(span._replace(start=start, stop=stop))
    return tuple(spans)


def _place_after(changes: Sequence[Change], start: int, stop: int) -> tuple[int, int]:
    """Where a stretch of the old text stands behind all changes; empty where nothing of it is left."""
    for change in changes:
        start, stop = change.stretch(start, stop)
        if start >= stop:
            return stop, stop
    return start, stop


def _shared_length(one: str, other: str) -> int:
    """With how many equal characters two texts begin."""
    for place, (character, other_character) in enumerate(zip(one, other, strict=False)):
        if character != other_character:
            return place
    return min(len(one), len(other))
