"""A teacher of another tokenizer: it reads the same text in its own tokens and its own template.

Both sides tokenize the same trace, each as it would train on it; their completions' tokens are put into groups of the
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
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.chat_template import ChatTemplate, read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.logprobs import counted_states, head, token_embeddings

OTHER_BYTES = "the two tokenizers spell it in different bytes"
NOTHING_IN_COMMON = "no group of bytes is learnt on both sides"
LONGEST_CHARACTER = 4  # tokens that an unfinished character can have, and one

# `group` numbers the bytes that a student's token belongs to, from 1; `theirs…` are the teacher's tokens, which of them
# count, their groups, and how many tokens there are.
COLUMNS = ("group", "theirs", "theirs_counted", "theirs_group", "theirs_length")


class SpelledTokenizer(NamedTuple):
    """A tokenizer with its template, and the bytes of each of its tokens."""

    chat: ChatTemplate
    token_bytes: Mapping[int, bytes]

    def has_end(self, ids: Sequence[int]) -> bool:
        """Whether token ids end with the end of the turn."""
        return self.chat.has_end(ids)

    def spell(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each token, without the end of the turn."""
        return [self.token_bytes.get(token, b"") for token in self.chat.without_end(ids)]


class AlignedRows(NamedTuple):
    """Rows with the teacher's tokens, None where they can't be aligned, and how many of these by reason."""

    rows: list[TokenizedRow | None]
    reasons: Mapping[str, int]


@final
class TokenizerPair:
    """A student's and a teacher's tokenizers.

    Args:
        start: the student's checkpoint.
        teacher: the teacher's.
        max_length: tokens that the teacher can read.
        chat_mode: what both templates are told (`TrainingSettings.chat`).
    """

    def __init__(
        self, start: Path, teacher: Path, max_length: int, chat_mode: str = "auto"
    ) -> None:
        self._student = spell_tokenizer(start, chat_mode)
        self._teacher = spell_tokenizer(teacher, chat_mode)
        self._max_length = max_length
        self._matched: Tensor | None = None

    def align(self, rows: Sequence[TokenizedRow], traces: Sequence[Trace]) -> AlignedRows:
        """Each row with the teacher's reading of its trace.

        Args:
            traces: those that the rows are of, one a row.
        """
        # Of each trace the teacher's row, or why it has none.
        tokenized = tokenize_traces(traces, self._teacher.chat, max_length=self._max_length)
        readings: dict[int, TokenizedRow | str] = {}
        for reading in tokenized.rows:
            readings[reading.trace_index] = reading
        for index, reason in tokenized.skipped:
            readings[index] = f"for the teacher: {reason}"

        aligned: list[TokenizedRow | None] = []
        reasons: Counter[str] = Counter()
        for index, (row, trace) in enumerate(zip(rows, traces, strict=True)):
            columns = self._align_row(row, readings[index], trace)
            if isinstance(columns, str):
                reasons[columns] += 1
                aligned.append(None)
            else:
                aligned.append(row.with_columns(**columns))
        return AlignedRows(aligned, dict(reasons))

    def align_rollouts(self, rows: Sequence[TokenizedRow], traces: Sequence[Trace]) -> AlignedRows:
        """The same of rows that the student wrote: their text is what their tokens spell.

        Args:
            traces: those whose prompts were answered, one a row.
        """
        written = [self._as_trace(row, trace) for row, trace in zip(rows, traces, strict=True)]
        return self.align(rows, written)

    def matched(self) -> Tensor:
        """Ids of the tokens that both vocabularies spell alike, the two end tokens among them, [U, 2]."""
        if self._matched is None:
            ends = ((self._student.chat.end_token_id, self._teacher.chat.end_token_id),)
            pairs = alignment.matched(self._student.token_bytes, self._teacher.token_bytes, ends)
            self._matched = torch.tensor(pairs)
        return self._matched

    def _align_row(
        self, row: TokenizedRow, reading: TokenizedRow | str, trace: Trace
    ) -> dict[str, Any] | str:
        """The row's COLUMNS; or why it can't be aligned.

        Args:
            reading: the teacher's row, or why there is none.
        """
        if isinstance(reading, str):
            return reading
        ids, teacher_ids = row.completion_ids, reading.completion_ids
        ended = self._student.has_end(ids), self._teacher.has_end(teacher_ids)
        pieces = self._student.spell(ids)
        try:
            if not ended[0]:
                pieces = pieces[: _whole_pieces(pieces, trace.text)]
            aligned = alignment.align(
                pieces, self._teacher.spell(teacher_ids), trace.text, ended=ended
            )
        except StageError:  # counted by the caller, and refused where nothing is left
            return OTHER_BYTES
        groups, teacher_groups, next_free = alignment.columns(
            aligned,
            row.is_learnt[row.prompt_length :].tolist(),
            reading.is_learnt[reading.prompt_length :].tolist(),
            start=1,
        )
        if next_free == 1:
            return NOTHING_IN_COMMON
        return {
            "group": _as_column(row, groups),
            "theirs": reading.input_ids,
            "theirs_counted": reading.is_learnt.astype(np.int32),
            "theirs_group": _as_column(reading, teacher_groups),
            "theirs_length": [len(reading)],
        }

    def _as_trace(self, row: TokenizedRow, trace: Trace) -> Trace:
        """What the student wrote, as a trace."""
        ids = row.completion_ids
        has_end = self._student.has_end(ids)
        pieces = self._student.spell(ids)
        if not has_end:
            pieces = pieces[: _whole_pieces(pieces)]
        text = b"".join(pieces).decode("utf-8", "replace")
        return Trace(
            trace.problem, trace.prompt, text=text, finish_reason="stop" if has_end else "length"
        )


@final
class CrossTokenizerReader:
    """Gives micro-batches of text that the student wrote the teacher's reading of it.

    Args:
        traces: the stage's rows, which a micro-batch names by its column `trace_index`.
    """

    def __init__(self, tokenizers: TokenizerPair, traces: Sequence[Trace]) -> None:
        self._tokenizers, self._traces = tokenizers, traces

    @property
    def matched(self) -> Tensor:
        """Tokens that both vocabularies have, [U, 2]."""
        return self._tokenizers.matched()

    def __call__(self, batch: Batch) -> Batch:
        """The micro-batch with the teacher's columns; a row that can't be aligned is not learnt."""
        device = batch["input_ids"].device
        rows = batching.rows_of(batch)
        traces = [self._traces[row.trace_index] for row in rows]
        aligned = self._tokenizers.align_rollouts(rows, traces).rows
        # A row that can't be aligned stays in its place, and is not learnt.
        readable = []
        for reading, row in zip(aligned, rows):
            readable.append(reading or mask_unaligned(row))
        columns = batching.to_device(batching.collate_rows(readable), device)
        is_lost_B = torch.tensor([row is None for row in aligned], device=device)
        completed = {**batch}
        for name in (*COLUMNS, "loss_weights"):
            completed[name] = columns[name]
        completed["unscored"] = is_lost_B[:, None].expand_as(batch["loss_weights"]).float()
        return completed


def unaligned_texts(count: int) -> StageError:
    """What is said where nothing that the student wrote can be compared."""
    return StageError(
        f"none of {count} texts that the student wrote can be aligned with its teacher's tokens",
        expected="text that both tokenizers keep byte for byte",
        fix="more rollouts a step (batch_size), or on_policy_fraction below 1",
    )


def spell_tokenizer(path: Path, chat_mode: str = "auto") -> SpelledTokenizer:
    """A checkpoint's tokenizer with the bytes of its tokens."""
    tokenizer = PromptEncoder(path).tokenizer
    chat = read_chat_template(tokenizer, chat_mode)
    special = set(chat.codec.special_tokens.control)
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()} - special
    token_bytes = alignment.token_bytes(tokenizer.get_vocab(), added=added, special=special)
    return SpelledTokenizer(chat, token_bytes)


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
    # [B, T - 1] of the student's tokens, [B, Tt - 1] of the teacher's: those that count as targets.
    counted_BT = batch["loss_weights"][:, 1:] > 0
    counted_BM = batch["theirs_counted"][:, 1:] > 0
    lengths_B = counted_BM.sum(1)
    rows_B = torch.arange(len(lengths_B), device=lengths_B.device)
    sequences_M = torch.repeat_interleave(rows_B, lengths_B)

    # Groups are numbered from 1 in each row; here they are numbered from 0 over the micro-batch, -1 for none.
    group_N = batch["group"][:, 1:][counted_BT]
    group_M = batch["theirs_group"][:, 1:][counted_BM]
    groups_of_row_B = batch["group"].amax(1)
    groups_before_B = groups_of_row_B.cumsum(0) - groups_of_row_B
    aligned_N = torch.where(group_N > 0, group_N - 1 + groups_before_B[x.groups], -1)
    aligned_M = torch.where(group_M > 0, group_M - 1 + groups_before_B[sequences_M], -1)

    teacher_batch = {"input_ids": batch["theirs"], "lengths": batch["theirs_length"][:, 0]}
    with torch.no_grad():
        other = OtherVocabulary(
            counted_states(teacher, teacher_batch, counted_BM, packing=packing),
            head(teacher),
            batch["theirs"][:, 1:][counted_BM],
            sequences_M,
            aligned_N=aligned_N,
            aligned_M=aligned_M,
            matched_U2=None if matched is None else matched.to(x.targets_N.device),
            embedded_M2Dt=token_embeddings(teacher, batch["theirs"], counted_BM),
        )
    embedded_N2D = token_embeddings(model, batch["input_ids"], counted_BT)
    return dataclasses.replace(x, teacher=other, embedded_N2D=embedded_N2D)


def mask_unaligned(row: TokenizedRow) -> TokenizedRow:
    """A row that no teacher reads: nothing of it is learnt."""
    empty = {
        "group": [0] * len(row),
        "theirs": [0, 0],
        "theirs_counted": [0, 0],
        "theirs_group": [0, 0],
        "theirs_length": [2],
    }
    return row.masked().with_columns(**empty)


def _whole_pieces(pieces: Sequence[bytes], text: str | None = None) -> int:
    """How many of the first pieces are the text, or any text: the limit may cut a rollout inside a character."""
    for count in range(len(pieces), max(-1, len(pieces) - LONGEST_CHARACTER), -1):
        try:
            spelled = b"".join(pieces[:count]).decode()
        except UnicodeDecodeError:  # one token less
            continue
        if text is None or spelled.removeprefix(" ") == text.removeprefix(" "):
            return count
    return len(pieces)


def _as_column(row: TokenizedRow, groups: Sequence[int]) -> list[int]:
    """The groups of a row's counted tokens as a column, 0 for none."""
    numbers = iter(groups)
    return [max(0, next(numbers)) if is_learnt else 0 for is_learnt in row.is_learnt.tolist()]
