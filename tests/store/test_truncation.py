"""Cut-off answers under each policy, streamed and batched models: calls, texts, marks, and resuming for free."""

from __future__ import annotations

import pytest
from remote_fakes import RemoteModel
from store_fakes import Plain, ask

from potstill.errors import ConfigError
from potstill.models.model import Completion, Request, Sampling
from potstill.records import Message, Tokens
from potstill.store import with_cache
from potstill.store.truncation import ASK_SHORTER, MAX_CONTINUATIONS, POLICIES, ask_shorter

WORDS = [f"w{i} " for i in range(10)]
WHOLE = "".join(WORDS)


def cut(request: Request) -> Completion:
    """Says w0 to w9, at most `max_tokens` of them; half as many where it is asked to be shorter."""
    prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
    if "fail" in prompt and (
        request.prefix or ASK_SHORTER in prompt or request.sampling.max_new_tokens > 4
    ):
        return Completion("", "", Tokens(3), "server: 503")
    begin = len(request.prefix.split())
    words = (WORDS[: len(WORDS) // 2] if ASK_SHORTER in prompt else WORDS)[begin:]
    said = words[: request.sampling.max_new_tokens]
    finish = "length" if len(said) < len(words) else "stop"
    logprobs = tuple(-float(word[1]) for word in said)
    return Completion("".join(said), finish, Tokens(7 + begin, len(said)), "", 0.5, logprobs, 0.25)


class Batched(Plain):
    def write(self, requests):
        super().write(requests)
        return [cut(request) for request in requests]

    @property
    def sent(self):
        return [request for call in self.calls for request in call]


class Streaming(RemoteModel):
    def completion(self, request):
        return cut(request)


@pytest.fixture(params=[Batched, Streaming])
def make(request):
    return request.param


def say(*limits: int, prompt: str = "talk") -> list[Request]:
    return [
        Request(f"{prompt} {i}", sampling=Sampling(max_new_tokens=n)) for i, n in enumerate(limits)
    ]


def run(make, store, policy, requests, calls):
    """The answers, after `calls` calls, and again from the store with none."""
    model, again = make(), make()
    first = with_cache(model, store, role="teacher", arm="sft", seed=3, truncated=policy).write(
        requests
    )
    assert len(model.sent) == calls
    assert {request.seed for request in model.sent} == {3}
    second = with_cache(again, store, role="teacher", arm="sft", seed=3, truncated=policy).write(
        requests
    )
    assert second == first
    assert again.sent == []
    assert store.usage("sft")["teacher"]["calls"] == calls
    return first


def test_keep_marks_what_was_cut(make, store):
    short, whole = run(make, store, "keep", say(4, 20), 2)
    assert (short.text, short.finish_reason, short.error) == ("w0 w1 w2 w3 ", "length", "")
    assert (whole.text, whole.finish_reason) == (WHOLE, "stop")


def test_drop_is_a_failure_to_the_caller_and_stays_in_the_store(make, store):
    short, whole = run(make, store, "drop", say(4, 20), 2)
    assert (short.text, short.finish_reason, short.error) == (
        "",
        "",
        "length: cut off after 4 tokens",
    )
    assert (short.tokens, short.cost) == (Tokens(7, 4), 0.25)
    assert whole.text == WHOLE
    texts = {
        stored.completion.text: stored.completion.finish_reason
        for stored in store.completions.iterate()
    }
    assert texts == {"w0 w1 w2 w3 ": "length", WHOLE: "stop"}


def test_continue_goes_on_from_the_text_and_joins_it(make, store):
    first, whole, never = run(make, store, "continue", say(4, 20, 2), 3 + 1 + 1 + MAX_CONTINUATIONS)
    assert (first.text, first.finish_reason) == (WHOLE, "stop")
    assert first.tokens == Tokens(7 + 11 + 15, 10)
    assert (first.cost, first.seconds) == (0.75, 1.5)
    assert first.logprobs == tuple(-float(i) for i in range(10))
    assert whole.text == WHOLE
    assert (never.text, never.finish_reason) == (
        "".join(WORDS[: 2 * (1 + MAX_CONTINUATIONS)]),
        "length",
    )


def test_raise_asks_once_more_with_twice_the_room(make, store):
    enough, still, whole = run(make, store, "raise", say(5, 4, 20), 5)
    assert (enough.text, enough.finish_reason, enough.tokens) == (WHOLE, "stop", Tokens(7, 10))
    assert [(t.error, t.tokens, t.text, t.billed) for t in enough.tries] == [
        ("length: cut off after 5 tokens", Tokens(7, 5), "".join(WORDS[:5]), True)
    ]
    assert (still.text, still.finish_reason) == ("".join(WORDS[:8]), "length")
    assert (whole.text, whole.tries) == (WHOLE, ())


def test_shorter_asks_once_more_for_less(make, store):
    enough, still = run(make, store, "shorter", say(5, 4), 4)
    assert (enough.text, enough.finish_reason) == ("".join(WORDS[:5]), "stop")
    assert (still.text, still.finish_reason) == ("".join(WORDS[:4]), "length")
    assert [len(answer.tries) for answer in (enough, still)] == [1, 1]


@pytest.mark.parametrize("policy", ["continue", "raise", "shorter"])
def test_where_the_further_call_fails_the_cut_answer_stands(make, store, policy):
    (answer,) = run(make, store, policy, say(4, prompt="fail"), 2)
    assert (answer.text, answer.finish_reason, answer.error) == ("w0 w1 w2 w3 ", "length", "")
    assert [attempt.error for attempt in answer.tries] == ["server: 503"]


def test_a_kill_between_an_answer_and_what_follows_it_asks_only_for_the_rest(make, store):
    requests = say(4, 4, 4, 20)
    with_cache(make(), store, role="teacher", arm="sft", seed=3).write(requests)
    model = make()
    wrapped = with_cache(model, store, role="teacher", arm="sft", seed=3, truncated="continue")
    assert {answer.text for answer in wrapped.write(requests)} == {WHOLE}
    assert sorted(len(request.prefix.split()) for request in model.sent) == [4, 4, 4, 8, 8, 8]


def test_equal_cut_answers_lead_to_one_further_call(make, store):
    (request,) = say(5)
    out = run(make, store, "raise", [request, request, request], 2)
    assert {answer.text for answer in out} == {WHOLE}


def test_a_shorter_wish_stands_in_the_last_user_turn():
    turns = (
        Message("system", "s"),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
    )
    assert ask_shorter(turns) == (*turns[:3], Message("user", f"c\n\n{ASK_SHORTER}"))
    assert ask_shorter(turns[:1]) == (turns[0], Message("user", ASK_SHORTER))
    assert ask_shorter("a") == f"a\n\n{ASK_SHORTER}"


def test_an_unknown_policy_is_refused(store):
    with pytest.raises(ConfigError, match="continu") as error:
        with_cache(Plain(), store, role="teacher", arm="sft", seed=0, truncated="continu")
    assert error.value.nearest == ("continue",)
    assert set(error.value.available) == set(POLICIES)


def test_answers_of_other_models_fail_as_before(store):
    failing = Plain(fails={"a"})
    out = with_cache(failing, store, role="teacher", arm="sft", seed=0, truncated="raise").write(
        ask("a", "b")
    )
    assert [answer.error for answer in out] == ["time-out", ""]
    assert failing.asked == ["a", "b"]
