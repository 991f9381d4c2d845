"""The generation loop: each different prompt is read once, then all samples are written side by side.

Every sample has its own random numbers, so it does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from potstill.models.model import Sampling

_CHUNK = 64  # positions by which a cache grows
_COMPACT = 0.25  # share of finished rows at which they are dropped from the batch


@dataclass(frozen=True, slots=True)
class Batch:
    """What is generated together: R rows over P different prompts.

    Args:
        prompts: token ids, P lists.
        owner: which prompt each row continues, R.
        seeds: one for each row's random generator, R.
        limits: new tokens at most, R.
        sampling: how to draw, the same for all rows.
        ends: ids that end a row.
        stopped: whether a row's newest ids contain a stop string; None without stop strings.
        pieces: the text of every token; needed for `ban_first`.
    """

    prompts: Sequence[Sequence[int]]
    owner: Sequence[int]
    seeds: Sequence[int]
    limits: Sequence[int]
    sampling: Sampling
    ends: Sequence[int]
    stopped: Callable[[Sequence[int]], bool] | None = None
    pieces: Sequence[str] = ()


class Drawn(NamedTuple):
    """The new ids of one row, the ending one included, whether it ended by itself, and the ids' logprobs if asked for.

    Log-probabilities are the model's own, before temperature, penalties and filters: what `likelihood` would give.
    """

    ids: list[int]
    stopped: bool
    logprobs: list[float] = []  # noqa: RUF012  read only


def decode(model: Any, batch: Batch) -> list[Drawn]:
    """Generate every row of a batch."""
    with torch.inference_mode():
        return _decode(model, batch)


def _decode(model: Any, batch: Batch) -> list[Drawn]:
    state = _prefill(model, batch)
    rows, device = len(batch.owner), state.logits.device
    uniforms, limits = _uniforms(batch, device), torch.tensor(batch.limits, device=device)
    ends = torch.tensor(list(batch.ends), device=device)
    written = torch.zeros(rows, max(batch.limits), dtype=torch.long, device=device)
    counts, stopped = limits.clone(), torch.zeros(rows, dtype=torch.bool, device=device)
    alive, open_rows = (
        torch.arange(rows, device=device),
        torch.ones(rows, dtype=torch.bool, device=device),
    )
    seen = _seen(batch, state.logits)
    said = torch.zeros(rows, max(batch.limits) if batch.sampling.logprobs else 0, device=device)
    for step in range(max(batch.limits)):
        logits = _penalise(state.logits, seen, batch.sampling.repetition_penalty)
        _ban(logits, written[alive, :step], batch)
        token = draw(logits, batch.sampling, uniforms[alive, step])
        written[alive, step] = token
        if batch.sampling.logprobs:
            said[alive, step] = state.logits.gather(1, token[:, None]).squeeze(
                1
            ) - state.logits.logsumexp(-1)
        ended = torch.isin(token, ends) | _stops(batch, written[alive, : step + 1], open_rows)
        finished = open_rows & (ended | (limits[alive] == step + 1))
        counts[alive[finished]], stopped[alive[finished]] = step + 1, ended[finished]
        open_rows &= ~finished
        if not bool(open_rows.any()):
            break
        if seen is not None:
            seen.scatter_(1, token[:, None], True)
        if int((~open_rows).sum()) >= max(1, _COMPACT * len(alive)):
            alive, token, seen = (
                alive[open_rows],
                token[open_rows],
                None if seen is None else seen[open_rows],
            )
            state.keep(open_rows)
            open_rows = open_rows[open_rows]
        state.advance(model, token)
    drawn = zip(written.tolist(), counts.tolist(), stopped.tolist(), said.tolist())
    return [Drawn(ids[:n], by, logprobs[:n]) for ids, n, by, logprobs in drawn]


def draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """One token a row, by inverting the cumulative distribution in float64: a row depends on its own number alone.

    Args:
        logits: [R, V], float32.
        uniforms: [R], float64 in [0, 1).

    Returns:
        [R] token ids.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = filtered(logits, sampling)
    total = probabilities.cumsum(-1)
    mass = total[:, -1:]
    wanted = torch.minimum(uniforms[:, None] * mass, torch.nextafter(mass, torch.zeros_like(mass)))
    return torch.searchsorted(total, wanted, right=True).squeeze(1)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities after temperature, top-k, then top-p, unnormalised: [R, V] float64."""
    scaled = logits.double() / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, -1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = scaled.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        beyond = (
            ordered.cumsum(-1) - ordered >= sampling.top_p
        )  # the token that crosses the line stays
        beyond[:, 0] = False
        probabilities = probabilities.masked_fill(
            torch.zeros_like(beyond).scatter(1, order, beyond), 0.0
        )
    return probabilities


@dataclass(slots=True)
class _State:
    """Where the rows stand: logits of the next token [R, V], cache, mask [R, L], position of the newest token [R]."""

    logits: Tensor
    cache: Cache
    mask: Tensor
    position: Tensor
    length: int

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (a boolean mask)."""
        _select(self.cache, rows.nonzero().squeeze(1))
        self.mask, self.position = self.mask[rows], self.position[rows]

    def advance(self, model: Any, token: Tensor) -> None:
        """Feed one token a row."""
        self.position, self.length = self.position + 1, self.length + 1
        output = model(
            input_ids=token[:, None],
            attention_mask=self.mask[:, : self.length],
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1].float()


def _prefill(model: Any, batch: Batch) -> _State:
    """Read every different prompt once, padded on the left, then repeat caches and logits for the rows."""
    device, longest = model.device, max(len(ids) for ids in batch.prompts)
    ids = torch.zeros(len(batch.prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(batch.prompts), longest + max(batch.limits), dtype=torch.bool)
    for row, prompt in enumerate(batch.prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = True
    ids, mask, owner = ids.to(device), mask.to(device), torch.tensor(batch.owner, device=device)
    position = (mask[:, :longest].long().cumsum(1) - 1).clamp_min(0)
    cache = Cache(
        layers=[GrowingLayer() for _ in range(model.config.get_text_config().num_hidden_layers)]
    )
    output = model(
        input_ids=ids,
        attention_mask=mask[:, :longest],
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    _select(cache, owner)
    return _State(
        output.logits[:, -1].float()[owner], cache, mask[owner], position[:, -1][owner], longest
    )


def _uniforms(batch: Batch, device: torch.device) -> Tensor:
    """The random numbers of every row, [R, longest limit] float64, each row from its own seed."""
    numbers = torch.zeros(len(batch.seeds), max(batch.limits), dtype=torch.float64)
    if batch.sampling.temperature > 0:
        for row, (seed, limit) in enumerate(zip(batch.seeds, batch.limits)):
            generator = torch.Generator().manual_seed(seed)
            numbers[row, :limit] = torch.rand(limit, generator=generator, dtype=torch.float64)
    return numbers.to(device)


def _seen(batch: Batch, logits: Tensor) -> Tensor | None:
    """Which tokens each row already contains, [R, V]; None without a repetition penalty."""
    if batch.sampling.repetition_penalty == 1:
        return None
    seen = torch.zeros(len(batch.prompts), logits.shape[-1], dtype=torch.bool)
    for row, ids in enumerate(batch.prompts):
        seen[row, torch.tensor(ids)] = True
    return seen[list(batch.owner)].to(logits.device)


def _penalise(logits: Tensor, seen: Tensor | None, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of seen tokens (Keskar et al., arXiv:1909.05858)."""
    if seen is None:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _ban(logits: Tensor, written: Tensor, batch: Batch) -> None:
    """Rule out the tokens that would make the completion begin with a banned string; changes `logits`."""
    banned = batch.sampling.ban_first
    if not banned or written.shape[1] >= max(len(text.encode()) for text in banned):
        return
    begun = ["".join(batch.pieces[token] for token in ids) for ids in written.tolist()]
    for row, text in enumerate(begun):
        rest = [
            string[len(text) :]
            for string in banned
            if string.startswith(text) and len(string) > len(text)
        ]
        if rest:
            ids = [
                token for token, piece in enumerate(batch.pieces) if piece.startswith(tuple(rest))
            ]
            logits[row, ids] = -torch.inf


def _stops(batch: Batch, written: Tensor, open_rows: Tensor) -> Tensor:
    """Which open rows contain a stop string in their newest ids."""
    if batch.stopped is None:
        return torch.zeros_like(open_rows)
    found = [
        is_open and batch.stopped(ids) for ids, is_open in zip(written.tolist(), open_rows.tolist())
    ]
    return torch.tensor(found, device=open_rows.device)


def _select(cache: Cache, rows: Tensor) -> None:
    for layer in cache.layers:
        cast(GrowingLayer, layer).select(rows)


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
            self.keys, self.values = self._grown(self.keys, start), self._grown(self.values, start)
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep or repeat rows, in this order."""
        self.keys = self.keys[:, :, : self.length].index_select(0, rows)
        self.values = self.values[:, :, : self.length].index_select(0, rows)

    def _grown(self, buffer: Tensor, used: int) -> Tensor:
        room = -(-self.length // _CHUNK) * _CHUNK
        larger = buffer.new_empty(*buffer.shape[:2], room, buffer.shape[3])
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
