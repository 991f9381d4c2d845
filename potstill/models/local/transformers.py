"""Local checkpoints on CPU or GPU: planned batches, prefix continuation, likelihoods."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import torch

from potstill.models.local import checkpoint, weights
from potstill.models.local.batcher import Gather
from potstill.models.local.generate import Batch, Drawn, decode
from potstill.models.local.logprobs import score
from potstill.models.local.prompt import Encoder
from potstill.models.model import Completion, Request
from potstill.records import Prompt, Tokens, digest

CACHE_BYTES = {"cpu": 1 << 30, "cuda": 24 << 30}  # keys and values of one batch, at its longest
SCORE_TOKENS = {"cpu": 8192, "cuda": 65536}  # positions of one likelihood batch, padding included


@final
class Local:
    """A transformers checkpoint in a folder; weights load on first use. Safetensors only, no code from the folder runs.

    Args:
        path: the checkpoint folder.
        dtype: "auto" is float32 on a CPU and bfloat16 on a GPU.
        device: "auto" takes a GPU if there is one.
        threads: CPU threads of torch, for the whole process; 0 leaves them as they are.
        batch: rows generated together at most.
        chat: "auto" needs a chat template, "thinking" and "no-thinking" tell Qwen3's and its like which way to answer;
            "plain" or False treats prompts as plain text.
        gather: requests that threads make while a batch is being computed form the next batch together. Off, each call
            is computed alone: slower under `each`, and exactly the same texts however the threads happen to run.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        dtype: str = "auto",
        device: str = "auto",
        threads: int = 0,
        batch: int = 256,
        chat: str | bool = "auto",
        gather: bool = True,
    ) -> None:
        self.weights = Path(path)
        checkpoint.check(self.weights)
        self.device = weights.device(device)
        self.dtype = weights.dtype(dtype, self.device)
        self.encoder = Encoder(self.weights, chat)
        self._batch, self._threads = batch, threads
        self._config = checkpoint.config(self.weights)
        self._lock = (
            threading.RLock()
        )  # `each` asks from many threads; one model computes one batch at a time
        self._gathered = Gather(self._write) if gather else self._write

    @cached_property
    def id(self) -> str:
        """Content id over config, tokenizer and weights; a plain-text reading of prompts makes another model of it."""
        content = checkpoint.content_id(self.weights)
        return (
            content if self.encoder.chat == "auto" else digest("hf", [content, self.encoder.chat])
        )

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """Indices of `requests`, one list a batch: same settings, near lengths, equal prompts together.

        A pure function of the requests and the checkpoint; a batch, or what is left of one, is planned as one again.
        """
        lengths = [self.encoder.prompt(request.prompt, request.prefix) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: _place(requests[i], lengths[i]))
        room = max(1, CACHE_BYTES[self.device] // self._bytes_per_token)
        batches: list[list[int]] = []
        for index in order:
            request, batch = requests[index], batches[-1] if batches else []
            longest = self._within(len(lengths[index]) + request.sampling.max_tokens)
            fits = len(batch) < self._batch and (len(batch) + 1) * longest <= room
            if batch and fits and requests[batch[0]].sampling == request.sampling:
                batch.append(index)
            else:
                batches.append([index])
        return batches

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a prompt beyond the context is a completion with an error."""
        return self._gathered(requests)

    def _write(self, requests: Sequence[Request]) -> list[Completion]:
        made: list[Completion | None] = [None] * len(requests)
        for batch in self.plan(requests):
            for index, completion in zip(batch, self._generate([requests[i] for i in batch])):
                made[index] = completion
        return [completion for completion in made if completion is not None]

    def likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Natural-log probabilities of each completion token, one list a pair.

        The list is empty where the pair is longer than the context or the completion is empty.
        """
        encoded = [self.encoder.completion(prompt, text) for prompt, text in pairs]
        made: list[list[float]] = [[] for _ in pairs]
        fitting = [
            i for i, (ids, start) in enumerate(encoded) if 0 < start < len(ids) <= self.context
        ]
        order = sorted(fitting, key=lambda i: (len(encoded[i][0]), encoded[i]))
        while order:
            count = _rows_within(SCORE_TOKENS[self.device], [len(encoded[i][0]) for i in order])
            taken, order = order[:count], order[count:]
            for index, values in zip(taken, self._score([encoded[i] for i in taken])):
                made[index] = values
        return made

    @cached_property
    def context(self) -> int:
        """The most positions the model can attend to."""
        text = self._config.get("text_config", self._config)
        return int(text.get("max_position_embeddings") or 1 << 30)

    @cached_property
    def model(self) -> Any:
        """The transformers model, loaded now."""
        if self._threads:
            torch.set_num_threads(self._threads)
        return weights.load(self.weights, self.dtype).to(self.device).eval()

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Ids that end an answer: the generation config's, the tokenizer's, and <|im_end|>."""
        tokenizer, named = self.encoder.tokenizer, self.model.generation_config.eos_token_id
        listed = named if isinstance(named, list) else [named]
        turn = tokenizer.get_vocab().get("<|im_end|>")
        return tuple(
            sorted(
                {token for token in (*listed, tokenizer.eos_token_id, turn) if token is not None}
            )
        )

    @cached_property
    def _bytes_per_token(self) -> int:
        text = self._config.get("text_config", self._config)
        heads = text.get("num_attention_heads", 1)
        width = text.get("head_dim") or text.get("hidden_size", 1) // heads
        layers = text.get("num_hidden_layers", 1)
        return int(
            2 * layers * (text.get("num_key_value_heads") or heads) * width * self.dtype.itemsize
        )

    def _within(self, length: int) -> int:
        return min(length, self.context)

    def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions of one batch; halved when memory runs out."""
        began = time.perf_counter()
        prompts = [self.encoder.prompt(request.prompt, request.prefix) for request in requests]
        fits = [i for i, ids in enumerate(prompts) if 0 < len(ids) < self.context]
        made = [self._overflow(len(ids)) for ids in prompts]
        drawn = self._drawn([requests[i] for i in fits], [prompts[i] for i in fits]) if fits else []
        seconds = (time.perf_counter() - began) / len(requests)
        for index, row in zip(fits, drawn):
            made[index] = self._completion(requests[index], len(prompts[index]), row)
        return [completion._replace(seconds=seconds) for completion in made]

    def _drawn(
        self, requests: Sequence[Request], prompts: Sequence[list[int]]
    ) -> list[Drawn | None]:
        try:
            with self._lock:
                return list(decode(self.model, self._batched(requests, prompts)))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if len(requests) == 1:
            return [None]
        half = len(requests) // 2
        return self._drawn(requests[:half], prompts[:half]) + self._drawn(
            requests[half:], prompts[half:]
        )

    def _batched(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> Batch:
        sampling, places = requests[0].sampling, dict.fromkeys(tuple(ids) for ids in prompts)
        unique = {ids: place for place, ids in enumerate(places)}
        return Batch(
            prompts=list(unique),
            owner=[unique[tuple(ids)] for ids in prompts],
            seeds=[request.random_seed(self.id) for request in requests],
            limits=[min(sampling.max_tokens, self.context - len(ids)) for ids in prompts],
            sampling=sampling,
            ends=self.ends,
            stopped=partial(_stopped, self.encoder, sampling.stop) if sampling.stop else None,
            pieces=self.encoder.pieces if sampling.ban_first else (),
        )

    def _completion(self, request: Request, prompt: int, row: Drawn | None) -> Completion:
        if row is None:
            return Completion(
                "", "", Tokens(prompt), error="memory: one row alone does not fit on the device"
            )
        ids = row.ids[:-1] if row.stopped and row.ids[-1] in self.ends else row.ids
        text = self.encoder.text(ids)
        cuts = [at for stop in request.sampling.stop if (at := text.find(stop)) >= 0]
        text = text[: min(cuts)] if cuts else text
        if not row.stopped:
            text = text.rstrip("\ufffd")  # a character that the limit cut in the middle
        said = tuple(row.logprobs[: len(ids)])
        return Completion(
            text, "stop" if row.stopped else "length", Tokens(prompt, len(row.ids)), logprobs=said
        )

    def _overflow(self, length: int) -> Completion:
        why = (
            f"a prompt of {length} tokens leaves no room in {self.context} positions"
            if length
            else "an empty prompt"
        )
        return Completion("", "", Tokens(length), error=f"context: {why}")

    def _score(self, rows: Sequence[tuple[list[int], int]]) -> list[list[float]]:
        try:
            with self._lock:
                return score(self.model, rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
        half = len(rows) // 2
        return self._score(rows[:half]) + self._score(rows[half:])


def _place(request: Request, ids: list[int]) -> tuple[Any, ...]:
    """Where a request stands in the plan; by content alone, so that the order of the list does not matter."""
    return (repr(request.sampling.changed()), len(ids), ids, request.draw, request.seed)


def _rows_within(budget: int, lengths: Sequence[int]) -> int:
    """How many rows of ascending length fit a budget of positions, at least one."""
    count = 1
    while count < len(lengths) and (count + 1) * lengths[count] <= budget:
        count += 1
    return count


def _stopped(encoder: Encoder, stops: tuple[str, ...], ids: Sequence[int]) -> bool:
    """Whether the newest ids hold a stop string; a token is at least a byte, so its length in ids is enough."""
    tail = encoder.text(ids[-max(len(stop.encode()) for stop in stops) - 4 :])
    return any(stop in tail for stop in stops)
