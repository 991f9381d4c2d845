"""Given tokens scored by a server, in the form that each has: vLLM's, SGLang's or llama.cpp's.

What vLLM and SGLang send was written down from their public sources (tests/fakes/top_logprob_answers.py), not watched.
llama.cpp's own server was (tests/models/remote/test_llamacpp.py), and `potstill serve`, which speaks vLLM's form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from potstill.models.model import Request
from potstill.models.remote.errors import Failure
from potstill.models.remote.json_body import as_list, as_object, parse_json_object
from potstill.models.remote.request import ApiCall, RequestBuilder
from potstill.models.scoring import TokenScoring, scored_token_ids
from potstill.models.token_scoring import BadScoresError, ScoredPosition, decode_array

NOT_KEPT = "it has no log-probabilities of token {place}: start the server without a prefix cache"
TOO_MANY = "greater than max allowed"  # how vLLM refuses a k above its --max-logprobs

Reader = Callable[[Sequence[dict[str, Any]], Sequence[int], int], list[ScoredPosition]]


class ScoringForm(NamedTuple):
    """How one kind of server is asked for scores of tokens.

    Args:
        calls: the calls of a request.
        read: the places from `start` on, of the calls' answers, the row's token ids and `start`.
        written_tokens: how many tokens the server writes for a row with so many scored tokens.
    """

    calls: Callable[[RequestBuilder, Request], list[ApiCall]]
    read: Reader
    written_tokens: Callable[[int], int]


def parse_positions(
    form: ScoringForm, request: Request, answers: Sequence[bytes]
) -> list[ScoredPosition]:
    """The places of an answer that are to be scored.

    Raises:
        BadScoresError: the answer is not in the server's form.
    """
    sampling = request.sampling
    assert isinstance(sampling, TokenScoring)
    bodies = [parse_json_object(answer) for answer in answers]
    try:
        return form.read(bodies, scored_token_ids(request), sampling.start)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, BadScoresError):
            raise
        raise BadScoresError(f"it is not in the form that was expected ({error!r:.80})") from error


def explain_refusal(failure: Failure, top_logprobs: int) -> str | None:
    """Why a server refused to score tokens, where that would be so of every row; else None."""
    if TOO_MANY in failure.detail:
        return (
            f"{failure.detail} (start it with --max-logprobs {top_logprobs}, or lower loss_top_k)"
        )
    if failure.status in (404, 405, 501):
        return f"it has no such address ({failure.detail})"
    return None


def server_root(base: str) -> str:
    """The address above OpenAI's part: where vLLM, SGLang and llama.cpp have what is their own."""
    return base.removesuffix("/v1")


# vLLM: POST /v1/completions with `prompt_logprobs`.


def _vllm_calls(builder: RequestBuilder, request: Request) -> list[ApiCall]:
    body: dict[str, Any] = {
        "model": builder.model,
        "prompt": scored_token_ids(request),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": _top_logprobs(request),
    }
    if builder.options.preset.packs_scores:
        body["prompt_logprobs_base64"] = True
    body |= builder.options.extra
    return [ApiCall("/completions", body, is_chat=False)]


def _read_vllm(
    bodies: Sequence[dict[str, Any]], token_ids: Sequence[int], start: int
) -> list[ScoredPosition]:
    choice = as_object(as_list(bodies[0].get("choices"))[0])
    packed = as_object(choice.get("prompt_logprobs"))
    if packed:
        return _read_packed(packed, token_ids, start)
    entries = as_list(choice.get("prompt_logprobs"))
    if len(entries) != len(token_ids):
        raise BadScoresError(f"it scored {len(entries)} tokens where {len(token_ids)} were sent")
    positions = []
    for place in range(start, len(token_ids)):
        entry = as_object(entries[place])
        if not entry:
            raise BadScoresError(NOT_KEPT.format(place=place))
        # The row's own token stands first, whatever its rank; behind it the likeliest.
        read_id = int(next(iter(entry)))
        ranked = []
        for name, values in entry.items():
            ranked.append((int(values["rank"]), int(name), _number(values["logprob"])))
        ranked.sort()
        logprob = _number(entry[str(read_id)]["logprob"])
        # An own token beyond the k likeliest has a rank of its own, behind a gap.
        top = [(name, value) for rank, (got, name, value) in enumerate(ranked, 1) if got == rank]
        positions.append(ScoredPosition(read_id, logprob, top))
    return positions


def _read_packed(
    packed: dict[str, Any], token_ids: Sequence[int], start: int
) -> list[ScoredPosition]:
    """The same as arrays, as `potstill serve` returns them (`prompt_logprobs_base64`)."""
    count, k = int(packed["n"]), int(packed["k"])
    read_ids, own_logprobs = (
        decode_array("i", packed["token_ids"]),
        decode_array("f", packed["token_logprobs"]),
    )
    ids, logprobs = decode_array("i", packed["top_ids"]), decode_array("f", packed["top_logprobs"])
    if count != len(token_ids) - 1 or not len(read_ids) == len(own_logprobs) == count:
        raise BadScoresError(
            f"it scored {len(own_logprobs)} tokens where {len(token_ids) - 1} were sent"
        )
    if not len(ids) == len(logprobs) == count * k:
        raise BadScoresError(f"it ranked {len(ids)} tokens where {count} times {k} were meant")
    positions = []
    for place in range(start - 1, count):
        entries = slice(place * k, (place + 1) * k)
        top = list(zip(ids[entries], logprobs[entries], strict=True))
        positions.append(ScoredPosition(read_ids[place], own_logprobs[place], top))
    return positions


# SGLang: POST /generate with `return_logprob`. The first place that it gives has no log-probability.


def _sglang_calls(builder: RequestBuilder, request: Request) -> list[ApiCall]:
    assert isinstance(request.sampling, TokenScoring)
    body = {
        "input_ids": scored_token_ids(request),
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
        "return_logprob": True,
        "logprob_start_len": request.sampling.start - 1,
        "top_logprobs_num": _top_logprobs(request),
        "return_text_in_logprobs": False,
        **builder.options.extra,
    }
    return [ApiCall(f"{server_root(builder.options.base)}/generate", body, is_chat=False)]


def _read_sglang(
    bodies: Sequence[dict[str, Any]], token_ids: Sequence[int], start: int
) -> list[ScoredPosition]:
    meta_info = as_object(bodies[0].get("meta_info"))
    own_entries = as_list(meta_info.get("input_token_logprobs"))[1:]
    likeliest = as_list(meta_info.get("input_top_logprobs"))[1:]
    if len(own_entries) != len(likeliest):
        raise BadScoresError(f"it scored {len(own_entries)} tokens and ranked {len(likeliest)}")
    positions = []
    for place, ((logprob, token_id, _), entries) in enumerate(zip(own_entries, likeliest), start):
        if entries is None:
            raise BadScoresError(NOT_KEPT.format(place=place))
        top = [(int(entry_id), _number(value)) for value, entry_id, _ in entries]
        # It says 0 of the last id of its vocabulary, which it takes for an image's.
        read_id = int(token_id) or token_ids[min(place, len(token_ids) - 1)]
        positions.append(ScoredPosition(read_id, _number(logprob), top))
    return positions


# llama.cpp: POST /completion with `n_probs`, which tells of written tokens alone: so a call a place, each with the
# tokens before it. Its cache of the prompt makes each call one token's work.


def _llamacpp_calls(builder: RequestBuilder, request: Request) -> list[ApiCall]:
    assert isinstance(request.sampling, TokenScoring)
    token_ids = scored_token_ids(request)
    calls = []
    for place in range(request.sampling.start, len(token_ids)):
        body = {
            "prompt": token_ids[:place],
            "n_predict": 1,
            "n_probs": _top_logprobs(request),
            "temperature": 0,
            "post_sampling_probs": False,
            "cache_prompt": True,
            **builder.options.extra,
        }
        path = f"{server_root(builder.options.base)}/completion"
        calls.append(ApiCall(path, body, is_chat=False))
    return calls


def _read_llamacpp(
    bodies: Sequence[dict[str, Any]], token_ids: Sequence[int], start: int
) -> list[ScoredPosition]:
    positions = []
    for place, body in enumerate(bodies, start):
        written = as_object(as_list(body.get("completion_probabilities"))[0])
        entries = as_list(written.get("top_logprobs"))
        top = [(int(entry["id"]), _number(entry["logprob"])) for entry in entries]
        evaluated = body.get("tokens_evaluated")
        if evaluated != place:
            raise BadScoresError(f"it read {evaluated} tokens where {place} were sent")
        # Of a token that is not among the likeliest, llama.cpp says nothing.
        positions.append(ScoredPosition(token_ids[place], dict(top).get(token_ids[place]), top))
    return positions


def _top_logprobs(request: Request) -> int:
    assert isinstance(request.sampling, TokenScoring)
    return request.sampling.top_logprobs


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadScoresError(f"a log-probability is {value!r:.20}")
    return float(value)


FORMS = {
    "prompt_logprobs": ScoringForm(_vllm_calls, _read_vllm, lambda scored: 1),
    "input_top_logprobs": ScoringForm(_sglang_calls, _read_sglang, lambda scored: 1),
    "n_probs": ScoringForm(_llamacpp_calls, _read_llamacpp, lambda scored: scored),
}
