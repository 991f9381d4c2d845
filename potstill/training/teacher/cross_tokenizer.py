"""A teacher of another tokenizer: it reads the same text in its own tokens and its own template.

Both sides render the same trace, each as it would train on it; their completions' tokens are put into groups of the
same bytes (`objectives.alignment`). A row carries the teacher's tokens in columns of their own length.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from potstill.errors import StageError
from potstill.models.local.prompt import PromptEncoder
from potstill.objectives import alignment
from potstill.objectives.inputs import Inputs, OtherVocabulary
from potstill.records import Trace
from potstill.training.dataset import collate
from potstill.training.dataset.chat_template import CLOSE, OPEN, ChatTemplate, read_chat_template
from potstill.training.dataset.collate import Batch
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.logprobs import counted_states, embedded, head

SPELLED = "the two tokenizers spell it in different bytes"
LONGEST = 4  # tokens that an unfinished character can have, and one
COLUMNS = ("group", "theirs", "theirs_counted", "theirs_group", "theirs_length")
APART = "no group of bytes is learnt on both sides"


class Side(NamedTuple):
    """A tokenizer with its template, and the bytes of each of its tokens."""

    chat: ChatTemplate
    spelled: Mapping[int, bytes]


class Attached(NamedTuple):
    """Rows with the teacher's tokens, None where they can't be aligned, and how many of these by reason."""

    rows: list[TokenizedRow | None]
    reasons: Mapping[str, int]


@final
class TokenizerPair:
    """A student's and a teacher's tokenizers.

    Args:
        start: the student's checkpoint.
        teacher: the teacher's.
        limit: tokens that the teacher can read.
        told: what both templates are told (`TrainingSettings.chat`).
    """

    def __init__(self, start: Path, teacher: Path, limit: int, told: str = "auto") -> None:
        self._mine, self._theirs = side(start, told), side(teacher, told)
        self._limit = limit
        self._matched: Tensor | None = None

    def attached(self, rows: Sequence[TokenizedRow], traces: Sequence[Trace]) -> Attached:
        """Each row with the teacher's reading of its trace.

        Args:
            traces: those that the rows are of, one a row.
        """
        there = tokenize_traces(traces, self._theirs.chat, max_length=self._limit)
        theirs: dict[int, TokenizedRow | str] = {row.trace_index: row for row in there.rows}
        theirs |= {at: f"for the teacher: {reason}" for at, reason in there.skipped}
        made: list[TokenizedRow | None] = []
        lost: Counter[str] = Counter()
        for at, (row, trace) in enumerate(zip(rows, traces, strict=True)):
            found = theirs[at]
            columns = found if isinstance(found, str) else self._columns(row, found, trace)
            if isinstance(columns, str):
                lost[columns] += 1
                made.append(None)
            else:
                made.append(row.with_columns(**columns))
        return Attached(made, dict(lost))

    def written(self, rows: Sequence[TokenizedRow], traces: Sequence[Trace]) -> Attached:
        """The same of rows that the student wrote: their text is what their tokens spell.

        Args:
            traces: those whose prompts were answered, one a row.
        """
        return self.attached(
            rows, [self._answered(row, trace) for row, trace in zip(rows, traces, strict=True)]
        )

    def matched(self) -> Tensor:
        """Ids of the tokens that both vocabularies spell alike, the two end tokens among them, [U, 2]."""
        if self._matched is None:
            ends = ((self._mine.chat.end_token_id, self._theirs.chat.end_token_id),)
            found = alignment.matched(self._mine.spelled, self._theirs.spelled, ends)
            self._matched = torch.tensor(found)
        return self._matched

    def _columns(
        self, row: TokenizedRow, theirs: TokenizedRow, trace: Trace
    ) -> dict[str, Any] | str:
        """The row's columns: its groups numbered from 1, the teacher's tokens, weights and groups; or what is wrong."""
        mine, other = row.completion_ids, theirs.completion_ids
        ended = (
            mine[-1:] == [self._mine.chat.end_token_id],
            other[-1:] == [self._theirs.chat.end_token_id],
        )
        pieces = [
            [side.spelled.get(token, b"") for token in (ids[:-1] if end else ids)]
            for side, ids, end in zip((self._mine, self._theirs), (mine, other), ended)
        ]
        try:
            kept = pieces[0] if ended[0] else pieces[0][: _whole(pieces[0], trace.text)]
            found = alignment.align(kept, pieces[1], trace.text, ended=ended)
        except StageError:  # counted by the caller, and refused where nothing is left
            return SPELLED
        counts = row.is_learnt[row.prompt_length :].tolist()
        theirs_counts = theirs.is_learnt[theirs.prompt_length :].tolist()
        a, b, free = alignment.columns(found, counts, theirs_counts, start=1)
        if free == 1:
            return APART
        return {
            "group": _spread(row, a),
            "theirs": theirs.input_ids,
            "theirs_counted": theirs.is_learnt.astype(np.int32),
            "theirs_group": _spread(theirs, b),
            "theirs_length": [len(theirs)],
        }

    def _answered(self, row: TokenizedRow, trace: Trace) -> Trace:
        ids = row.completion_ids
        ended = ids[-1:] == [self._mine.chat.end_token_id]
        pieces = [self._mine.spelled.get(token, b"") for token in (ids[:-1] if ended else ids)]
        text = b"".join(pieces if ended else pieces[: _whole(pieces)]).decode("utf-8", "replace")
        return Trace(trace.problem, trace.prompt, text=text, finish="stop" if ended else "length")


@final
class CrossTokenizerReader:
    """Gives micro-batches of text that the student wrote the teacher's reading of it.

    Args:
        traces: the stage's rows, which a micro-batch names by its column `trace`.
    """

    def __init__(self, across: TokenizerPair, traces: Sequence[Trace]) -> None:
        self._across, self._traces = across, traces

    @property
    def matched(self) -> Tensor:
        """Tokens that both vocabularies have."""
        return self._across.matched()

    def __call__(self, batch: Batch) -> Batch:
        """The micro-batch with the teacher's columns; a row that can't be aligned is not learnt."""
        rows = collate.rows_of(batch)
        read = self._across.written(rows, [self._traces[row.trace_index] for row in rows]).rows
        made = [found or unaligned(row) for found, row in zip(read, rows)]
        fresh = collate.to_device(collate.collate_rows(made), batch["input_ids"].device)
        lost = torch.tensor([row is None for row in read], device=batch["input_ids"].device)
        unscored = lost[:, None].expand_as(batch["loss_weights"]).float()
        return {
            **batch,
            **{name: fresh[name] for name in (*COLUMNS, "loss_weights")},
            "unscored": unscored,
        }


def unaligned_texts(count: int) -> StageError:
    """What is said where nothing that the student wrote can be compared."""
    return StageError(
        f"none of {count} texts that the student wrote can be aligned with its teacher's tokens",
        expected="text that both tokenizers keep byte for byte",
        fix="more rollouts a step (batch_size), or rollout below 1",
    )


def side(path: Path, told: str = "auto") -> Side:
    """A checkpoint's tokenizer, spelled out."""
    tokenizer = PromptEncoder(path).tokenizer
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special -= {OPEN, CLOSE}  # they are text of a trace
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()} - special
    spelled = alignment.token_bytes(tokenizer.get_vocab(), added=added, special=special)
    return Side(read_chat_template(tokenizer, told), spelled)


def with_other_tokenizer(
    x: Inputs,
    model: Any,
    batch: Batch,
    teacher: Any,
    *,
    matched: Tensor | None = None,
    packing: bool = False,
) -> Inputs:
    """The inputs with the teacher at its own positions, and both sides' embeddings.

    Args:
        teacher: a model in no graph.
        matched: see `OtherVocabulary`.
    """
    theirs = {"input_ids": batch["theirs"], "lengths": batch["theirs_length"][:, 0]}
    counted_BT, counted_BM = batch["loss_weights"][:, 1:] > 0, batch["theirs_counted"][:, 1:] > 0
    lengths = counted_BM.sum(1)
    mine_N, theirs_M = batch["group"][:, 1:][counted_BT], batch["theirs_group"][:, 1:][counted_BM]
    sequences_M = torch.repeat_interleave(
        torch.arange(len(lengths), device=lengths.device), lengths
    )
    sizes = batch["group"].amax(1)
    before = sizes.cumsum(0) - sizes
    with torch.no_grad():
        other = OtherVocabulary(
            counted_states(teacher, theirs, counted_BM, packing=packing),
            head(teacher),
            batch["theirs"][:, 1:][counted_BM],
            sequences_M,
            aligned_N=torch.where(mine_N > 0, mine_N - 1 + before[x.groups], -1),
            aligned_M=torch.where(theirs_M > 0, theirs_M - 1 + before[sequences_M], -1),
            matched_U2=None if matched is None else matched.to(x.targets_N.device),
            embedded_M2Dt=embedded(teacher, theirs["input_ids"], counted_BM),
        )
    return dataclasses.replace(
        x, teacher=other, embedded_N2D=embedded(model, batch["input_ids"], counted_BT)
    )


def unaligned(row: TokenizedRow) -> TokenizedRow:
    """A row that no teacher reads: nothing of it is learnt."""
    none = {
        "group": [0] * len(row),
        "theirs": [0, 0],
        "theirs_counted": [0, 0],
        "theirs_group": [0, 0],
    }
    return row.masked().with_columns(**none, theirs_length=[2])


def _whole(pieces: Sequence[bytes], text: str | None = None) -> int:
    """How many of the first pieces are the text, or any text: the limit may cut a rollout inside a character."""
    for count in range(len(pieces), max(-1, len(pieces) - LONGEST), -1):
        try:
            spelled = b"".join(pieces[:count]).decode()
        except UnicodeDecodeError:  # one token less
            continue
        if text is None or spelled.removeprefix(" ") == text.removeprefix(" "):
            return count
    return len(pieces)


def _spread(row: TokenizedRow, kept: Sequence[int]) -> list[int]:
    """Numbers of a row's counted tokens as a column, 0 for none."""
    numbers = iter(kept)
    return [max(0, next(numbers)) if is_learnt else 0 for is_learnt in row.is_learnt.tolist()]
