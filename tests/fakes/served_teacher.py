"""A checkpoint as a server that scores tokens: ids in, the k likeliest tokens out, no weights to be had."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from potstill.models.local.prompt import PromptEncoder
from potstill.models.model import Completion, Request
from potstill.models.scoring import TokenScoring, scored_token_ids
from potstill.models.token_scoring import ScoredPosition, check_positions, token_scores
from potstill.records import Prompt, Tokens


class ServedTokens:
    """Answers as the client hands them on, from a checkpoint's logits; `asked` holds every request."""

    id = "served-tokens"

    def __init__(self, path: Path, *, encoder: Any = None) -> None:
        self._path, self._encoder = path, encoder or PromptEncoder(path)
        self.asked: list[Request] = []

    @cached_property
    def _model(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self._path, dtype=torch.float32).eval()

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("a teacher that says how it reads prompts is not asked to write")

    def read_text(self, text: str) -> Sequence[int]:
        return list(self._encoder.tokenizer.encode(text, add_special_tokens=False))

    def read_prompt(self, prompt: Prompt) -> Sequence[int]:
        return list(self._encoder.encode_prompt(prompt))

    def score_tokens(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked.extend(requests)
        return [self._score(request) for request in requests]

    def _score(self, request: Request) -> Completion:
        ids, sampling = scored_token_ids(request), request.sampling
        assert isinstance(sampling, TokenScoring)
        with torch.no_grad():
            log_probs_TV = self._model(torch.tensor([ids])).logits[0].log_softmax(-1)
        positions = []
        for place in range(sampling.start, len(ids)):
            row = log_probs_TV[place - 1]
            best = row.topk(min(sampling.top_logprobs, len(row)))
            top = list(zip(best.indices.tolist(), best.values.tolist()))
            positions.append(ScoredPosition(ids[place], float(row[ids[place]]), top))
        table = check_positions(
            positions, ids, start=sampling.start, top_logprobs=sampling.top_logprobs
        )
        return token_scores(positions, table, Tokens(len(ids), 1))
