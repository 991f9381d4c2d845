"""A checkpoint in vLLM's engine, in this process: `vllm:PATH`, with the extra potstill[vllm] and a GPU.

Prompts are rendered and cut into tokens by the same `PromptEncoder` as in `transformers:`, so both see the same ids;
every sample has its own seed; vLLM batches by itself and shares the prefixes of equal prompts. A vLLM server used
through `openai:` is the documented way; this one saves the server where a single process owns the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.errors import ModelError
from potstill.models.local import checkpoint
from potstill.models.local.batcher import RequestBatcher
from potstill.models.local.prompt import PromptEncoder, prompt_length_error
from potstill.models.model import Completion, CompletionEnd, Request, cut_at_stop
from potstill.models.scoring import PassageLike, to_passages
from potstill.records import Tokens, digest

NEVER = -100.0  # vLLM's lowest bias of a logit


@final
class VllmModel:
    """A model that vLLM runs; weights load on first use, safetensors only, no code from the folder runs.

    Args:
        path: the checkpoint folder.
        dtype: "auto" takes what the checkpoint was saved in.
        chat: see `models.local.prompt.PromptEncoder`.
        memory: share of the GPU's memory that the engine may take.
        tensor_parallel: over how many GPUs the weights are spread.
        context: positions at most; 0 is what the checkpoint allows.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        dtype: str = "auto",
        chat: str | bool = "auto",
        memory: float = 0.9,
        tensor_parallel: int = 1,
        context: int = 0,
    ) -> None:
        self.weights = Path(path)
        checkpoint.check_checkpoint(self.weights)
        self.encoder = PromptEncoder(self.weights, chat)
        max_context = checkpoint.read_context(self.weights)
        self.context = min(context or max_context, max_context)
        self._engine_options = {
            "dtype": dtype,
            "gpu_memory_utilization": memory,
            "tensor_parallel_size": tensor_parallel,
        }
        self._write_batched = RequestBatcher(lambda requests, report: self._write(requests))

    @cached_property
    def id(self) -> str:
        """The checkpoint's content id, marked: another engine rounds otherwise, so its samples are its own."""
        return digest("vllm", [checkpoint.content_id(self.weights), self.encoder.chat])

    @cached_property
    def engine(self) -> Any:
        """The vLLM engine, started now."""
        return _import_vllm().LLM(
            model=str(self.weights),
            load_format="safetensors",
            trust_remote_code=False,
            enable_prefix_caching=True,
            max_model_len=self.context if self.context < checkpoint.UNLIMITED_CONTEXT else None,
            **self._engine_options,
        )

    def load(self) -> None:
        """Start the engine now."""
        _ = self.engine

    @cached_property
    def _vocabulary_size(self) -> int:
        return int(checkpoint.load_config(self.weights).get_text_config().vocab_size)

    @cached_property
    def _unknown_ids(self) -> list[int]:
        return self.encoder.codec.unknown_ids(self._vocabulary_size)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a prompt beyond the context is a completion with an error."""
        return self._write_batched(requests)

    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Natural-log probabilities of each token of the texts, one list a passage.

        The list is empty where the passage fills the context (vLLM draws one more token) or the text is empty.
        """
        encoded = [self.encoder.encode_passage(passage) for passage in to_passages(passages)]
        # Which passages have something to score and leave room for the token that vLLM adds.
        fitting = []
        for index, (ids, start) in enumerate(encoded):
            if 0 < start < len(ids) < self.context:
                fitting.append(index)
        params = _import_vllm().SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1)
        outputs = self._generate([encoded[i][0] for i in fitting], [params] * len(fitting))

        # vLLM gives a mapping a position: from token id to an entry, of which the given token is one.
        logprobs: list[list[float]] = [[] for _ in passages]
        for index, output in zip(fitting, outputs, strict=True):
            ids, start = encoded[index]
            for position in range(start, len(ids)):
                entry = output.prompt_logprobs[position]
                logprobs[index].append(entry[ids[position]].logprob)
        return logprobs

    def _write(self, requests: Sequence[Request]) -> list[Completion]:
        began = time.perf_counter()
        prompts = [self.encoder.encode_prompt(r.prompt, r.prefix) for r in requests]
        # Errors first, then the completions of the prompts that leave room.
        completions = [prompt_length_error(len(ids), self.context) for ids in prompts]
        fitting = [i for i, ids in enumerate(prompts) if 0 < len(ids) < self.context]
        params = [self._sampling_params(requests[i], len(prompts[i])) for i in fitting]
        outputs = self._generate([prompts[i] for i in fitting], params)
        for index, output in zip(fitting, outputs, strict=True):
            completions[index] = self._to_completion(
                requests[index], len(prompts[index]), output.outputs[0]
            )
        seconds = (time.perf_counter() - began) / max(1, len(requests))
        return [completion._replace(seconds=seconds) for completion in completions]

    def _generate(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        if not prompts:
            return []
        highest_id = max(max(ids) for ids in prompts)
        checkpoint.check_token_id(str(self.weights), highest_id, self._vocabulary_size)
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        outputs: list[Any] = self.engine.generate(inputs, list(params), use_tqdm=False)
        return outputs

    def _sampling_params(self, request: Request, prompt_tokens: int) -> Any:
        sampling = request.sampling
        if sampling.ban_first:
            raise ModelError(
                "vLLM can't forbid a completion to begin with a text (ban_first)",
                expected="a model that can: transformers:PATH",
                fix=f"use transformers:{self.weights} for this role",
            )
        return _import_vllm().SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or -1,  # vLLM's word for all tokens
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=min(sampling.max_new_tokens, self.context - prompt_tokens),
            stop=list(sampling.stop) or None,
            # By itself vLLM ends at the generation config's tokens only.
            stop_token_ids=list(self.encoder.end_ids),
            # Stop strings are looked for in the text that is returned, marks of thought included.
            skip_special_tokens=False,
            # Ids that the tokenizer has no token for are never drawn.
            logit_bias=dict.fromkeys(self._unknown_ids, NEVER) or None,
            seed=request.random_seed(self.id),
            logprobs=1 if sampling.logprobs else None,
        )

    def _to_completion(self, request: Request, prompt_tokens: int, output: Any) -> Completion:
        """A completion from one of vLLM's `CompletionOutput`s, its text decoded as every local model's is."""
        tokens = Tokens(prompt_tokens, len(output.token_ids))
        if output.finish_reason not in ("stop", "length"):
            error = f"server: vLLM ended the sample with {output.finish_reason!r}"
            return Completion("", "", tokens, error=error)
        ids = list(output.token_ids)
        if ids and ids[-1] in self.encoder.end_ids:
            ids.pop()
        text, stop_string = cut_at_stop(self.encoder.decode_text(ids), request.sampling.stop)
        finish_reason: CompletionEnd = output.finish_reason
        # vLLM names the stop string, or the id of the token that ended the sample.
        if isinstance(output.stop_reason, str):
            stop_string = stop_string or output.stop_reason
        if stop_string:
            finish_reason = "stop_string"
        elif finish_reason == "length":
            text = text.rstrip("\ufffd")  # a character that the limit cut in the middle
        logprobs = []
        for token, entry in zip(ids, output.logprobs or (), strict=False):
            logprobs.append(entry[token].logprob)
        return Completion(
            text, finish_reason, tokens, logprobs=tuple(logprobs), stop_string=stop_string
        )


def _import_vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise ModelError(
            f"vLLM is not installed ({error})",
            expected="the extra potstill[vllm], on a machine with a GPU that vLLM supports",
            fix="pip install 'potstill[vllm]', or start `vllm serve PATH` anywhere and use openai:NAME?url=http://HOST:8000/v1",
        ) from error
    return vllm
