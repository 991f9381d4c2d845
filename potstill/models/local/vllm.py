"""A checkpoint in vLLM's engine, in this process: `vllm:PATH`, with the extra potstill[vllm] and a GPU.

Prompts are rendered and cut into tokens by the same `Encoder` as in `transformers:`, so both see the same ids; every
sample has its own seed; vLLM batches by itself and shares the prefixes of equal prompts. A vLLM server used through
`openai:` is the documented way; this one saves the server where a single process owns the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.errors import ModelError
from potstill.models.local import checkpoint
from potstill.models.local.batcher import Gather
from potstill.models.local.prompt import Encoder
from potstill.models.model import Completion, Request, Sampling
from potstill.records import Prompt, Tokens, digest


@final
class Engine:
    """A model that vLLM runs; weights load on first use, safetensors only, no code from the folder runs.

    Args:
        path: the checkpoint folder.
        dtype: "auto" takes what the checkpoint was saved in.
        chat: see `models.encoding.Encoder`.
        memory: share of the GPU's memory that the engine may take.
        parallel: over how many GPUs the weights are spread.
        context: positions at most; 0 is what the checkpoint allows.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        dtype: str = "auto",
        chat: str | bool = "auto",
        memory: float = 0.9,
        parallel: int = 1,
        context: int = 0,
    ) -> None:
        self.weights = Path(path)
        checkpoint.check(self.weights)
        self.encoder = Encoder(self.weights, chat)
        config = checkpoint.config(self.weights)
        most = int(config.get("text_config", config).get("max_position_embeddings") or 1 << 30)
        self.context = min(context or most, most)
        self._options = {
            "dtype": dtype,
            "gpu_memory_utilization": memory,
            "tensor_parallel_size": parallel,
        }
        self._gathered = Gather(self._write)

    @cached_property
    def id(self) -> str:
        """The checkpoint's content id, marked: another engine rounds otherwise, so its samples are its own."""
        return digest("vllm", [checkpoint.content_id(self.weights), self.encoder.chat])

    @cached_property
    def engine(self) -> Any:
        """The vLLM engine, started now."""
        return _vllm().LLM(
            model=str(self.weights),
            load_format="safetensors",
            trust_remote_code=False,
            enable_prefix_caching=True,
            max_model_len=self.context if self.context < 1 << 30 else None,
            **self._options,
        )

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a prompt beyond the context is a completion with an error."""
        return self._gathered(requests)

    def likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Natural-log probabilities of each completion token, one list a pair.

        The list is empty where the pair fills the context (vLLM draws one more token) or the completion is empty.
        """
        encoded = [self.encoder.completion(prompt, text) for prompt, text in pairs]
        fits = [i for i, (ids, start) in enumerate(encoded) if 0 < start < len(ids) < self.context]
        params = _vllm().SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1)
        outputs = self._generate([encoded[i][0] for i in fits], [params] * len(fits))
        made: list[list[float]] = [[] for _ in pairs]
        for index, output in zip(fits, outputs, strict=True):
            ids, start = encoded[index]
            made[index] = [
                output.prompt_logprobs[at][ids[at]].logprob for at in range(start, len(ids))
            ]
        return made

    def _write(self, requests: Sequence[Request]) -> list[Completion]:
        began = time.perf_counter()
        prompts = [self.encoder.prompt(request.prompt, request.prefix) for request in requests]
        fits = [i for i, ids in enumerate(prompts) if 0 < len(ids) < self.context]
        made = [_overflow(len(ids), self.context) for ids in prompts]
        params = [self._params(requests[i], len(prompts[i])) for i in fits]
        for index, output in zip(
            fits, self._generate([prompts[i] for i in fits], params), strict=True
        ):
            made[index] = _completion(len(prompts[index]), output.outputs[0])
        seconds = (time.perf_counter() - began) / max(1, len(requests))
        return [completion._replace(seconds=seconds) for completion in made]

    def _generate(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        if not prompts:
            return []
        asked = [{"prompt_token_ids": ids} for ids in prompts]
        made: list[Any] = self.engine.generate(asked, list(params), use_tqdm=False)
        return made

    def _params(self, request: Request, length: int) -> Any:
        how: Sampling = request.sampling
        if how.ban_first:
            raise ModelError(
                "vLLM can't forbid a completion to begin with a text (ban_first)",
                expected="a model that can: transformers:PATH",
                fix=f"use transformers:{self.weights} for this role",
            )
        return _vllm().SamplingParams(
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k or -1,
            repetition_penalty=how.repetition_penalty,
            max_tokens=min(how.max_tokens, self.context - length),
            stop=list(how.stop) or None,
            seed=request.random_seed(self.id),
            logprobs=1 if how.logprobs else None,
        )


def _completion(prompt: int, drawn: Any) -> Completion:
    used = Tokens(prompt, len(drawn.token_ids))
    if drawn.finish_reason not in ("stop", "length"):
        return Completion(
            "", "", used, error=f"server: vLLM ended the sample with {drawn.finish_reason!r}"
        )
    said = tuple(
        place[token].logprob
        for token, place in zip(drawn.token_ids, drawn.logprobs or (), strict=False)
    )
    return Completion(str(drawn.text), drawn.finish_reason, used, logprobs=said)


def _overflow(length: int, context: int) -> Completion:
    why = (
        f"a prompt of {length} tokens leaves no room in {context} positions"
        if length
        else "an empty prompt"
    )
    return Completion("", "", Tokens(length), error=f"context: {why}")


def _vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise ModelError(
            f"vLLM is not installed ({error})",
            expected="the extra potstill[vllm], on a machine with a GPU that vLLM supports",
            fix="pip install 'potstill[vllm]', or start `vllm serve PATH` anywhere and use openai:NAME?url=http://HOST:8000/v1",
        ) from error
    return vllm
