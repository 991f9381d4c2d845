"""Before training: look at the rows as the model will see them, and refuse those that would teach the wrong thing.

It trusts nothing that rendering did: it decodes ids and loss and compares them with the traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from potstill.errors import StageError
from potstill.records import Span, Trace
from potstill.training.dataset.chat_template import OPEN, Chat
from potstill.training.dataset.tokenize import OTHERS, TOO_LONG, Rendering, Row

LOOKED_AT = (
    2000  # rows decoded at most, evenly spaced; rendering itself checks the text of every row
)


class Seen(NamedTuple):
    """A row decoded: the whole completion as the model sees it, the part with a loss, and what should have one."""

    trace: Trace
    completion: str
    loss: str
    wanted: str
    ended: bool


def check(
    traces: Sequence[Trace],
    rendering: Rendering,
    chat: Chat,
    *,
    max_length: int,
    max_dropped_share: float = 0.0,
) -> None:
    """Refuse with a StageError what would train the wrong thing.

    Args:
        traces: what was rendered; rows and refusals point into it.
        max_dropped_share: share of the traces that may be left out because they are too long.
    """
    check_lengths(traces, rendering, max_length, max_dropped_share)
    if not rendering.rows:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in rendering.reasons.items())
        raise StageError(
            f"none of {len(traces)} rows can be trained ({reasons or 'the stage is empty'})",
            expected="at least one row with a completion that the loss covers",
            fix="look at the run's funnel for what dropped the rows, and at spans and weights for what masks them",
        )
    step = max(1, len(rendering.rows) // LOOKED_AT)
    seen = [_decode(traces[row.trace], row, chat) for row in rendering.rows[::step]]
    for name, test, fix in FAULTS:
        _refuse(name, [one for one in seen if test(one)], len(seen), fix)


def check_lengths(
    traces: Sequence[Trace], rendering: Rendering, max_length: int, max_dropped_share: float
) -> None:
    """Refuse where more than the share `max_dropped_share` is left out as too long."""
    long = sum(reason == TOO_LONG for _, reason in rendering.refused)
    if long > max_dropped_share * len(traces):
        raise StageError(
            f"{long} of {len(traces)} rows longer than max_length={max_length}: their answers would be cut off",
            expected=f"at most {max_dropped_share:.1%} of the rows (max_dropped_share={max_dropped_share:g})",
            fix="raise max_length up to the model's context, sample shorter completions, "
            f"or leave the long rows out with max_dropped_share={math.ceil(100 * long / len(traces)) / 100}",
        )


def _decode(trace: Trace, row: Row, chat: Chat) -> Seen:
    ended = bool(row.ids) and row.ids[-1] == chat.end and row.weights[-1] > 0
    stop = len(row.ids) - (row.ids[-1:] == (chat.end,))
    learnt = [token for token, weight in zip(row.ids[:stop], row.weights) if weight > 0]
    prompt = _text(row.ids[: row.prompt], chat)
    opened = (
        OPEN if prompt.rstrip().endswith(OPEN) else ""
    )  # the generation prompt is part of the assistant's turn
    completion = opened + _text(row.ids[row.prompt : stop], chat)
    return Seen(trace, completion, _text(learnt, chat), _wanted(trace), ended)


def _text(ids: Sequence[int], chat: Chat) -> str:
    return str(
        chat.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    )


def _wanted(trace: Trace) -> str:
    """The characters that should be learnt, straight from the definition."""
    masks = [span for span in trace.spans if span.kind in OTHERS or span.weight == 0.0]
    if not masks:
        return trace.new
    free = (
        i
        for i in range(trace.given, len(trace.text))
        if not any(mask.start <= i < mask.stop for mask in masks)
    )
    return "".join(trace.text[i] for i in free)


def _vanished(seen: Seen) -> bool:
    return seen.trace.text not in seen.completion


def _doubled(seen: Seen) -> bool:
    extra = seen.completion.count(OPEN) - seen.trace.text.count(OPEN)
    starts_inside = "</think>" in seen.trace.text and OPEN not in seen.trace.text
    text = seen.trace.text.strip()
    return extra > starts_inside or (bool(text) and seen.completion.count(text) > 1)


def _outside(seen: Seen) -> bool:
    """Whether something that should be learnt is not, or something masked is."""
    if not _masks(seen.trace):
        return seen.loss != seen.wanted
    rest = iter(seen.wanted)
    loss = "".join(
        seen.loss.split()
    )  # a mask may end within a token; what is visible of the loss must still be wanted
    return not all(character in rest for character in loss) or 2 * len(loss) < len(
        "".join(seen.wanted.split())
    )


def _unended(seen: Seen) -> bool:
    return seen.ended != (seen.trace.finish == "stop")


def _masks(trace: Trace) -> list[Span]:
    return [span for span in trace.spans if span.kind in OTHERS or span.weight == 0.0]


Fault = tuple[str, Callable[[Seen], bool], str]
FAULTS: tuple[Fault, ...] = (
    (
        "the trace's text is doubled, or stands in a second <think> block",
        _doubled,
        "use a chat template whose generation prompt does not open or close <think> itself",
    ),
    (
        "the trace's text has vanished from the rendered row",
        _vanished,
        "the chat template must not touch the completion: render the prompt and append the text's own tokens",
    ),
    (
        "the loss does not cover the written text, or covers more",
        _outside,
        "check `given`, spans and weights of the trace",
    ),
    (
        "the end of turn is learnt where the author was cut off, or missing where it stopped",
        _unended,
        "check `finish` of the trace and eos_token of the tokenizer",
    ),
)


def _refuse(name: str, bad: Sequence[Seen], of: int, fix: str) -> None:
    if bad:
        example = bad[0]
        raise StageError(
            f"{name}: {len(bad)} of {of} rows, for instance {example.trace.id}: loss on {_short(example.loss)}",
            expected=f"loss on {_short(example.wanted)}",
            fix=fix,
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:30]} … {text[-30:]}")
