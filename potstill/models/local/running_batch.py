"""Rows that come and go while others are written: continuous batching on one cache.

Every row ends at the newest position of the cache, so rows of any length stand side by side, padded on the left. A row
that is finished leaves its slot to a newcomer. Each row has its own random numbers, by its seed and the places of its
tokens: what it becomes depends on its neighbours by rounding alone, and it may be stopped, read again with what it has
written, and gone on with. `generate.py` writes a list of rows that is known beforehand, with the same sampler.

Shapes below: A slots, P beginnings that are read together, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, cast, final

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from potstill.models.local.generate import (
    FINISHED_SHARE,
    GrowingLayer,
    penalise_repetition,
    sample_tokens,
)
from potstill.models.local.logprobs import TopScores, hidden_states, score_logits, top_scores
from potstill.models.model import Sampling

RANDOM_NUMBERS = 64  # of a row, drawn at a time
TRIMMED_POSITIONS = 64  # that no row uses any more, at which the cache is cut on the left

RowEnd: TypeAlias = Literal["", "stop", "length", "cancelled", "error"]


@dataclass(slots=True, eq=False)
class Row:
    """One completion: what is asked, and what has become of it.

    Args:
        prompt: token ids.
        sampling: of its settings those count that choose a token: temperature, top_p, top_k, repetition_penalty.
        seed: of its random generator.
        max_new_tokens: with 0 the prompt is only scored.
        end_ids: ids that end it.
        has_stop_string: whether its newest ids hold a stop string; None without stop strings.
        top_logprobs: how many of the most probable tokens are scored beside each new one; None scores nothing.
        prompt_logprobs: the same of the prompt's tokens from the second on.
        on_change: told in the thread that writes it, after each of its tokens and at its end.
        ids: the new tokens, the ending one included.
        scores: of the new tokens: the model's own, before temperature, penalties and filters.
        prompt_scores: of the prompt's tokens from the second on.
        finish_reason: "" while it is written; "stop" at an end id or a stop string.
        error: why it failed.
        written_by: the content id of the checkpoint that wrote it.
    """

    prompt: Sequence[int]
    sampling: Sampling
    seed: int
    max_new_tokens: int
    end_ids: frozenset[int] = frozenset()
    has_stop_string: Callable[[Sequence[int]], bool] | None = None
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    on_change: Callable[[Row], None] | None = None
    ids: list[int] = field(default_factory=list)
    scores: TopScores = field(default_factory=TopScores.none)
    prompt_scores: TopScores | None = None
    finish_reason: RowEnd = ""
    error: str = ""
    written_by: str = ""
    _generator: torch.Generator | None = None
    _uniforms: list[float] = field(default_factory=list)
    _used_tokens: Tensor | None = None

    @property
    def beginning(self) -> tuple[int, ...]:
        """The prompt with what has been written behind it."""
        return (*self.prompt, *self.ids)

    @property
    def length(self) -> int:
        """Tokens of its beginning."""
        return len(self.prompt) + len(self.ids)

    @property
    def reads_only(self) -> bool:
        """Whether the beginning is read once and nothing after it: no keys and values have to be kept."""
        return self.max_new_tokens - len(self.ids) <= 1

    def finish(self, reason: RowEnd, error: str = "") -> None:
        """End it."""
        self.finish_reason, self.error = reason, error
        self._used_tokens = self._generator = None

    def uniform(self) -> float:
        """The random number of the next token, the same wherever and in whatever company it is written."""
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.seed)
            self._uniforms.clear()
        while len(self._uniforms) <= len(self.ids):
            numbers = torch.rand(RANDOM_NUMBERS, generator=self._generator, dtype=torch.float64)
            self._uniforms.extend(numbers.tolist())
        return self._uniforms[len(self.ids)]

    def used_tokens(self, vocabulary: int, device: torch.device) -> Tensor:
        """Which tokens it already contains, [V] bool; kept up to date by `append`."""
        if self._used_tokens is None:
            self._used_tokens = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            self._used_tokens[list(self.beginning)] = True
        return self._used_tokens

    def append(self, token: int) -> None:
        """Write a token, and end the row where it ends."""
        self.ids.append(token)
        if self._used_tokens is not None:
            self._used_tokens[token] = True
        has_stop_string = self.has_stop_string is not None and self.has_stop_string(self.ids)
        if token in self.end_ids or has_stop_string:
            self.finish("stop")
        elif len(self.ids) >= self.max_new_tokens:
            self.finish("length")


class SlotLayer(GrowingLayer):
    """One layer's keys and values, whose rows are replaced one by one; positions count from the right."""

    def pad_left(self, count: int) -> None:
        """Put empty positions before the first one."""
        for name in ("keys", "values"):
            buffer = getattr(self, name)[:, :, : self.length]
            empty = buffer.new_zeros(*buffer.shape[:2], count, buffer.shape[3])
            setattr(self, name, torch.cat([empty, buffer], 2))
        self.length += count

    def cut_left(self, count: int) -> None:
        """Drop the first positions."""
        self.keys = self.keys[:, :, count : self.length].contiguous()
        self.values = self.values[:, :, count : self.length].contiguous()
        self.length -= count

    def add_slots(self, count: int) -> None:
        """Put empty rows behind the last one."""
        self.keys = torch.cat([self.keys, self.keys.new_zeros(count, *self.keys.shape[1:])])
        self.values = torch.cat([self.values, self.values.new_zeros(count, *self.values.shape[1:])])

    def write_slots(self, slots: Tensor, other: GrowingLayer, rows: Tensor) -> None:
        """Copy rows ([R] indices) of another layer, no longer than this one, into slots ([R]), right-aligned."""
        start = self.length - other.length
        self.keys[slots, :, start : self.length] = other.keys[rows, :, : other.length]
        self.values[slots, :, start : self.length] = other.values[rows, :, : other.length]


class Reading(NamedTuple):
    """What reading P beginnings gives.

    Args:
        logits: of the token behind each beginning, [P, V] float32.
        cache: their keys and values, padded on the left; None where they were not asked for.
        scores: of the tokens from the second on, of the beginnings that were to be scored.
    """

    logits: Tensor
    cache: Cache | None
    scores: dict[int, TopScores]


@final
class RunningBatch:
    """The rows that are being written.

    Args:
        model: the checkpoint.
        unknown_ids: ids that the tokenizer has no token for; they are never drawn.
    """

    def __init__(self, model: Any, unknown_ids: Sequence[int]) -> None:
        self._model, self.unknown_ids = model, list(unknown_ids)
        self._slots: list[Row | None] = []
        self._cache = _empty_cache(model)
        self._starts = torch.zeros(0, dtype=torch.long, device=model.device)  # [A] first position
        self._logits = torch.zeros(0, device=model.device)  # [A, V] of each row's next token
        self.length = 0  # positions of the cache

    @property
    def rows(self) -> list[Row]:
        """The rows that are not finished."""
        return [row for row in self._slots if row is not None]

    def admit(self, newcomers: Sequence[Row]) -> None:
        """Read the beginnings of rows and take them in; finished rows leave them their slots."""
        reading, beginning_of_row = _read_rows_once(self._model, newcomers, with_cache=True)
        device = self._model.device
        rows = torch.tensor(beginning_of_row, device=device)  # [R] of P
        lengths = torch.tensor([row.length for row in newcomers])  # [R]
        if not self.rows:
            self._start_over(newcomers, reading, rows, lengths)
            return

        # The cache must be as long as the longest newcomer.
        missing = int(lengths.max()) - self.length
        if missing > 0:
            for layer in self._layers():
                layer.pad_left(missing)
            self._starts, self.length = self._starts + missing, self.length + missing
        slots = self._free_slots(len(newcomers))
        slot_ids = torch.tensor(slots, device=device)
        for layer, read_layer in zip(self._layers(), cast(Cache, reading.cache).layers):
            layer.write_slots(slot_ids, cast(GrowingLayer, read_layer), rows)
        self._starts[slot_ids] = (self.length - lengths).to(device)
        self._logits[slot_ids] = reading.logits[rows]
        for slot, row in zip(slots, newcomers, strict=True):
            self._slots[slot] = row

    def _start_over(
        self, newcomers: Sequence[Row], reading: Reading, rows: Tensor, lengths: Tensor
    ) -> None:
        """Take the cache of newcomers where there are no other rows."""
        self._cache = cast(Cache, reading.cache)
        for layer in self._layers():
            layer.select_rows(rows)
        self._slots = list(newcomers)
        self.length = self._layers()[0].length
        self._starts = (self.length - lengths).to(self._model.device)
        self._logits = reading.logits[rows]

    def _free_slots(self, count: int) -> list[int]:
        """Slots of finished rows, and new ones where these do not suffice."""
        slots = [slot for slot, row in enumerate(self._slots) if row is None][:count]
        added = count - len(slots)
        if added:
            slots += range(len(self._slots), len(self._slots) + added)
            for layer in self._layers():
                layer.add_slots(added)
            self._slots += [None] * added
            self._starts = torch.cat([self._starts, self._starts.new_zeros(added)])
            empty_logits = self._logits.new_zeros(added, self._logits.shape[1])
            self._logits = torch.cat([self._logits, empty_logits])
        return slots

    def write_tokens(self) -> list[Row]:
        """Draw the next token of every row; rows that end with it leave their slots.

        Returns:
            The rows that were written.
        """
        open_slots = [slot for slot, row in enumerate(self._slots) if row is not None]
        rows = self.rows
        logits = self._logits
        if len(open_slots) < len(self._slots):
            logits = logits[torch.tensor(open_slots, device=logits.device)]
        draw_tokens(rows, logits, self.unknown_ids)
        self._free_finished()
        return rows

    def remove(self, rows: Sequence[Row]) -> None:
        """Take rows out, finished or not."""
        removed = set(map(id, rows))
        for slot, row in enumerate(self._slots):
            if row is not None and id(row) in removed:
                self._slots[slot] = None

    def _free_finished(self) -> None:
        self.remove([row for row in self.rows if row.finish_reason])

    def advance(self) -> None:
        """Feed the newest token of every row to the model."""
        if not self.rows:
            return
        self._drop_empty_slots()
        tokens = [row.ids[-1] if row is not None else 0 for row in self._slots]
        is_open = torch.tensor([row is not None for row in self._slots])
        device = self._model.device
        positions = (self.length - self._starts) * is_open.to(device)  # [A]
        self.length += 1
        columns = torch.arange(self.length, device=device)
        output = self._model(
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=columns >= self._starts[:, None],  # [A, T]
            position_ids=positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._logits = output.logits[:, -1].float()  # [A, 1, V] -> [A, V]

    def _drop_empty_slots(self) -> None:
        """Take empty slots, and positions that no row uses, out of the cache once they are worth a copy of it."""
        open_slots = [slot for slot, row in enumerate(self._slots) if row is not None]
        empty_count = len(self._slots) - len(open_slots)
        if empty_count < max(1, FINISHED_SHARE * len(self._slots)):
            return
        kept_slots = torch.tensor(open_slots, device=self._starts.device)
        self._slots = [*self.rows]
        self._starts = self._starts[kept_slots]
        for layer in self._layers():
            layer.select_rows(kept_slots)
        unused = int(self._starts.min())
        if unused >= TRIMMED_POSITIONS:
            for layer in self._layers():
                layer.cut_left(unused)
            self._starts, self.length = self._starts - unused, self.length - unused

    def _layers(self) -> list[SlotLayer]:
        return cast(list[SlotLayer], self._cache.layers)


def read_rows(model: Any, rows: Sequence[Row], unknown_ids: Sequence[int]) -> None:
    """Score the prompts of rows that want no keys and values, and draw the one token of those that want one."""
    reading, beginning_of_row = _read_rows_once(model, rows, with_cache=False)
    writers = [index for index, row in enumerate(rows) if row.max_new_tokens > len(row.ids)]
    if writers:
        places = torch.tensor([beginning_of_row[index] for index in writers])
        logits = reading.logits[places.to(reading.logits.device)]
        draw_tokens([rows[index] for index in writers], logits, unknown_ids)
    for row in rows:
        if not row.finish_reason:
            row.finish("length")


def _read_rows_once(
    model: Any, rows: Sequence[Row], *, with_cache: bool
) -> tuple[Reading, list[int]]:
    """Read every different beginning once, and score the prompts that are to be scored.

    Returns:
        The reading, and the place of each row's beginning in it.
    """
    place_of: dict[tuple[int, ...], int] = {}
    place_of_row = [place_of.setdefault(row.beginning, len(place_of)) for row in rows]
    # A prompt is scored when it is read first, so nothing has been written behind it.
    scored: dict[int, int] = {}
    for place, row in zip(place_of_row, rows, strict=True):
        if row.prompt_logprobs is not None and row.prompt_scores is None:
            scored[place] = max(row.prompt_logprobs, scored.get(place, 0))
    reading = read_beginnings(model, list(place_of), scored, with_cache=with_cache)
    for place, row in zip(place_of_row, rows, strict=True):
        if row.prompt_logprobs is not None and row.prompt_scores is None:
            count = len(row.prompt) - 1
            row.prompt_scores = reading.scores[place].part(0, count, row.prompt_logprobs)
    return reading, place_of_row


def read_beginnings(
    model: Any,
    beginnings: Sequence[Sequence[int]],
    scored: dict[int, int],
    *,
    with_cache: bool,
) -> Reading:
    """Read beginnings once, padded on the left.

    Args:
        model: the checkpoint.
        beginnings: token ids, P lists.
        scored: which beginnings are scored, each with the number of its most probable tokens.
        with_cache: whether keys and values are kept.
    """
    longest = max(map(len, beginnings))
    ids = torch.zeros(len(beginnings), longest, dtype=torch.long)  # [P, T]
    mask = torch.zeros(len(beginnings), longest, dtype=torch.bool)  # [P, T]: holds a token
    for row, beginning in enumerate(beginnings):
        ids[row, longest - len(beginning) :] = torch.tensor(beginning)
        mask[row, longest - len(beginning) :] = True
    ids, mask = ids.to(model.device), mask.to(model.device)
    cache = _empty_cache(model) if with_cache else None
    hidden, head = hidden_states(  # [P, T, H]
        model,
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.long().cumsum(1) - 1).clamp_min(0),
        past_key_values=cache,
        use_cache=with_cache,
    )
    logits = head(hidden[:, -1]).float()  # [P, H] -> [P, V]

    scores = {}
    for row, k in scored.items():
        start = longest - len(beginnings[row])
        scores[row] = top_scores(hidden[row, start:-1], head, ids[row, start + 1 :], k)
    return Reading(logits, cache, scores)


def draw_tokens(rows: Sequence[Row], logits: Tensor, unknown_ids: Sequence[int]) -> None:
    """Append the next token to every row, of logits [R, V]; rows of equal settings are drawn together."""
    allowed_logits = logits
    if unknown_ids:
        unknown = torch.tensor(unknown_ids, dtype=torch.long, device=logits.device)
        allowed_logits = logits.index_fill(1, unknown, -torch.inf)
    tokens = torch.zeros(len(rows), dtype=torch.long, device=logits.device)  # [R]
    for sampling, indices in _group_by_sampling(rows).items():
        group = [rows[index] for index in indices]
        places = torch.tensor(indices, device=logits.device)
        group_logits = allowed_logits
        if len(group) < len(rows):
            group_logits = allowed_logits[places]  # [R, V] -> [group, V]
        if sampling.repetition_penalty != 1:
            used = [row.used_tokens(logits.shape[1], logits.device) for row in group]
            penalty = sampling.repetition_penalty
            group_logits = penalise_repetition(group_logits, torch.stack(used), penalty)
        uniforms = torch.zeros(len(group), dtype=torch.float64)
        if sampling.temperature > 0:
            uniforms = torch.tensor([row.uniform() for row in group], dtype=torch.float64)
        tokens[places] = sample_tokens(group_logits, sampling, uniforms.to(logits.device))

    _score_tokens(rows, logits, tokens)
    for row, token in zip(rows, tokens.tolist(), strict=True):
        row.append(token)


def _score_tokens(rows: Sequence[Row], logits: Tensor, tokens: Tensor) -> None:
    """Add the scores of the tokens that were drawn to the rows that want them."""
    scored = [index for index, row in enumerate(rows) if row.top_logprobs is not None]
    if not scored:
        return
    places = torch.tensor(scored, device=logits.device)
    largest_k = max(rows[index].top_logprobs or 0 for index in scored)
    scores = score_logits(logits[places], tokens[places], largest_k)
    for place, index in enumerate(scored):
        k = rows[index].top_logprobs or 0
        rows[index].scores.extend(scores.part(place, place + 1, k))


def _group_by_sampling(rows: Sequence[Row]) -> dict[Sampling, list[int]]:
    """Places of rows by their settings."""
    groups: dict[Sampling, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.sampling, []).append(index)
    return groups


def _empty_cache(model: Any) -> Cache:
    layers = [SlotLayer() for _ in range(model.config.get_text_config().num_hidden_layers)]
    return Cache(layers=layers)
