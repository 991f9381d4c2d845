"""What vLLM, SGLang and llama.cpp answer when they are asked for a prompt's k likeliest tokens, in their exact forms.

Written from their public sources, before the client that reads them, and by nobody running them:

- vLLM: `POST /v1/completions` with `prompt` (token ids) and `prompt_logprobs`; `vllm/entrypoints/openai/protocol.py`,
  `vllm/logprobs.py` (`Logprob`: logprob, rank, decoded_token), `clamp_prompt_logprobs` (minus infinity is -9999.0).
  One object a position, null for the first; the prompt's own token comes first, whatever its rank, then the k best.
- SGLang: `POST /generate` with `input_ids`, `return_logprob`, `logprob_start_len`, `top_logprobs_num`;
  `python/sglang/srt/managers/io_struct.py` and `tokenizer_manager.py` (`detokenize_logprob_tokens`): triples of
  (log-probability, id, text or null), from `logprob_start_len` on, of which the first has no log-probability.
- llama.cpp: `POST /completion` with `prompt` (token ids), `n_predict`, `n_probs`; `tools/server/README.md` and
  `completion_token_output::probs_vector_to_json`: only of what is *written*, so each position has a call of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

LOWEST_FLOAT = -3.4028234663852886e38  # what llama.cpp says of a probability of 0

Table = Sequence[Sequence[float]]
"""Of each position of a prompt but the first, the log-probability of every token of the vocabulary."""


def ranked(row: Sequence[float]) -> list[int]:
    """Token ids, the likeliest first."""
    return sorted(range(len(row)), key=lambda token: -row[token])


def vllm_answer(ids: Sequence[int], table: Table, k: int) -> dict[str, Any]:
    """The body of vLLM's answer to one prompt."""
    positions: list[dict[str, Any] | None] = [None]
    for token, row in zip(ids[1:], table, strict=True):
        order = ranked(row)
        entry = {}
        for candidate in [token, *order[:k]]:
            logprob = row[candidate] if row[candidate] > -math.inf else -9999.0
            rank = order.index(candidate) + 1
            entry[str(candidate)] = {
                "logprob": logprob,
                "rank": rank,
                "decoded_token": f"t{candidate}",
            }
        positions.append(entry)
    choice = {
        "index": 0,
        "text": "t0",
        "logprobs": None,
        "finish_reason": "length",
        "stop_reason": None,
        "token_ids": None,
        "prompt_logprobs": positions,
        "prompt_token_ids": None,
    }
    usage = {
        "prompt_tokens": len(ids),
        "total_tokens": len(ids) + 1,
        "completion_tokens": 1,
        "prompt_tokens_details": None,
    }
    return {
        "id": "cmpl-2f6b7a5c",
        "object": "text_completion",
        "created": 1764547200,
        "model": "teacher",
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": usage,
        "kv_transfer_params": None,
    }


def sglang_answer(ids: Sequence[int], table: Table, k: int, start: int) -> dict[str, Any]:
    """The body of SGLang's answer to one prompt; `start` is the call's `logprob_start_len`."""
    own: list[Any] = [[None, ids[start], None]]
    top: list[Any] = [None]
    for place in range(start + 1, len(ids)):
        row = table[place - 1]
        own.append([row[ids[place]], ids[place], None])
        top.append([[row[token], token, None] for token in ranked(row)[:k]])
    meta_info = {
        "id": "8a1f0f3e6b774c2c9d8f",
        "finish_reason": {"type": "length", "length": 1},
        "prompt_tokens": len(ids),
        "weight_version": "default",
        "input_token_logprobs": own,
        "output_token_logprobs": [[-0.5, 0, None]],
        "input_top_logprobs": top,
        "output_top_logprobs": [[[-0.5, 0, None]]],
        "completion_tokens": 1,
        "cached_tokens": 0,
        "e2e_latency": 0.02,
    }
    return {"text": "t0", "output_ids": [0], "meta_info": meta_info}


def llamacpp_answer(ids: Sequence[int], row: Sequence[float], k: int) -> dict[str, Any]:
    """The body of llama.cpp's answer: of the one token that it wrote behind a prompt."""
    best = []
    for token in ranked(row)[:k]:
        logprob = max(row[token], LOWEST_FLOAT)
        text = f"t{token}"
        best.append({"id": token, "token": text, "bytes": list(text.encode()), "logprob": logprob})
    return {
        "index": 0,
        "content": best[0]["token"],
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": "teacher",
        "tokens_predicted": 1,
        "tokens_evaluated": len(ids),
        "has_new_line": False,
        "truncated": False,
        "stop_type": "limit",
        "stopping_word": "",
        "tokens_cached": len(ids),
        "completion_probabilities": [{**best[0], "top_logprobs": best}],
    }
