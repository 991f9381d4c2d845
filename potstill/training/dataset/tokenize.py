"""The one place where a trace becomes token ids and loss weights. No torch in here.

A row is the template's prompt (with generation prompt), then the trace's text in its own tokens, then the end of turn.
The template never sees the completion: Qwen3's and others cut or re-insert `<think>` blocks in assistant turns. Text is
cut into pieces where its author changes (given, written, tool), as when it was sampled, so the loss begins and ends
exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from potstill.records import Span, Trace
from potstill.training.dataset.chat_template import CLOSE, OPEN, ChatTemplate
from potstill.training.dataset.rows import RowsBuilder, TokenizedRow, TokenizedRows

OTHER_AUTHORS = ("tool", "user")  # kinds of spans that somebody else wrote
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
    prompt, of the given part, of a tool's or user's turn or of a span with weight 0 is learnt. The end-of-turn token is
    learnt where the author stopped by itself, and absent where it was cut off.

    Args:
        max_length: rows with more tokens are left out, never truncated.
        folder: where arrays lie that are too large for memory; None is the system's temporary folder.
    """
    builder = RowsBuilder(folder)
    skipped: list[tuple[int, str]] = []
    for first in range(0, len(traces), TRACES_AT_ONCE):
        part = traces[first : first + TRACES_AT_ONCE]
        for trace_index, row in enumerate(_tokenize_part(part, first, template, max_length), first):
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
        prompt = template.render_prompt(trace.prompt)
        input_ids = template.tokenizer(prompt, add_special_tokens=False)["input_ids"]
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
    pieces_by_trace = [_split_pieces(trace, template) for trace in traces]
    learnt_texts: dict[str, None] = {}
    texts: dict[str, None] = {}
    for pieces in pieces_by_trace:
        if isinstance(pieces, str):
            continue
        for piece in pieces:
            texts[piece.text] = None
            if piece.is_learnt:
                learnt_texts[piece.text] = None

    # One call for all texts: a fast tokenizer is parallel inside, and equal prompts are tokenized once.
    ids_by_text: dict[str, list[int]] = {}
    if texts:
        encoded = template.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        ids_by_text = dict(zip(texts, encoded, strict=True))
    changed_texts = _texts_not_restored(list(learnt_texts), ids_by_text, template)

    for trace_index, (trace, pieces) in enumerate(zip(traces, pieces_by_trace), first_index):
        if isinstance(pieces, str):
            yield pieces
            continue
        row = _join_pieces(trace_index, trace, pieces, ids_by_text, template)
        is_changed = any(piece.is_learnt and piece.text in changed_texts for piece in pieces)
        yield _why_skipped(row, is_changed, max_length) or row


def _split_pieces(trace: Trace, template: ChatTemplate) -> list[Piece] | str:
    """The row's pieces, or why there is no row."""
    if trace.error:
        return "failed generation"
    if not trace.new.strip():
        return "empty completion"
    shown = [trace.prompt] if isinstance(trace.prompt, str) else [m.content for m in trace.prompt]
    if any(template.control_tokens.search(text) for text in (trace.text, *shown)):
        return "text holds a control token"
    prompt = _prompt_text(trace, template)
    if prompt is None:
        return "the template's generation prompt closes <think> before the trace's reasoning"
    return [Piece(prompt, -1, False), *_split_by_author(trace)]


def _prompt_text(trace: Trace, template: ChatTemplate) -> str | None:
    """The prompt, without its open `<think>` where the text brings its own; None where the block is closed already."""
    prompt = template.render_prompt(trace.prompt)
    if not trace.text.lstrip().startswith(OPEN):
        return prompt
    bare = prompt.rstrip()
    if bare.endswith(OPEN):
        return bare.removesuffix(OPEN)
    return None if bare.endswith(CLOSE) else prompt


def _split_by_author(trace: Trace) -> list[Piece]:
    """The text cut where its author changes: the given part, then own writing and others' turns."""
    others = []
    for span in trace.spans:
        start = max(span.start, trace.prefix_length)
        if span.kind in OTHER_AUTHORS and span.stop > start:
            others.append((start, span.stop))

    pieces = [Piece(trace.text[: trace.prefix_length], 0, False)]
    position = trace.prefix_length
    for start, stop in sorted(others):
        if stop <= position:  # inside a turn that was cut out already
            continue
        start = max(start, position)
        pieces.append(Piece(trace.text[position:start], position, True))
        pieces.append(Piece(trace.text[start:stop], start, False))
        position = stop
    pieces.append(Piece(trace.text[position:], position, True))
    return [piece for piece in pieces if piece.text]


def _join_pieces(
    trace_index: int,
    trace: Trace,
    pieces: Sequence[Piece],
    ids_by_text: Mapping[str, Sequence[int]],
    template: ChatTemplate,
) -> TokenizedRow:
    input_ids: list[int] = []
    loss_weights: list[float] = []
    weighted_spans = []
    for span in trace.spans:
        if span.weight != 1.0 and span.kind not in OTHER_AUTHORS:
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
    if trace.finish_reason == "stop":
        input_ids.append(template.end_token_id)
        loss_weights.append(trace.weight)
    prompt_length = len(ids_by_text[pieces[0].text])
    return TokenizedRow.of(trace_index, input_ids, loss_weights, prompt_length)


def _span_weights(piece: Piece, spans: Sequence[Span], template: ChatTemplate) -> list[float]:
    """Product of the weights of the spans that share a visible character with each token of a piece."""
    encoded = template.tokenizer(piece.text, add_special_tokens=False, return_offsets_mapping=True)
    weights = []
    for start, stop in encoded["offset_mapping"]:
        token = piece.text[start:stop]
        if token.strip():
            # A token's leading space often lies in the span before it, and belongs to neither.
            start, stop = stop - len(token.lstrip()), start + len(token.rstrip())
        weight = 1.0
        for span in spans:
            if span.start < piece.start + stop and piece.start + start < span.stop:
                weight *= span.weight
        weights.append(weight)
    return weights


def _texts_not_restored(
    texts: Sequence[str], ids_by_text: Mapping[str, Sequence[int]], template: ChatTemplate
) -> set[str]:
    """The texts that decoding their tokens does not give back, byte for byte."""
    decoded = template.tokenizer.batch_decode(
        [ids_by_text[text] for text in texts],
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    return {text for text, restored in zip(texts, decoded) if text != restored}


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
