"""The one place where a trace becomes token ids and loss weights. No torch in here.

A row is the template's prompt (with generation prompt), then the trace's text in its own tokens, then the end of turn.
The template never sees the completion: Qwen3's and others cut or re-insert `<think>` blocks in assistant turns. Text is
cut into pieces where it begins or ends to be learnt (shown, written, tool), so the loss begins and ends exactly. Then
`check_rows` decodes the rows again and refuses those that would teach the wrong thing; it trusts nothing of what made
them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from potstill.errors import StageError
from potstill.models.local.text_codec import (
    opens_thought,
    without_open_thought,
    without_surrogates,
)
from potstill.records import LEARNING_KINDS, Span, Trace, learns_end, learnt_stretches
from potstill.training.dataset.chat_template import CLOSE, OPEN, ChatTemplate
from potstill.training.dataset.training_dataset import RowsBuilder, TokenizedRow, TokenizedRows

TOO_LONG = "longer than max_length"
TRACES_AT_ONCE = 1024  # tokenized in one call; what the tokenizer returns is large


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Tokenized traces.

    Args:
        rows: of the traces that can be trained on.
        skipped: what was left out: (index of the trace, reason).
    """

    rows: TokenizedRows
    skipped: tuple[tuple[int, str], ...]

    @property
    def skip_reasons(self) -> dict[str, int]:
        """How many traces were left out, by reason."""
        return dict(sorted(Counter(reason for _, reason in self.skipped).items()))


class Piece(NamedTuple):
    """A stretch of a row that is tokenized on its own.

    Args:
        text: of the piece.
        start: where it begins in the trace's text; -1 is the prompt.
        is_learnt: whether its tokens have a loss.
    """

    text: str
    start: int
    is_learnt: bool


def tokenize_traces(
    traces: Sequence[Trace], template: ChatTemplate, *, max_length: int, folder: Path | None = None
) -> Tokenized:
    """Tokenize traces; one that can't be tokenized exactly is left out with the reason.

    A token's weight is the product of the weights of the spans that cover it and of the trace's weight. Nothing of the
    prompt, of text that was only shown, of a tool's or user's turn or of a span with weight 0 is learnt; what a model
    wrote in this run is, however many calls it took (`records.learnt_stretches`). The end-of-turn token is learnt where
    the author stopped by itself, and absent where a limit or a stop string ended the text.

    Args:
        max_length: rows with more tokens are left out, never truncated.
        folder: where arrays lie that are too large for memory; None is the system's temporary folder.
    """
    builder = RowsBuilder(folder)
    skipped: list[tuple[int, str]] = []
    for first in range(0, len(traces), TRACES_AT_ONCE):
        part = traces[first : first + TRACES_AT_ONCE]
        rows = _tokenize_part(part, first, template, max_length)
        for trace_index, row in enumerate(rows, first):
            if isinstance(row, str):
                skipped.append((trace_index, row))
            else:
                builder.append(row)
    return Tokenized(builder.build(), tuple(skipped))


def tokenize_prompts(
    traces: Sequence[Trace], template: ChatTemplate, *, max_length: int
) -> Tokenized:
    """Tokenize the prompts alone, of blank traces too: the student will write the rest.

    Args:
        max_length: a prompt must leave room for one token more.
    """
    builder = RowsBuilder()
    skipped: list[tuple[int, str]] = []
    for trace_index, trace in enumerate(traces):
        input_ids = template.encode_prompt(trace.prompt)
        if len(input_ids) >= max_length:
            skipped.append((trace_index, TOO_LONG))
            continue
        weights = np.zeros(len(input_ids), np.float32)
        builder.append(TokenizedRow.of(trace_index, input_ids, weights, len(input_ids)))
    return Tokenized(builder.build(), tuple(skipped))


def _tokenize_part(
    traces: Sequence[Trace], first_index: int, template: ChatTemplate, max_length: int
) -> Iterator[TokenizedRow | str]:
    """The row of each trace, or why it has none."""
    # All texts of the part, each once, and which of them are learnt.
    pieces_by_trace = [_split_pieces(trace, template) for trace in traces]
    prompts: dict[str, None] = {}
    learnt_texts: dict[str, None] = {}
    texts: dict[str, None] = {}
    for pieces in pieces_by_trace:
        if isinstance(pieces, str):
            continue
        prompts[pieces[0].text] = None
        for piece in pieces[1:]:
            texts[piece.text] = None
            if piece.is_learnt:
                learnt_texts[piece.text] = None

    # One call for all texts: a fast tokenizer is parallel inside, and equal prompts are tokenized once.
    ids_by_prompt: dict[str, list[int]] = {}
    if prompts:
        readable = [without_surrogates(prompt) for prompt in prompts]
        encoded = template.tokenizer(readable, add_special_tokens=False)["input_ids"]
        ids_by_prompt = dict(zip(prompts, encoded, strict=True))
    ids_of_texts = template.codec.encode_all(list(texts))
    ids_by_text = dict(zip(texts, ids_of_texts, strict=True))

    # What the tokens do not give back would be learnt as another text.
    changed_texts = set()
    for text in learnt_texts:
        if not template.codec.restores(text, ids_by_text[text]):
            changed_texts.add(text)

    # The prompt without loss, then the pieces of the completion.
    for trace_index, (trace, pieces) in enumerate(zip(traces, pieces_by_trace), first_index):
        if isinstance(pieces, str):
            yield pieces
            continue
        prompt_ids = ids_by_prompt[pieces[0].text]
        ids, weights = _join_pieces(trace, pieces[1:], ids_by_text, template)
        prompt_weights = [0.0] * len(prompt_ids)
        row = TokenizedRow.of(
            trace_index, [*prompt_ids, *ids], [*prompt_weights, *weights], len(prompt_ids)
        )
        is_changed = any(piece.is_learnt and piece.text in changed_texts for piece in pieces)
        yield _why_skipped(row, is_changed, max_length) or row


def _split_pieces(trace: Trace, template: ChatTemplate) -> list[Piece] | str:
    """The row's pieces, or why there is no row."""
    if trace.error:
        return "failed generation"
    learnt_text = "".join(trace.text[start:stop] for start, stop in learnt_stretches(trace))
    if not learnt_text.strip():
        return "empty completion"
    shown_texts = [trace.text]
    if isinstance(trace.prompt, str):
        shown_texts.append(trace.prompt)
    else:
        shown_texts += [message.content for message in trace.prompt]
    if any(template.control_tokens.search(text) for text in shown_texts):
        return "text holds a control token"
    prompt = render_learner_prompt(trace, template)
    if prompt is None:
        return "the template's generation prompt closes <think> before the trace's reasoning"
    return [Piece(prompt, -1, False), *_split_by_learning(trace)]


def render_learner_prompt(trace: Trace, template: ChatTemplate) -> str | None:
    """The prompt, without its open `<think>` where the text brings its own; None where the block is closed already."""
    prompt = template.render_prompt(trace.prompt)
    if opens_thought(trace.text) and prompt.rstrip().endswith(CLOSE):
        return None
    return without_open_thought(prompt, trace.text)


def _split_by_learning(trace: Trace) -> list[Piece]:
    """The text cut where it begins or ends to be learnt: what was only shown and what others wrote stands apart."""
    pieces = []
    position = 0
    for start, stop in learnt_stretches(trace):
        pieces.append(Piece(trace.text[position:start], position, False))
        pieces.append(Piece(trace.text[start:stop], start, True))
        position = stop
    pieces.append(Piece(trace.text[position:], position, False))
    return [piece for piece in pieces if piece.text]


def _join_pieces(
    trace: Trace,
    pieces: Sequence[Piece],
    ids_by_text: Mapping[str, Sequence[int]],
    template: ChatTemplate,
) -> tuple[list[int], list[float]]:
    """A completion's tokens and their weights."""
    input_ids: list[int] = []
    loss_weights: list[float] = []
    # Spans that make tokens count more or less; those of other kinds say what is learnt at all.
    weighted_spans = []
    for span in trace.spans:
        if span.weight != 1.0 and span.kind not in LEARNING_KINDS:
            weighted_spans.append(span)

    for piece in pieces:
        piece_ids = ids_by_text[piece.text]
        input_ids.extend(piece_ids)
        if not piece.is_learnt:
            loss_weights.extend([0.0] * len(piece_ids))
        elif not weighted_spans:
            loss_weights.extend([trace.weight] * len(piece_ids))
        else:
            span_weights = _span_weights(piece, weighted_spans, template)
            loss_weights.extend(trace.weight * weight for weight in span_weights)
    if learns_end(trace):
        input_ids.append(template.end_token_id)
        loss_weights.append(trace.weight)
    return input_ids, loss_weights


def _span_weights(piece: Piece, spans: Sequence[Span], template: ChatTemplate) -> list[float]:
    """Product of the weights of the spans that share a visible character with each token of a piece."""
    weights = []
    for start, stop in template.codec.encode_with_offsets(piece.text).offsets:
        token = piece.text[start:stop]
        if token.strip():
            # A token's leading space often lies in the span before it, and belongs to neither.
            start, stop = stop - len(token.lstrip()), start + len(token.rstrip())
        # Where the token lies in the trace's text, as spans are counted.
        first, end = piece.start + start, piece.start + stop
        weight = 1.0
        for span in spans:
            if span.start < end and first < span.stop:
                weight *= span.weight
        weights.append(weight)
    return weights


def _why_skipped(row: TokenizedRow, is_changed: bool, max_length: int) -> str:
    """Why a row is left out; "" where it is trained on."""
    if is_changed:
        return "the tokenizer does not give the text back"
    if (row.loss_weights < 0).any():
        return "negative weight"
    if not row.loss_weights.any():
        return "nothing to learn: every token is masked"
    if len(row) > max_length:
        return TOO_LONG
    return ""


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
    opened = OPEN if template.codec.decode(row.prompt_ids).rstrip().endswith(OPEN) else ""
    if has_end:
        completion_ids.pop()
    return DecodedRow(
        trace,
        completion=opened + template.codec.decode(completion_ids),
        learnt_text=template.codec.decode(learnt_ids),
        expected_text=_expected_text(trace),
        learns_end=has_end and bool(row.is_learnt[-1]),
    )


def _expected_text(trace: Trace) -> str:
    """The characters that should be learnt, straight from the definition."""
    masks = _masks(trace)
    stretches = learnt_stretches(trace)
    if not masks:
        return "".join(trace.text[start:stop] for start, stop in stretches)
    return "".join(_unmasked_characters(trace, stretches, masks))


def _unmasked_characters(
    trace: Trace, stretches: Sequence[tuple[int, int]], masks: Sequence[Span]
) -> Iterator[str]:
    for start, stop in stretches:
        for place in range(start, stop):
            if not any(mask.start <= place < mask.stop for mask in masks):
                yield trace.text[place]


def _masks(trace: Trace) -> list[Span]:
    """The spans whose weight takes text out of the loss, which may end within a token."""
    masks = []
    for span in trace.spans:
        if span.weight == 0.0 and span.kind not in LEARNING_KINDS:
            masks.append(span)
    return masks


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
    return row.learns_end != learns_end(row.trace)


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
        "the loss does not cover the text that is learnt, or covers more",
        _has_wrong_loss,
        "check `prefix_length`, spans and weights of the trace",
    ),
    Fault(
        "the end of turn is learnt where the author did not end its answer, or missing where it did",
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
