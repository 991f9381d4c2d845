"""The generation loop: each different prompt is read once, then all samples are written side by side.

Every sample has its own random numbers, so it does not depend on its neighbours. Where what is written outgrows the
cache, half of the rows wait, and are read again with what they have written when the others are done.

Shapes below: P different prompts, R rows, A rows that are still written, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from potstill.models.local import weights
from potstill.models.model import RowProgress, RowReport, Sampling

CACHE_STEP = 64  # positions by which a cache grows
FINISHED_SHARE = 0.25  # of the rows of a batch at which the finished ones are dropped from it
REPORT_SECONDS = 0.5  # between two reports of how far a batch is
SAMPLED_ROWS = (
    16  # of which a CPU holds probabilities at a time: tables of them all would leave its caches
)
NUCLEUS_TOKENS = (
    1024  # among which the nucleus is looked for first; a larger one is found by sorting all
)


@dataclass(frozen=True, slots=True)
class GenerationBatch:
    """What is generated together: R rows over P different prompts.

    Args:
        prompts: token ids, P lists.
        prompt_of_row: which prompt each row continues, R.
        seeds: one for each row's random generator, R.
        max_new_tokens: one limit a row, R.
        sampling: how to sample, the same for all rows.
        end_ids: ids that end a row.
        has_stop_string: whether a row's newest ids contain a stop string; None without stop strings.
        token_texts: the text of every token, V; needed for `ban_first`.
        unknown_ids: of the V ids, those that the tokenizer has no token for; they are never drawn.
        max_positions: rows times positions that the cache may hold; 0 is no limit.
    """

    prompts: Sequence[Sequence[int]]
    prompt_of_row: Sequence[int]
    seeds: Sequence[int]
    max_new_tokens: Sequence[int]
    sampling: Sampling
    end_ids: Sequence[int]
    has_stop_string: Callable[[Sequence[int]], bool] | None = None
    token_texts: Sequence[str] = ()
    unknown_ids: Sequence[int] = ()
    max_positions: int = 0


class GeneratedRow(NamedTuple):
    """The new ids of one row, the ending one included, whether it ended by itself, and the ids' logprobs if asked for.

    Log-probabilities are the model's own, before temperature, penalties and filters: what `likelihood` would give.
    """

    ids: list[int]
    stopped: bool
    logprobs: list[float] = []  # noqa: RUF012  read only


def generate_batch(
    model: Any, batch: GenerationBatch, report: RowReport | None = None
) -> list[GeneratedRow]:
    """Generate every row of a batch.

    Args:
        model: the checkpoint.
        batch: what is generated.
        report: told every `REPORT_SECONDS` how far each row is.
    """
    with torch.inference_mode():
        return _generate_batch(model, batch, report)


def _generate_batch(
    model: Any, batch: GenerationBatch, report: RowReport | None
) -> list[GeneratedRow]:
    written = _Written.of(batch, model.device)
    reporter = _Reporter(report) if report is not None else None
    # Rows that wait, each time with how many tokens they have written.
    waiting = [(torch.arange(len(batch.prompt_of_row), device=model.device), 0)]
    while waiting:
        rows, step = waiting.pop()
        waiting += _write_rows(model, batch, written, rows, first_step=step, reporter=reporter)
    return written.to_rows()


@dataclass(frozen=True, slots=True)
class _Written:
    """What the rows of a batch become.

    Args:
        ids: [R, T].
        logprobs: [R, T], or [R, 0] where they are not asked for.
        lengths: how many of a row's ids count, [R]; 0 until it is finished.
        stopped: whether a row ended by itself, [R] bool.
        open_lengths: how many ids an unfinished row had when it was last looked at, [R].
    """

    ids: Tensor
    logprobs: Tensor
    lengths: Tensor
    stopped: Tensor
    open_lengths: Tensor

    @classmethod
    def of(cls, batch: GenerationBatch, device: torch.device) -> _Written:
        """Nothing yet."""
        rows, steps = len(batch.prompt_of_row), max(batch.max_new_tokens)
        return cls(
            ids=torch.zeros(rows, steps, dtype=torch.long, device=device),
            logprobs=torch.zeros(rows, steps if batch.sampling.logprobs else 0, device=device),
            lengths=torch.zeros(rows, dtype=torch.long, device=device),
            stopped=torch.zeros(rows, dtype=torch.bool, device=device),
            open_lengths=torch.zeros(rows, dtype=torch.long, device=device),
        )

    def progress(self) -> list[RowProgress]:
        """How far each row is."""
        rows = []
        for length, open_length in zip(self.lengths.tolist(), self.open_lengths.tolist()):
            rows.append(RowProgress(length or open_length, is_finished=length > 0))
        return rows

    def to_rows(self) -> list[GeneratedRow]:
        """The finished rows."""
        columns = (self.ids, self.lengths, self.stopped, self.logprobs)
        generated = []
        for ids, length, has_stopped, logprobs in zip(*(column.tolist() for column in columns)):
            generated.append(GeneratedRow(ids[:length], has_stopped, logprobs[:length]))
        return generated


class _Reporter:
    """Says how far the rows are, no more often than every `REPORT_SECONDS`: counting makes a GPU wait."""

    def __init__(self, report: RowReport) -> None:
        self._report = report
        self._due = time.monotonic() + REPORT_SECONDS

    def is_due(self) -> bool:
        """Whether the last report is long enough ago."""
        return time.monotonic() >= self._due

    def __call__(self, written: _Written) -> None:
        """Report now."""
        self._report(written.progress())
        self._due = time.monotonic() + REPORT_SECONDS


def _write_rows(
    model: Any,
    batch: GenerationBatch,
    written: _Written,
    rows: Tensor,
    *,
    first_step: int,
    reporter: _Reporter | None,
) -> list[tuple[Tensor, int]]:
    """Write some rows to their ends.

    Args:
        model: the checkpoint.
        batch: whose rows they are.
        written: what they have written so far; changed in place.
        rows: [A] indices of rows.
        first_step: how many tokens each of them has written.
        reporter: says how far all rows of the batch are.

    Returns:
        The rows that had to wait for room, each time with how many tokens they have written.
    """
    state = _prefill(model, batch, rows, written.ids[:, :first_step])
    device = state.logits.device
    uniforms = _uniform_numbers(batch, device)  # [R, T] float64
    limits = torch.tensor(batch.max_new_tokens, device=device)  # [R]
    end_ids = torch.tensor(list(batch.end_ids), device=device)
    unknown_ids = torch.tensor(list(batch.unknown_ids), dtype=torch.long, device=device)

    # The rows that are still in the batch, A of them, and which of those are not finished.
    active = rows  # [A] indices of rows
    is_open = torch.ones(len(rows), dtype=torch.bool, device=device)  # [A]
    used_tokens = _used_tokens(batch, state.logits, rows, written.ids[:, :first_step])  # [A, V]
    waiting: list[tuple[Tensor, int]] = []

    for step in range(first_step, max(batch.max_new_tokens)):
        logits = penalise_repetition(
            state.logits, used_tokens, batch.sampling.repetition_penalty
        )  # [A, V]
        if len(unknown_ids):
            logits = logits.index_fill(1, unknown_ids, -torch.inf)
        _ban_beginnings(logits, written.ids[active, :step], batch)
        token = sample_tokens(logits, batch.sampling, uniforms[active, step])  # [A]
        written.ids[active, step] = token
        if batch.sampling.logprobs:
            token_logits = state.logits.gather(1, token[:, None]).squeeze(1)  # [A, V] -> [A]
            written.logprobs[active, step] = token_logits - state.logits.logsumexp(-1)

        # A row is finished at an end token, at a stop string, or at its limit.
        has_ended = torch.isin(token, end_ids)  # [A]
        new_ids = written.ids[active, : step + 1]  # [A, step + 1]
        has_ended = has_ended | _rows_with_stop_string(batch, new_ids, is_open)
        is_finished = is_open & (has_ended | (limits[active] == step + 1))
        written.lengths[active[is_finished]] = step + 1
        written.stopped[active[is_finished]] = has_ended[is_finished]
        is_open &= ~is_finished
        if not bool(is_open.any()):
            break
        if reporter is not None and reporter.is_due():
            written.open_lengths[active[is_open]] = step + 1
            reporter(written)
        if used_tokens is not None:
            used_tokens.scatter_(1, token[:, None], True)

        # Dropping rows copies the cache, so it waits until a share of them is finished, or there is no room.
        is_full = 0 < batch.max_positions < len(active) * (state.length + 1) and len(active) > 1
        if is_full and int(is_open.sum()) > len(active) // 2:
            open_rows = active[is_open]
            staying = open_rows[: max(1, len(active) // 2)]
            waiting.append((open_rows[len(staying) :], step + 1))
            is_open &= torch.isin(active, staying)
        if is_full or int((~is_open).sum()) >= max(1, FINISHED_SHARE * len(active)):
            active, token = active[is_open], token[is_open]  # [A] -> [fewer]
            if used_tokens is not None:
                used_tokens = used_tokens[is_open]
            state.select_rows(is_open)
            is_open = is_open[is_open]
        state.advance(model, token)
    return waiting


def sample_tokens(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """One token a row, by inverting the cumulative distribution in float64: a row depends on its own number alone.

    Args:
        logits: [R, V], float32.
        sampling: temperature 0 takes the most likely token.
        uniforms: [R], float64 in [0, 1).

    Returns:
        [R] token ids.
    """
    if sampling.temperature == 0:
        token = logits.argmax(-1)  # [R], of a NaN where there is one
        weights.check_no_nan(logits.gather(1, token[:, None]))
        return token
    row_count = SAMPLED_ROWS if logits.device.type == "cpu" else max(1, len(logits))
    tokens = []
    for part_logits, part_uniforms in zip(logits.split(row_count), uniforms.split(row_count)):
        tokens.append(_draw_tokens(part_logits, sampling, part_uniforms))
    return torch.cat(tokens)


def _draw_tokens(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """One token a row by its random number, [R]."""
    cumulative = filter_probabilities(logits, sampling).cumsum(-1)  # [R, V]
    total = cumulative[:, -1:]  # [R, 1]; not 1, since the filters do not normalise
    weights.check_no_nan(total)
    # Rounding may bring the product up to the total, behind which there is no token.
    highest = torch.nextafter(total, torch.zeros_like(total))
    wanted = torch.minimum(uniforms[:, None] * total, highest)  # [R, 1]
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(1)  # [R, 1] -> [R]


def filter_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities after temperature, top-k, then top-p, unnormalised: [R, V] float64."""
    scaled = logits.double()
    if sampling.temperature != 1:
        scaled = scaled / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        lowest_kept = scaled.topk(sampling.top_k, -1).values[:, -1:]  # [R, 1]
        scaled = scaled.masked_fill(scaled < lowest_kept, -torch.inf)
    probabilities = scaled.softmax(-1)
    if sampling.top_p < 1:
        probabilities = probabilities.masked_fill(_beyond_nucleus(probabilities, sampling.top_p), 0)
    return probabilities


def _beyond_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Which tokens are not among the fewest that have a share `top_p` together, [R, V] bool; of equal ones the last.

    Sorting a whole vocabulary takes longer than a step of a small model, and the nucleus is nearly always among the
    first of it.
    """
    candidate_count = min(NUCLEUS_TOKENS, probabilities.shape[-1])
    ordered = probabilities.topk(candidate_count, -1).values  # [R, C]
    # The mass before a token decides, so the token that crosses the line stays.
    is_beyond = ordered.cumsum(-1) - ordered >= top_p
    if candidate_count < probabilities.shape[-1] and not bool(is_beyond[:, -1].all()):
        ordered = probabilities.sort(dim=-1, descending=True).values  # [R, V]
        is_beyond = ordered.cumsum(-1) - ordered >= top_p
    is_beyond[:, 0] = False
    kept_count = (~is_beyond).sum(-1, keepdim=True)  # [R, 1]
    lowest = ordered.gather(1, kept_count - 1)  # [R, 1] of those that stay
    is_dropped = probabilities < lowest  # [R, V]

    # Of the tokens that are as probable as the last one that stays, the first of the vocabulary stay.
    kept_ties = kept_count - (ordered > lowest).sum(-1, keepdim=True)  # [R, 1]
    is_tie = probabilities == lowest
    if bool((is_tie.sum(-1, keepdim=True) > kept_ties).any()):
        is_dropped |= is_tie & (is_tie.cumsum(-1) > kept_ties)
    return is_dropped


@dataclass(slots=True)
class _DecodingState:
    """Where the rows stand.

    Args:
        logits: of the next token, [R, V].
        cache: keys and values of everything read and written.
        mask: which positions hold a token, [R, longest prompt + longest limit].
        position: of the newest token, [R].
        length: positions in the cache, padding included.
    """

    logits: Tensor
    cache: Cache
    mask: Tensor
    position: Tensor
    length: int

    def select_rows(self, is_open: Tensor) -> None:
        """Drop all rows but these ([R] bool); the logits follow with the next token."""
        _select_cache_rows(self.cache, is_open.nonzero().squeeze(1))
        self.mask, self.position = self.mask[is_open], self.position[is_open]

    def advance(self, model: Any, token: Tensor) -> None:
        """Feed one token a row, [R]."""
        self.position, self.length = self.position + 1, self.length + 1
        output = model(
            input_ids=token[:, None],
            attention_mask=self.mask[:, : self.length],
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1].float()  # [R, 1, V] -> [R, V]


def _prefill(
    model: Any, batch: GenerationBatch, rows: Tensor, written_ids: Tensor
) -> _DecodingState:
    """Read every different beginning once, padded on the left, then repeat caches and logits for the rows.

    Args:
        model: the checkpoint.
        batch: whose rows they are.
        rows: [A] indices of rows.
        written_ids: what each row of the batch has written, [R, step].
    """
    # Beginnings: the prompt with what the row has written behind it.
    index_of_beginning: dict[tuple[int, ...], int] = {}
    beginning_of_row: list[int] = []
    for row in rows.tolist():
        ids = (*batch.prompts[batch.prompt_of_row[row]], *written_ids[row].tolist())
        beginning_of_row.append(index_of_beginning.setdefault(ids, len(index_of_beginning)))
    beginnings = list(index_of_beginning)
    longest = max(len(ids) for ids in beginnings)

    ids = torch.zeros(len(beginnings), longest, dtype=torch.long)  # [P, longest]
    most_positions = longest + max(batch.max_new_tokens) - written_ids.shape[1]
    mask = torch.zeros(len(beginnings), most_positions, dtype=torch.bool)
    for row, beginning in enumerate(beginnings):
        ids[row, longest - len(beginning) :] = torch.tensor(beginning)
        mask[row, longest - len(beginning) :] = True
    device = model.device
    ids, mask = ids.to(device), mask.to(device)
    position = (mask[:, :longest].long().cumsum(1) - 1).clamp_min(0)  # [P, longest]

    layers = [GrowingLayer() for _ in range(model.config.get_text_config().num_hidden_layers)]
    cache = Cache(layers=layers)
    output = model(
        input_ids=ids,
        attention_mask=mask[:, :longest],
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    # From one row a beginning to one row a sample: [P, ...] -> [A, ...].
    repeats = torch.tensor(beginning_of_row, device=device)
    _select_cache_rows(cache, repeats)
    return _DecodingState(
        logits=output.logits[:, -1].float()[repeats],
        cache=cache,
        mask=mask[repeats],
        position=position[:, -1][repeats],
        length=longest,
    )


def _uniform_numbers(batch: GenerationBatch, device: torch.device) -> Tensor:
    """The random numbers of every row, [R, longest limit] float64, each row from its own seed."""
    numbers = torch.zeros(len(batch.seeds), max(batch.max_new_tokens), dtype=torch.float64)
    if batch.sampling.temperature > 0:
        for row, (seed, limit) in enumerate(zip(batch.seeds, batch.max_new_tokens)):
            generator = torch.Generator().manual_seed(seed)
            numbers[row, :limit] = torch.rand(limit, generator=generator, dtype=torch.float64)
    return numbers.to(device)


def _used_tokens(
    batch: GenerationBatch, logits: Tensor, rows: Tensor, written_ids: Tensor
) -> Tensor | None:
    """Which tokens each row already contains, [A, V] bool; None without a repetition penalty."""
    if batch.sampling.repetition_penalty == 1:
        return None
    used_tokens = torch.zeros(len(rows), logits.shape[-1], dtype=torch.bool)  # [A, V]
    for place, row in enumerate(rows.tolist()):
        prompt = batch.prompts[batch.prompt_of_row[row]]
        used_tokens[place, torch.tensor([*prompt, *written_ids[row].tolist()])] = True
    return used_tokens.to(logits.device)


def penalise_repetition(logits: Tensor, used_tokens: Tensor | None, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of used tokens (Keskar et al., arXiv:1909.05858)."""
    if used_tokens is None:
        return logits
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(used_tokens, penalised, logits)


def _ban_beginnings(logits: Tensor, new_ids: Tensor, batch: GenerationBatch) -> None:
    """Rule out the tokens that would make the completion begin with a banned string; changes `logits`."""
    banned = batch.sampling.ban_first
    if not banned or new_ids.shape[1] >= max(len(text.encode()) for text in banned):
        return
    for row, ids in enumerate(new_ids.tolist()):
        text = "".join(batch.token_texts[token] for token in ids)
        rests = tuple(
            string.removeprefix(text)
            for string in banned
            if string.startswith(text) and len(string) > len(text)
        )
        if rests:
            banned_ids = [
                token for token, piece in enumerate(batch.token_texts) if piece.startswith(rests)
            ]
            logits[row, banned_ids] = -torch.inf


def _rows_with_stop_string(batch: GenerationBatch, new_ids: Tensor, is_open: Tensor) -> Tensor:
    """Which open rows contain a stop string in their newest ids, [A] bool."""
    if batch.has_stop_string is None:
        return torch.zeros_like(is_open)
    has_stop = [
        row_is_open and batch.has_stop_string(ids)
        for ids, row_is_open in zip(new_ids.tolist(), is_open.tolist())
    ]
    return torch.tensor(has_stop, device=is_open.device)


def _select_cache_rows(cache: Cache, rows: Tensor) -> None:
    for layer in cache.layers:
        cast(GrowingLayer, layer).select_rows(rows)


class GrowingLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values in buffers that grow in steps: appending writes in place and copies nothing."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take shapes from the first keys and values, [R, heads, T, width]."""
        self.keys = key_states.new_empty(*key_states.shape[:2], 0, key_states.shape[3])
        self.values = value_states.new_empty(*value_states.shape[:2], 0, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append, and return everything so far as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        if self.length > self.keys.shape[2]:
            self.keys = self._grow_buffer(self.keys, start)
            self.values = self._grow_buffer(self.values, start)
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def select_rows(self, rows: Tensor) -> None:
        """Keep or repeat rows ([R] indices), in this order."""
        self.keys = self.keys[:, :, : self.length].index_select(0, rows)
        self.values = self.values[:, :, : self.length].index_select(0, rows)

    def _grow_buffer(self, buffer: Tensor, used: int) -> Tensor:
        """A copy of the buffer with places for the whole length, rounded up to `CACHE_STEP`."""
        capacity = -(-self.length // CACHE_STEP) * CACHE_STEP
        larger = buffer.new_empty(*buffer.shape[:2], capacity, buffer.shape[3])
        larger[:, :, :used] = buffer[:, :, :used]
        return larger

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that the mask covers."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """How many positions are stored."""
        return self.length

    def get_max_length(self) -> int:
        """No limit."""
        return -1
