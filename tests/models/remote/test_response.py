"""Answers read with distrust: any JSON is an answer or a failure, never another exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.models.remote.errors import Failure
from potstill.models.remote.response import (
    Answer,
    Asked,
    Choice,
    joined,
    numbers,
    read,
    shared,
    usage,
)
from potstill.records import NO_TOKENS, Problem, Tokens, Trace, split_reasoning


def body(message: Any = None, finish: Any = "stop", **more: Any) -> bytes:
    """An answer with one choice."""
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()


FIELDS = (
    *(
        "choices",
        "message",
        "content",
        "text",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "logprobs",
        "error",
    ),
    *(
        "finish_reason",
        "refusal",
        "model",
        "reasoning",
        "token_logprobs",
        "prompt_tokens_details",
        "cost",
    ),
)
WRONG = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=25,
)


def is_sound(answer: Answer) -> bool:
    """What everything else relies on."""
    texts = [c.text for c in answer.choices]
    [text.encode() for text in texts]
    counts = [count for completion in shared(answer) for count in completion.tokens]
    return bool(texts) and all(type(count) is int and 0 <= count < 2**53 for count in counts)


@given(WRONG)
def test_any_json_is_an_answer_or_a_failure(value: Any) -> None:
    for wrapped in (
        value,
        {"choices": value},
        {"choices": [value]},
        {"choices": [{"message": value, "text": value}]},
    ):
        try:
            answer = read(json.dumps(wrapped).encode(), Asked())
        except Failure as failure:
            assert failure.kind in ("malformed", "server")
        else:
            assert is_sound(answer)


@given(st.binary(max_size=60))
def test_any_bytes_are_no_answer(data: bytes) -> None:
    with pytest.raises(Failure):
        read(data, Asked())


@given(st.binary(max_size=60))
def test_any_bytes_in_a_text_are_text(data: bytes) -> None:
    kept = bytes(byte for byte in data if byte >= 32 and byte not in b'"\\')
    assert is_sound(read(b'{"choices":[{"text":"x' + kept + b'"}]}', Asked()))


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"null",
            b"[]",
            b"{}",
            b'{"choices": []}',
            b'{"choices": [null]}',
            b'{"choices": [{"message": null}]}',
        ),
        *(
            b'{"choices": [{"message": {"content": 5}}]}',
            b"[" * 100_000,
            b'{"choices": [{"text": NaN}]}',
            b"9" * 5000,
        ),
    ],
)
def test_what_is_no_answer_is_malformed(data: bytes) -> None:
    with pytest.raises(Failure, match="malformed") as failure:
        read(data, Asked())
    assert failure.value.retry and failure.value.billed


def test_lone_surrogates_and_broken_utf8_become_replacement_characters() -> None:
    assert read(body({"content": "a\ud83d b"}), Asked()).choices[0].text == "a\ufffd b"
    assert read(body({"content": "a\ud83d\ude00"}), Asked()).choices[0].text == "a\U0001f600"
    assert read(b'{"choices": [{"text": "a\xff"}]}', Asked()).choices[0].text == "a\ufffd"


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert read(body({"content": parts}), Asked()).choices[0].text == "ab"


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", "stop"),
        (None, "stop"),
        ("eos", "stop"),
        (7, "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
    ],
)
def test_how_it_ended(finish: Any, expected: str) -> None:
    assert read(body({"content": "a"}, finish), Asked()).choices[0].finish == expected


def test_a_stop_is_cut_even_if_the_server_left_it() -> None:
    choice = read(body({"content": "one END two"}, "length"), Asked(stops=("END",))).choices[0]
    assert (choice.text, choice.finish) == ("one ", "stop")
    assert read(body({"content": "END"}), Asked(stops=("END",))).choices[0].error == ""


def test_an_empty_answer_is_an_error_but_for_a_continuation() -> None:
    assert read(body({"content": " "}), Asked()).choices[0].error.startswith("empty")
    assert read(body({"content": ""}), Asked(prefix="done.")).choices[0] == Choice("")
    assert "raise max_tokens" in read(body({"content": None}, "length"), Asked()).choices[0].error


@pytest.mark.parametrize(
    ("think", "prefix", "cut", "expected"),
    [
        ("raw", "", False, "<think> t </think> r"),
        ("lines", "", False, "<think>\nt\n</think>\nr"),
        ("raw", "<think>a", False, " t </think> r"),
        ("lines", "<think>a", False, " t\n</think>\nr"),
        ("raw", "<think>a</think>", False, "<think> t </think> r"),
        ("raw", "", True, "<think> t </think> r"),
    ],
)
def test_thought_and_reply_are_joined(think: str, prefix: str, cut: bool, expected: str) -> None:
    assert joined(" t ", " r", Asked(prefix, think=think), cut=cut) == expected


def test_a_thought_that_was_cut_stays_open() -> None:
    text = (
        read(body({"reasoning": "half a th", "content": None}, "length"), Asked()).choices[0].text
    )
    assert text == "<think>half a th" and split_reasoning(text) == ("half a th", "")
    done = read(body({"reasoning": "whole", "content": ""}), Asked()).choices[0].text
    assert done == "<think>whole</think>"


@pytest.mark.parametrize(
    ("text", "thought", "reply"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na\n</think>\nb", "\na\n", "\nb"),
        ("plain", "", "plain"),
        ("<think>open", "open", ""),
        ("begun inside</think>b", "begun inside", "b"),
        (
            "an answer about <think> and </think> tags",
            "",
            "an answer about <think> and </think> tags",
        ),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("", "", ""),
    ],
)
def test_thought_and_reply_of_a_trace(text: str, thought: str, reply: str) -> None:
    assert split_reasoning(text) == (thought, reply)
    trace = Trace(Problem("p", "q"), "q", text)
    assert (trace.reasoning, trace.reply) == (thought, reply)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, NO_TOKENS),
        ({"prompt_tokens": 5, "completion_tokens": 7.0}, Tokens(5, 7)),
        ({"prompt_tokens": -5, "completion_tokens": float("inf")}, NO_TOKENS),
        ({"prompt_tokens": True, "completion_tokens": "7"}, NO_TOKENS),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Tokens(9, 0, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 40}}, Tokens(9, 0, 9)),
        (
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}},
            Tokens(0, 9, 0, 4),
        ),
        (
            {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 7}
            | {"completion_tokens_details": {"reasoning_tokens": 4}},
            Tokens(1, 6, 0, 4),
        ),
    ],
)
def test_usage_of_any_server(value: Any, expected: Tokens) -> None:
    assert usage(value) == expected


@given(
    st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=9),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_what_a_group_used_is_shared_without_a_rest(
    texts: list[str], completion: int, reasoning: int
) -> None:
    tokens = Tokens(11, completion, 3, min(reasoning, completion))
    made = shared(Answer(tuple(Choice(text) for text in texts), tokens, 0.25))
    assert Tokens(*(sum(counts) for counts in zip(*(c.tokens for c in made)))) == tokens
    assert sum(c.cost or 0 for c in made) == 0.25


def test_numbers_are_log_probabilities_or_nothing() -> None:
    assert numbers([-1, -0.5, 0.0001]) == (-1.0, -0.5, 0.0)
    assert [numbers(v) for v in ([float("nan")], [None], [True], "ab", None, [0.5])] == [None] * 6


def test_a_cost_that_the_server_says() -> None:
    assert read(body({"content": "a"}, usage={"cost": 0.5}), Asked()).cost == 0.5
    for cost in (-1, "1", float("nan"), True):
        assert read(body({"content": "a"}, usage={"cost": cost}), Asked()).cost is None
