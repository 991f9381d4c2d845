"""The one place where a trace becomes token ids and weights. No torch in here.

A row is the template's prompt (with generation prompt), then the trace's text in its own tokens, then the end of turn.
The template never sees the completion: Qwen3's and others cut or re-insert `<think>` blocks in assistant turns. Text is
cut into pieces where its author changes (given, written, tool), as when it was sampled, so the loss begins and ends
exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from potstill.records import Span, Trace
from potstill.training.dataset.chat_template import CLOSE, OPEN, Chat

OTHERS = ("tool", "user")  # spans that somebody else wrote


@dataclass(frozen=True, slots=True)
class Row:
    """A rendered trace.

    Args:
        trace: index of the trace among those rendered.
        ids: token ids, length T.
        weights: weight of each token as a *target*, length T; 0 where it is not learnt.
        prompt: how many of the tokens are the prompt.
        columns: more of each token as a target, by name: lists as long as `ids`, of numbers or of equally long lists.
    """

    trace: int
    ids: tuple[int, ...]
    weights: tuple[float, ...]
    prompt: int
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendering:
    """Rendered rows, and what was left out: (index of the trace, reason)."""

    rows: tuple[Row, ...]
    refused: tuple[tuple[int, str], ...]

    @property
    def reasons(self) -> dict[str, int]:
        """How many traces were left out, by reason."""
        return dict(sorted(Counter(reason for _, reason in self.refused).items()))


class Piece(NamedTuple):
    """A stretch of a row that is tokenised on its own; `at` is where it begins in the trace's text, -1 the prompt."""

    text: str
    at: int
    learnt: bool


TOO_LONG = "longer than max_length"


def render(
    traces: Sequence[Trace], chat: Chat, *, max_length: int, prompts: bool = False
) -> Rendering:
    """Token ids and weights of each trace; a trace that can't be rendered exactly is left out with the reason.

    A token's weight is the product of the weights of the spans that cover it and of the trace's weight. Nothing of the
    prompt, of the given part, of a tool's or user's turn or of a span with weight 0 is learnt. The end-of-turn token is
    learnt where the author stopped by itself, and absent where it was cut off.

    Args:
        max_length: rows with more tokens are left out, never truncated.
        prompts: the prompts alone, of blank traces too: the student will write the rest.
    """
    if prompts:
        return _prompts(traces, chat, max_length)
    rows: list[Row] = []
    refused: list[tuple[int, str]] = []
    planned: list[tuple[int, list[Piece]]] = []
    for index, trace in enumerate(traces):
        pieces = _pieces(trace, chat)
        if isinstance(pieces, str):
            refused.append((index, pieces))
        else:
            planned.append((index, pieces))
    texts = list(dict.fromkeys(piece.text for _, pieces in planned for piece in pieces))
    ids = dict(
        zip(texts, chat.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    )
    learnt = list(
        dict.fromkeys(piece.text for _, pieces in planned for piece in pieces if piece.learnt)
    )
    changed = _changed(learnt, ids, chat)
    for index, pieces in planned:
        row = _row(index, traces[index], pieces, ids, chat)
        problem = _problem(row, pieces, changed, max_length)
        if problem:
            refused.append((index, problem))
        else:
            rows.append(row)
    return Rendering(tuple(rows), tuple(sorted(refused)))


def _prompts(traces: Sequence[Trace], chat: Chat, max_length: int) -> Rendering:
    ids = [
        chat.tokenizer(chat.prompt(t.prompt), add_special_tokens=False)["input_ids"] for t in traces
    ]
    rows = [
        Row(i, tuple(row), (0.0,) * len(row), len(row))
        for i, row in enumerate(ids)
        if len(row) < max_length
    ]
    return Rendering(
        tuple(rows), tuple((i, TOO_LONG) for i, row in enumerate(ids) if len(row) >= max_length)
    )


def _pieces(trace: Trace, chat: Chat) -> list[Piece] | str:
    """The row's pieces, or why there is no row."""
    if trace.error:
        return "failed generation"
    if not trace.new.strip():
        return "empty completion"
    contents = (
        [trace.prompt] if isinstance(trace.prompt, str) else [turn.content for turn in trace.prompt]
    )
    if chat.control.search(trace.text) or any(map(chat.control.search, contents)):
        return "text holds a control token"
    prompt = _prompt(trace, chat)
    if prompt is None:
        return "the template's generation prompt closes <think> before the trace's reasoning"
    return [Piece(prompt, -1, False), *_authors(trace)]


def _prompt(trace: Trace, chat: Chat) -> str | None:
    """The prompt, without its open `<think>` where the text brings its own; None where the block is closed already."""
    prompt = chat.prompt(trace.prompt)
    if not trace.text.lstrip().startswith(OPEN):
        return prompt
    bare = prompt.rstrip()
    if bare.endswith(OPEN):
        return bare.removesuffix(OPEN)
    return None if bare.endswith(CLOSE) else prompt


def _authors(trace: Trace) -> list[Piece]:
    """The text cut where its author changes: the given part, then own writing and others' turns."""
    others = [(max(s.start, trace.given), s.stop) for s in trace.spans if s.kind in OTHERS]
    others = sorted((start, stop) for start, stop in others if stop > start)
    pieces, at = [Piece(trace.text[: trace.given], 0, False)], trace.given
    for start, stop in others:
        if stop <= at:
            continue
        start = max(start, at)
        pieces.append(Piece(trace.text[at:start], at, True))
        pieces.append(Piece(trace.text[start:stop], start, False))
        at = stop
    pieces.append(Piece(trace.text[at:], at, True))
    return [piece for piece in pieces if piece.text]


def _row(
    index: int, trace: Trace, pieces: Sequence[Piece], ids: dict[str, list[int]], chat: Chat
) -> Row:
    row: list[int] = []
    weights: list[float] = []
    spans = [span for span in trace.spans if span.weight != 1.0 and span.kind not in OTHERS]
    for piece in pieces:
        tokens = ids[piece.text]
        row.extend(tokens)
        if not piece.learnt:
            weights.extend([0.0] * len(tokens))
        elif not spans:
            weights.extend([trace.weight] * len(tokens))
        else:
            weights.extend(trace.weight * share for share in _shares(piece, spans, chat))
    if trace.finish == "stop":
        row.append(chat.end)
        weights.append(trace.weight)
    return Row(index, tuple(row), tuple(weights), len(ids[pieces[0].text]))


def _shares(piece: Piece, spans: Sequence[Span], chat: Chat) -> list[float]:
    """Product of the weights of the spans that share a visible character with each token of a piece."""
    places = chat.tokenizer(piece.text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    shares = []
    for start, stop in places:
        token = piece.text[start:stop]
        if (
            token.strip()
        ):  # a token's leading space often lies in the span before it, and belongs to neither
            start, stop = stop - len(token.lstrip()), start + len(token.rstrip())
        share = 1.0
        for span in spans:
            if span.start < piece.at + stop and piece.at + start < span.stop:
                share *= span.weight
        shares.append(share)
    return shares


def _changed(texts: Sequence[str], ids: dict[str, list[int]], chat: Chat) -> set[str]:
    """The texts that decoding their tokens does not give back, byte for byte."""
    back = chat.tokenizer.batch_decode(
        [ids[text] for text in texts], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return {text for text, again in zip(texts, back) if text != again}


def _problem(row: Row, pieces: Sequence[Piece], changed: set[str], max_length: int) -> str:
    if any(piece.learnt and piece.text in changed for piece in pieces):
        return "the tokenizer does not give the text back"
    if any(weight < 0 for weight in row.weights):
        return "negative weight"
    if not any(row.weights):
        return "nothing to learn: every token is masked"
    return TOO_LONG if len(row.ids) > max_length else ""
