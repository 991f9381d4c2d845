"""Before training: look at the rows as the model will see them, and refuse those that would teach the wrong thing.

Nothing that the tokenizing code did is trusted: token ids and loss are decoded and compared with the traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from potstill.errors import StageError
from potstill.records import Span, Trace
from potstill.training.dataset.chat_template import OPEN, ChatTemplate
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.tokenize import OTHER_AUTHORS, TOO_LONG, Tokenized

MAX_DECODED = 2000  # rows, evenly spaced; tokenizing itself checks the text of every row


class DecodedRow(NamedTuple):
    """A row decoded, beside what it should be.

    Args:
        trace: that the row is of.
        completion: the whole completion as the model sees it.
        learnt_text: the part with a loss.
        expected_text: the part that should have one.
        learns_end: whether the end of turn is learnt.
    """

    trace: Trace
    completion: str
    learnt_text: str
    expected_text: str
    learns_end: bool


class Fault(NamedTuple):
    """A way in which rows teach the wrong thing."""

    description: str
    has_fault: Callable[[DecodedRow], bool]
    fix: str


def check_rows(
    traces: Sequence[Trace],
    tokenized: Tokenized,
    template: ChatTemplate,
    *,
    max_length: int,
    max_dropped_share: float = 0.0,
) -> None:
    """Refuse with a StageError what would train the wrong thing.

    Args:
        traces: what was tokenized; rows and skipped traces point into it.
        max_dropped_share: share of the traces that may be left out because they are too long.
    """
    check_lengths(traces, tokenized, max_length, max_dropped_share)
    if not tokenized.rows:
        reasons = "; ".join(f"{n}: {reason}" for reason, n in tokenized.skip_reasons.items())
        raise StageError(
            f"none of {len(traces)} rows can be trained ({reasons or 'the stage is empty'})",
            expected="at least one row with a completion that the loss covers",
            fix="look at the run's funnel for what dropped the rows, and at spans and weights for what masks them",
        )
    step = max(1, len(tokenized.rows) // MAX_DECODED)
    decoded = []
    for row in tokenized.rows[::step]:
        decoded.append(_decode_row(traces[row.trace_index], row, template))
    for fault in FAULTS:
        _refuse_fault(fault, decoded)


def check_lengths(
    traces: Sequence[Trace], tokenized: Tokenized, max_length: int, max_dropped_share: float
) -> None:
    """Refuse where more than the share `max_dropped_share` is left out as too long."""
    too_long = sum(reason == TOO_LONG for _, reason in tokenized.skipped)
    if too_long > max_dropped_share * len(traces):
        needed_share = math.ceil(100 * too_long / len(traces)) / 100
        raise StageError(
            f"{too_long} of {len(traces)} rows longer than max_length={max_length}: their answers would be cut off",
            expected=f"at most {max_dropped_share:.1%} of the rows (max_dropped_share={max_dropped_share:g})",
            fix="raise max_length up to the model's context, sample shorter completions, "
            f"or leave the long rows out with max_dropped_share={needed_share}",
        )


def _decode_row(trace: Trace, row: TokenizedRow, template: ChatTemplate) -> DecodedRow:
    completion_ids = row.completion_ids
    has_end = completion_ids[-1:] == [template.end_token_id]
    stop = len(row) - has_end
    learnt_ids = row.input_ids[:stop][row.is_learnt[:stop]].tolist()
    # The generation prompt may open the thought: that is part of the assistant's turn.
    opened = OPEN if _decode(row.prompt_ids, template).rstrip().endswith(OPEN) else ""
    if has_end:
        completion_ids.pop()
    return DecodedRow(
        trace,
        completion=opened + _decode(completion_ids, template),
        learnt_text=_decode(learnt_ids, template),
        expected_text=_expected_text(trace),
        learns_end=has_end and bool(row.is_learnt[-1]),
    )


def _decode(input_ids: list[int], template: ChatTemplate) -> str:
    text = template.tokenizer.decode(
        input_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return str(text)


def _expected_text(trace: Trace) -> str:
    """The characters that should be learnt, straight from the definition."""
    masks = _masks(trace)
    if not masks:
        return trace.new
    return "".join(_unmasked_characters(trace, masks))


def _unmasked_characters(trace: Trace, masks: Sequence[Span]) -> Iterator[str]:
    for place in range(trace.prefix_length, len(trace.text)):
        if not any(mask.start <= place < mask.stop for mask in masks):
            yield trace.text[place]


def _masks(trace: Trace) -> list[Span]:
    return [span for span in trace.spans if span.kind in OTHER_AUTHORS or span.weight == 0.0]


def _is_doubled(row: DecodedRow) -> bool:
    extra_blocks = row.completion.count(OPEN) - row.trace.text.count(OPEN)
    starts_inside = "</think>" in row.trace.text and OPEN not in row.trace.text
    text = row.trace.text.strip()
    return extra_blocks > starts_inside or (bool(text) and row.completion.count(text) > 1)


def _has_vanished(row: DecodedRow) -> bool:
    return row.trace.text not in row.completion


def _has_wrong_loss(row: DecodedRow) -> bool:
    """Whether something that should be learnt is not, or something masked is."""
    if not _masks(row.trace):
        return row.learnt_text != row.expected_text
    # A mask may end within a token: what is visible of the loss must still be expected, and be half of it or more.
    expected = "".join(row.expected_text.split())
    learnt = "".join(row.learnt_text.split())
    remaining = iter(row.expected_text)
    is_in_order = all(character in remaining for character in learnt)
    return not is_in_order or 2 * len(learnt) < len(expected)


def _has_wrong_end(row: DecodedRow) -> bool:
    return row.learns_end != (row.trace.finish_reason == "stop")


FAULTS = (
    Fault(
        "the trace's text is doubled, or stands in a second <think> block",
        _is_doubled,
        "use a chat template whose generation prompt does not open or close <think> itself",
    ),
    Fault(
        "the trace's text has vanished from the tokenized row",
        _has_vanished,
        "the chat template must not touch the completion: tokenize the prompt and append the text's own tokens",
    ),
    Fault(
        "the loss does not cover the written text, or covers more",
        _has_wrong_loss,
        "check `prefix_length`, spans and weights of the trace",
    ),
    Fault(
        "the end of turn is learnt where the author was cut off, or missing where it stopped",
        _has_wrong_end,
        "check `finish_reason` of the trace and eos_token of the tokenizer",
    ),
)


def _refuse_fault(fault: Fault, decoded: Sequence[DecodedRow]) -> None:
    faulty = [row for row in decoded if fault.has_fault(row)]
    if faulty:
        example = faulty[0]
        raise StageError(
            f"{fault.description}: {len(faulty)} of {len(decoded)} rows, for instance {example.trace.id}: "
            f"loss on {_quote_short(example.learnt_text)}",
            expected=f"loss on {_quote_short(example.expected_text)}",
            fix=fault.fix,
        )


def _quote_short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:30]} … {text[-30:]}")
