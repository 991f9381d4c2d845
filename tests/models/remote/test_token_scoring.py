"""Scores of tokens in the forms of three servers: read alike, and refused where they can't be what was asked for."""

from __future__ import annotations

import copy
import json
import math
from array import array
from typing import Any

import pytest
from openai_server import Reply, serving
from top_logprob_answers import llamacpp_answer, ranked, sglang_answer, vllm_answer

from potstill.errors import ModelError
from potstill.models import load
from potstill.models.remote.options import ServerOptions
from potstill.models.remote.request import RequestBuilder
from potstill.models.remote.token_scoring import FORMS, parse_positions
from potstill.models.scoring import token_scoring_request
from potstill.models.token_scoring import BadScoresError, TopLogprobs, check_positions, encode_array
from potstill.store import Store, with_cache

IDS = [3, 1, 4, 1, 5]
START, K = 2, 3


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(map(math.exp, logits)))
    return [logit - total for logit in logits]


# Of a vocabulary of six tokens, one of them banned at the third place.
TABLE = [log_softmax([math.sin(3 * place + token) for token in range(6)]) for place in range(4)]
TABLE[2] = [*log_softmax([1.0, 0.5, 0.2, 0.1, 0.0]), -math.inf]


def bodies(score: str, k: int = K) -> list[dict[str, Any]]:
    """A server's answers of IDS behind START."""
    if score == "prompt_logprobs":
        return [vllm_answer(IDS, TABLE, k)]
    if score == "input_top_logprobs":
        return [sglang_answer(IDS, TABLE, k, START - 1)]
    return [llamacpp_answer(IDS[:place], TABLE[place - 1], k) for place in range(START, len(IDS))]


def read(score: str, answers: list[dict[str, Any]], k: int = K) -> TopLogprobs:
    """The table that the client makes of a server's answers."""
    request = token_scoring_request(IDS, start=START, top_logprobs=k)
    encoded = [json.dumps(answer).encode() for answer in answers]
    positions = parse_positions(FORMS[score], request, encoded)
    return check_positions(positions, IDS, start=START, top_logprobs=k)


@pytest.mark.parametrize("score", FORMS)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_every_form_says_the_same(score: str, k: int) -> None:
    table = read(score, bodies(score, k), k)
    assert table.k == k and len(table.ids) == 3 * k
    for place in range(3):
        row = TABLE[START - 1 + place]
        for token, value in zip(
            table.ids[place * k : (place + 1) * k], table.logprobs[place * k : (place + 1) * k]
        ):
            assert value == pytest.approx(max(row[token], -1e5), abs=1e-6) or row[token] < -9998
    assert TopLogprobs.from_text(table.to_text()) == table


def spoiled_vllm(change: Any) -> list[dict[str, Any]]:
    """vLLM's answer with its last place changed."""
    answers = copy.deepcopy(bodies("prompt_logprobs"))
    positions = answers[0]["choices"][0]["prompt_logprobs"]
    positions[-1] = change(positions[-1])
    return answers


def without_last(entry: dict[str, Any]) -> dict[str, Any]:
    by_rank = sorted(entry, key=lambda name: entry[name]["rank"])
    return {name: entry[name] for name in entry if name != by_rank[2]}


def with_value(value: Any) -> Any:
    def change(entry: dict[str, Any]) -> dict[str, Any]:
        first = min(entry, key=lambda name: entry[name]["rank"])
        return {**entry, first: {**entry[first], "logprob": value}}

    return change


def swapped(entry: dict[str, Any]) -> dict[str, Any]:
    by_rank = sorted(entry, key=lambda name: entry[name]["rank"])
    values = {name: dict(entry[name]) for name in entry}
    values[by_rank[0]]["rank"], values[by_rank[1]]["rank"] = 2, 1
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: None, "no log-probabilities of token 4: start the server without"),
        (without_last, "likeliest tokens"),
        (with_value(0.5), "a log-probability at token 4 is 0.5"),
        (with_value(math.nan), "a log-probability at token 4 is nan"),
        (with_value("x"), "a log-probability is 'x'"),
        (with_value(-1e-9), "add up to 1."),
        (swapped, "out of order"),
        (lambda entry: {"9": {"logprob": -1.0, "rank": 9}, **entry}, "token 4 is 5 and the server"),
    ],
)
def test_an_answer_that_can_not_be_right_is_refused(change: Any, message: str) -> None:
    with pytest.raises(BadScoresError, match=message):
        read("prompt_logprobs", spoiled_vllm(change))


def test_fewer_than_k_are_refused_unless_they_are_the_whole_vocabulary() -> None:
    with pytest.raises(BadScoresError, match="gave 3 likeliest tokens of the 4"):
        read("prompt_logprobs", bodies("prompt_logprobs", 3), k=4)
    assert read("n_probs", bodies("n_probs", 6), k=100).k == 6


def test_other_numbers_of_tokens_are_refused() -> None:
    short = bodies("input_top_logprobs")
    for name in ("input_token_logprobs", "input_top_logprobs"):
        short[0]["meta_info"][name].pop()
    with pytest.raises(BadScoresError, match="scored 2 tokens where 3 were sent"):
        read("input_top_logprobs", short)
    cut = bodies("n_probs")
    cut[0]["tokens_evaluated"] = 1  # a context that was cut at its beginning
    with pytest.raises(BadScoresError, match="read 1 tokens where 2 were sent"):
        read("n_probs", cut)
    with pytest.raises(BadScoresError, match="not in the form"):
        read("prompt_logprobs", [{"choices": []}])


def packed(changes: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The answer of `potstill serve`, whose scores are arrays."""
    order = [ranked(row)[:K] for row in TABLE]
    top_ids, top_logprobs = array("i"), array("f")
    for row, best in zip(TABLE, order, strict=True):
        top_ids.extend(best)
        top_logprobs.extend(row[token] for token in best)
    own = array("f", [row[token] for row, token in zip(TABLE, IDS[1:], strict=True)])
    scores = {
        "n": 4,
        "k": K,
        "token_ids": encode_array(array("i", IDS[1:])),
        "token_logprobs": encode_array(own),
        "top_ids": encode_array(top_ids),
        "top_logprobs": encode_array(top_logprobs),
    }
    return [{"choices": [{"prompt_logprobs": {**scores, **(changes or {})}}]}]


def test_arrays_say_the_same_and_are_checked_as_objects_are() -> None:
    objects = read("prompt_logprobs", bodies("prompt_logprobs"))
    assert read("prompt_logprobs", packed()) == objects
    for changes in ({"n": 3}, {"k": 2}, {"top_ids": "no base64"}, {"token_logprobs": "AAAA"}):
        with pytest.raises(BadScoresError):
            read("prompt_logprobs", packed(changes))


def test_a_server_is_asked_by_token_ids() -> None:
    request = token_scoring_request(IDS, start=START, top_logprobs=K)
    options = ServerOptions(url="http://127.0.0.1:1/v1")
    builder = RequestBuilder("teacher", options, None)
    (call,) = FORMS["prompt_logprobs"].calls(builder, request)
    assert (call.path, call.body["prompt"], call.body["prompt_logprobs"]) == (
        "/completions",
        IDS,
        K,
    )
    (call,) = FORMS["input_top_logprobs"].calls(builder, request)
    assert call.path == "http://127.0.0.1:1/generate" and call.body["logprob_start_len"] == 1
    calls = FORMS["n_probs"].calls(builder, request)
    assert [call.body["prompt"] for call in calls] == [IDS[:2], IDS[:3], IDS[:4]]


def test_scores_are_stored_and_paid_for_once(store: Store) -> None:
    answers, asked = [vllm_answer(IDS, TABLE, K)], []

    def completion(body: dict[str, Any], chat: bool, crowded: bool) -> tuple[float, Reply, list]:
        asked.append((body["prompt"], body["prompt_logprobs"]))
        return 0.0, Reply(200, json.dumps(answers[0]).encode()), []

    request = token_scoring_request(IDS, start=START, top_logprobs=K)
    with serving() as server:
        server.completion = completion  # type: ignore[method-assign]
        teacher = load(f"openai:teacher?url={server.url}&score=prompt_logprobs")
        cached = with_cache(teacher, store, role="teacher", arm="train", seed=0)
        (first,) = cached.score_tokens([request])
        assert cached.score_tokens([request, request]) == [first, first]
        assert asked == [(IDS, K)]
        assert first.tokens.prompt == 5 and first.logprobs[1] == pytest.approx(TABLE[2][1])
        assert TopLogprobs.from_text(first.text).k == K
        answers[0]["choices"][0]["prompt_logprobs"][4] = None
        other = token_scoring_request(IDS, start=START + 1, top_logprobs=K)
        with pytest.raises(ModelError, match="gave no likeliest tokens with score=prompt_logprobs"):
            cached.score_tokens([other])
