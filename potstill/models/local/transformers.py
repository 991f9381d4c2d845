"""Local checkpoints on CPU or GPU: planned batches, prefix continuation, likelihoods."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import torch

from potstill.errors import ModelError
from potstill.models.local import checkpoint, weights
from potstill.models.local.batcher import RequestBatcher
from potstill.models.local.generate import GeneratedRow, GenerationBatch, generate_batch
from potstill.models.local.logprobs import TokenScores, completion_scores
from potstill.models.local.prompt import PromptEncoder, prompt_length_error
from potstill.models.model import (
    Completion,
    CompletionEnd,
    Request,
    RowProgress,
    RowReport,
    cut_at_stop,
)
from potstill.models.scoring import PassageLike, scored_completion, scored_passage, to_passages
from potstill.records import Tokens, digest

CACHE_BYTES = {"cpu": 1 << 30, "cuda": 24 << 30}  # keys and values of one batch
# New tokens that a batch is planned for: few answers come near a large limit, and a batch that does outgrow its cache
# is written in parts.
PLANNED_NEW_TOKENS = 1024
SCORE_TOKENS = {"cpu": 8192, "cuda": 65536}  # positions of one likelihood batch, padding included


@final
class TransformersModel:
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
        checkpoint.check_checkpoint(self.weights)
        self.device = weights.resolve_device(device)
        self.dtype = weights.resolve_dtype(dtype, self.device)
        self._dtype_name = dtype
        self.encoder = PromptEncoder(self.weights, chat)
        self.context = checkpoint.read_context(self.weights)  # the most positions it can attend to
        self.max_rows, self._threads = batch, threads
        # `each` asks from many threads; one model computes one batch at a time.
        self._lock = threading.RLock()
        self.gathers = gather
        self._write_batched = RequestBatcher(self._write) if gather else self._write

    @property
    def threads(self) -> int:
        """CPU threads of torch that it computes with in this process."""
        return self._threads or torch.get_num_threads()

    def plan_for(self, device: str) -> None:
        """Plan batches for a device that this machine need not have: another one writes them."""
        self.device, self.dtype = device, weights.resolve_dtype(self._dtype_name, device)

    def load(self) -> None:
        """Load the weights now."""
        _ = self.model

    @cached_property
    def id(self) -> str:
        """Content id over config, tokenizer and weights; a plain-text reading of prompts makes another model of it."""
        content = checkpoint.content_id(self.weights)
        if self.encoder.chat == "auto":
            return content
        return digest("hf", [content, self.encoder.chat])

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """Indices of `requests`, one list a batch: same settings, near lengths, equal prompts together.

        A pure function of the requests and the checkpoint; a batch, or what is left of one, is planned as one again.
        """
        prompts = [self.encoder.encode_prompt(r.prompt, r.prefix) for r in requests]
        order = sorted(range(len(requests)), key=lambda i: _plan_order(requests[i], prompts[i]))
        batches: list[list[int]] = []
        for index in order:
            sampling = requests[index].sampling
            batch = batches[-1] if batches else []
            # The order is ascending in length, so this row is the longest of its batch.
            planned_tokens = min(sampling.max_new_tokens, PLANNED_NEW_TOKENS)
            longest = min(len(prompts[index]) + planned_tokens, self.context)
            fits_cache = (len(batch) + 1) * longest <= self.cache_positions
            has_room = len(batch) < self.max_rows and fits_cache
            if batch and has_room and requests[batch[0]].sampling == sampling:
                batch.append(index)
            else:
                batches.append([index])
        return batches

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a prompt beyond the context is a completion with an error."""
        return self._write_batched(requests)

    def write_reporting(self, requests: Sequence[Request], report: RowReport) -> list[Completion]:
        """What `write` returns; meanwhile `report` is told how far each request is."""
        return self._write_batched(requests, report)

    def _write(
        self, requests: Sequence[Request], report: RowReport | None = None
    ) -> list[Completion]:
        completions: dict[int, Completion] = {}
        rows = [RowProgress()] * len(requests)
        for batch in self.plan(requests):
            report_batch = _report_places(report, rows, batch)
            answers = self._complete_batch([requests[i] for i in batch], report_batch)
            completions.update(zip(batch, answers))
            for index, answer in zip(batch, answers):
                rows[index] = RowProgress(answer.tokens.completion, is_finished=True)
        return [completions[index] for index in range(len(requests))]

    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Natural-log probabilities of each token of the texts, one list a passage.

        The list is empty where the passage is longer than the context, the text is empty, or the tokenizer does not
        give it back.
        """
        encoded = [self.encoder.encode_passage(passage) for passage in to_passages(passages)]
        return [scores.logprobs for scores in self._score_encoded(encoded)]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """The same as answers to requests to score, with the tokens that were read."""
        encoded = [self.encoder.encode_passage(scored_passage(request)) for request in requests]
        answers = []
        for (ids, _), scores in zip(encoded, self._score_encoded(encoded), strict=True):
            read_count = len(ids) if scores.logprobs else 0
            answers.append(scored_completion(scores.logprobs, Tokens(prompt=read_count)))
        return answers

    def score_tokens(self, sequences: Sequence[list[int]]) -> list[TokenScores]:
        """Log-probability and rank of every token but the first, given those before it; none of what is too long."""
        return self._score_encoded([(ids, 1) for ids in sequences], with_ranks=True)

    def _score_encoded(
        self, encoded: Sequence[tuple[list[int], int]], *, with_ranks: bool = False
    ) -> list[TokenScores]:
        """Scores of the tokens from a place on, of each sequence."""
        # Which have something to score and fit the context.
        scores = [TokenScores([], []) for _ in encoded]
        fitting = []
        for index, (ids, start) in enumerate(encoded):
            if 0 < start < len(ids) <= self.context:
                fitting.append(index)

        # Rows of near lengths go together, so that little of a batch is padding.
        remaining = sorted(fitting, key=lambda i: (len(encoded[i][0]), encoded[i]))
        while remaining:
            lengths = [len(encoded[i][0]) for i in remaining]
            count = _rows_within(SCORE_TOKENS[self.device], lengths)
            batch, remaining = remaining[:count], remaining[count:]
            rows = [encoded[i] for i in batch]
            for index, row_scores in zip(batch, self._score(rows, with_ranks)):
                scores[index] = row_scores
        return scores

    @cached_property
    def model(self) -> Any:
        """The transformers model, loaded now."""
        if self._threads:
            torch.set_num_threads(self._threads)
        model = weights.load_weights(self.weights, self.dtype)
        weights.check_layer_types(model)
        return weights.move_to_device(model, self.device).eval()

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        return self.encoder.end_ids

    @cached_property
    def _cache_bytes_per_token(self) -> int:
        """Bytes of keys and values that one position takes in all layers."""
        config = checkpoint.load_config(self.weights).get_text_config()
        heads = getattr(config, "num_attention_heads", None)
        if not isinstance(heads, int):
            raise ModelError(
                f"{self.weights}: a {config.model_type} has no number of attention heads",
                expected="attention, whose keys and values are held while a text is written",
                fix="serve it with vLLM and use the server",
            )
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_value_heads = getattr(config, "num_key_value_heads", None) or heads
        layers = config.num_hidden_layers
        # Keys and values, for each layer and head.
        return int(2 * layers * key_value_heads * head_dim * self.dtype.itemsize)

    @property
    def cache_positions(self) -> int:
        """Rows times positions that the cache may hold."""
        return max(1, CACHE_BYTES[self.device] // self._cache_bytes_per_token)

    def _complete_batch(
        self, requests: Sequence[Request], report: RowReport | None
    ) -> list[Completion]:
        """The completions of one planned batch."""
        began = time.perf_counter()
        # A prompt that leaves no room is answered with an error, not generated.
        prompts = [self.encoder.encode_prompt(r.prompt, r.prefix) for r in requests]
        fitting = [i for i, ids in enumerate(prompts) if 0 < len(ids) < self.context]
        rows = self._generate_rows(
            [requests[i] for i in fitting],
            [prompts[i] for i in fitting],
            _report_places(report, [RowProgress()] * len(requests), fitting),
        )
        row_of = dict(zip(fitting, rows))

        completions = []
        for index, request in enumerate(requests):
            if index in row_of:
                completion = self._to_completion(request, len(prompts[index]), row_of[index])
            else:
                completion = prompt_length_error(len(prompts[index]), self.context)
            completions.append(completion)
        seconds = (time.perf_counter() - began) / len(requests)
        return [completion._replace(seconds=seconds) for completion in completions]

    def _generate_rows(
        self,
        requests: Sequence[Request],
        prompts: Sequence[list[int]],
        report: RowReport | None,
    ) -> list[GeneratedRow | None]:
        """One row a request; halves the batch when memory runs out, None for a row that does not fit alone."""
        if not requests:
            return []
        try:
            with self._lock:
                return list(generate_batch(self.model, self._to_batch(requests, prompts), report))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if len(requests) == 1:
            return [None]
        half = len(requests) // 2
        rows = [RowProgress()] * len(requests)
        first = _report_places(report, rows, range(half))
        second = _report_places(report, rows, range(half, len(requests)))
        first_half = self._generate_rows(requests[:half], prompts[:half], first)
        return first_half + self._generate_rows(requests[half:], prompts[half:], second)

    def _to_batch(
        self, requests: Sequence[Request], prompts: Sequence[list[int]]
    ) -> GenerationBatch:
        weights.check_token_ids(self.model, max(max(ids) for ids in prompts))
        sampling = requests[0].sampling  # `plan` puts only equal settings together
        # Equal prompts are read once.
        index_of_prompt: dict[tuple[int, ...], int] = {}
        for ids in prompts:
            index_of_prompt.setdefault(tuple(ids), len(index_of_prompt))
        find_stop = None
        if sampling.stop:
            find_stop = partial(has_stop_string, self.encoder, sampling.stop)
        return GenerationBatch(
            prompts=list(index_of_prompt),
            prompt_of_row=[index_of_prompt[tuple(ids)] for ids in prompts],
            seeds=[request.random_seed(self.id) for request in requests],
            max_new_tokens=[
                min(sampling.max_new_tokens, self.context - len(ids)) for ids in prompts
            ],
            sampling=sampling,
            end_ids=self.end_ids,
            has_stop_string=find_stop,
            token_texts=self.encoder.token_texts if sampling.ban_first else (),
            unknown_ids=self.encoder.codec.unknown_ids(
                self.model.config.get_text_config().vocab_size
            ),
            max_positions=self.cache_positions,
        )

    def _to_completion(
        self, request: Request, prompt_tokens: int, row: GeneratedRow | None
    ) -> Completion:
        if row is None:
            error = "memory: one row alone does not fit on the device"
            return Completion("", "", Tokens(prompt_tokens), error=error)
        # The token that ended the row and the stop string are not part of the text.
        ids = row.ids
        if row.stopped and ids[-1] in self.end_ids:
            ids = ids[:-1]
        text = self.encoder.decode_text(ids)
        text, stop_string = cut_at_stop(text, request.sampling.stop)
        finish_reason: CompletionEnd = "stop"
        if stop_string:
            finish_reason = "stop_string"
        elif not row.stopped:
            finish_reason = "length"
            text = text.rstrip("\ufffd")  # a character that the limit cut in the middle
        return Completion(
            text,
            finish_reason,
            Tokens(prompt_tokens, len(row.ids)),
            logprobs=tuple(row.logprobs[: len(ids)]),
            stop_string=stop_string,
        )

    def _score(self, rows: Sequence[tuple[list[int], int]], with_ranks: bool) -> list[TokenScores]:
        """Scores of rows; halves the batch when memory runs out."""
        try:
            with self._lock:
                weights.check_token_ids(self.model, max(max(ids) for ids, _ in rows))
                return completion_scores(self.model, rows, with_ranks=with_ranks)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
        half = len(rows) // 2
        return self._score(rows[:half], with_ranks) + self._score(rows[half:], with_ranks)


def _report_places(
    report: RowReport | None, rows: list[RowProgress], places: Sequence[int]
) -> RowReport | None:
    """A report on some of the rows, which stand at these places; it is passed on as one on all of them."""
    if report is None:
        return None

    def report_all(some_rows: Sequence[RowProgress]) -> None:
        for place, row in zip(places, some_rows, strict=True):
            rows[place] = row
        report(list(rows))

    return report_all


def _plan_order(request: Request, ids: list[int]) -> tuple[Any, ...]:
    """Where a request stands in the plan; by content alone, so that the order of the list does not matter."""
    return (repr(request.sampling.changed()), len(ids), ids, request.sample_index, request.seed)


def _rows_within(max_positions: int, lengths: Sequence[int]) -> int:
    """How many rows of ascending length fit a number of positions, at least one."""
    count = 1
    while count < len(lengths) and (count + 1) * lengths[count] <= max_positions:
        count += 1
    return count


def has_stop_string(encoder: PromptEncoder, stops: tuple[str, ...], ids: Sequence[int]) -> bool:
    """Whether the newest ids hold a stop string; a token is at least a byte, so its length in ids is enough."""
    longest_stop = max(len(stop.encode()) for stop in stops)
    newest_text = encoder.decode_text(ids[-longest_stop - 4 :])
    return any(stop in newest_text for stop in stops)
