"""The fast key is the slow key: golden ids, and anything that hypothesis can think of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.models import model as module
from potstill.models.model import Request, Sampling, completion_keys, request_json
from potstill.records import Message, canonical, digest

TEXTS = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too
FLOATS = st.floats(min_value=1e-12, max_value=1e12)
PROMPTS = st.one_of(TEXTS, st.lists(st.builds(Message, TEXTS, TEXTS)).map(tuple))
SETTINGS = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0), st.just(0.0), st.integers(0, 3), FLOATS),
    top_p=st.floats(min_value=1e-300, max_value=1),
    top_k=st.integers(0),
    repetition_penalty=FLOATS,
    max_new_tokens=st.integers(1),
    stop=st.lists(TEXTS).map(tuple),
    ban_first=st.lists(TEXTS).map(tuple),
    logprobs=st.booleans(),
)
REQUESTS = st.builds(Request, PROMPTS, TEXTS, SETTINGS, st.integers(), st.integers())


def slow(model: str, request: Request, seed: int) -> str:
    """The definition."""
    asked = [
        model,
        request.prompt,
        request.prefix,
        request.sampling.changed(),
        seed,
        request.sample_index,
    ]
    return digest("completion", asked)


def slow_payload(request: Request, seed: int) -> str:
    names = {
        "prompt": request.prompt,
        "prefix": request.prefix,
        "settings": request.sampling.changed(),
    }
    return canonical({**names, "seed": seed, "sample_index": request.sample_index})


@given(st.lists(REQUESTS, max_size=5), TEXTS, st.integers())
def test_fast_equals_slow(requests, model, seed):
    assert completion_keys(model, requests, seed) == [
        slow(model, request, seed) for request in requests
    ]
    assert [request.key(model) for request in requests] == [
        slow(model, r, r.seed) for r in requests
    ]
    assert [request_json(request, seed) for request in requests] == [
        slow_payload(request, seed) for request in requests
    ]


def test_golden_keys():
    chat = (Message("system", "Think."), Message("user", "naïve \U0001f600 \ud800\n\x7f\u2028"))
    requests = [
        Request("2 + 2?"),
        Request(
            "2 + 2?",
            "The answer",
            Sampling(temperature=0.7, max_new_tokens=64, stop=("\n",)),
            sample_index=3,
        ),
        Request(chat, "", Sampling(temperature=0)),
        Request(chat, "", Sampling(temperature=0.0)),
        Request((), "", Sampling(top_p=1e-7), sample_index=1_000_000),
    ]
    assert completion_keys("model-1", requests, 7) == [
        "completion-8cc304d8ba7bff874c70",
        "completion-65bc71b39ecaabdf8994",
        "completion-75d90a6f547ab3d11e13",
        "completion-34de318eb8849586681c",
        "completion-34740fdc18c2b719e505",
    ]


def test_equal_settings_with_other_json_never_share_a_key():
    whole, real = Sampling(temperature=0, top_k=2), Sampling(temperature=0.0, top_k=2)
    assert whole == real
    for first, second in ((whole, real), (real, whole)):
        found = completion_keys(
            "m", [Request("q", sampling=first), Request("q", sampling=second)], 0
        )
        assert found == [slow("m", Request("q", sampling=how), 0) for how in (first, second)]
        assert found[0] != found[1]


def test_settings_made_anew_for_each_request_become_json_once(monkeypatch):
    made = []
    monkeypatch.setattr(module, "canonical", lambda value: made.append(value) or canonical(value))
    requests = [
        Request(f"q{i}", sampling=Sampling(temperature=0.123, stop=(f"s{i % 2}",)))
        for i in range(100)
    ]
    assert completion_keys("m", requests, 0) == [slow("m", request, 0) for request in requests]
    assert made == [Sampling(temperature=0.123, stop=(f"s{i}",)).changed() for i in range(2)]


def test_more_settings_than_are_remembered():
    requests = [Request("q", sampling=Sampling(max_new_tokens=1 + i % 300)) for i in range(900)]
    assert completion_keys("m", requests, 1) == [slow("m", request, 1) for request in requests]


def test_what_is_not_quite_a_prompt_goes_the_general_way():
    for prompt in ((("user", "q"),), ("ab", "cd"), [Message("user", "q")]):
        assert completion_keys("m", [Request(prompt)], 0) == [slow("m", Request(prompt), 0)]
    assert completion_keys("m", [Request("q", sample_index=True)], 0) == [
        slow("m", Request("q", sample_index=True), 0)
    ]
    with pytest.raises(TypeError, match="no canonical form"):
        completion_keys("m", [Request("q", sample_index=1j)], 0)


def test_a_payload_is_json_that_can_be_hashed_again():
    request = Request((Message("user", "\ud800"),), "p", Sampling(stop=("x",)), 2)
    asked = json.loads(request_json(request, 5))
    parts = [asked[name] for name in ("prompt", "prefix", "settings", "seed", "sample_index")]
    assert digest("completion", ["m", *parts]) == completion_keys("m", [request], 5)[0]
