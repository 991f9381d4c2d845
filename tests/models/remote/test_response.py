"""Answers read with distrust: any JSON is an answer or a failure, never another exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.models.remote.errors import Failure
from potstill.models.remote.response import (
    Choice,
    Response,
    ResponseContext,
    join_server_reasoning,
    read_logprobs,
    read_response,
    read_usage,
    to_completions,
)
from potstill.records import NO_TOKENS, Problem, Tokens, Trace, split_reasoning


def body(message: Any = None, finish_reason: Any = "stop", **more: Any) -> bytes:
    """An answer with one choice."""
    return json.dumps(
        {"choices": [{"message": message, "finish_reason": finish_reason}], **more}
    ).encode()


FIELDS = (
    "choices", "message", "content", "text", "usage", "prompt_tokens",
    "completion_tokens", "logprobs", "error", "finish_reason", "refusal", "model",
    "reasoning", "token_logprobs", "prompt_tokens_details", "cost",
)  # fmt: skip
WRONG = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=25,
)


def is_sound(answer: Response) -> bool:
    """What everything else relies on."""
    texts = [c.text for c in answer.choices]
    [text.encode() for text in texts]
    counts = [count for completion in to_completions(answer) for count in completion.tokens]
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
            answer = read_response(json.dumps(wrapped).encode(), ResponseContext())
        except Failure as failure:
            assert failure.kind in ("malformed", "server")
        else:
            assert is_sound(answer)


@given(st.binary(max_size=60))
def test_any_bytes_are_no_answer(data: bytes) -> None:
    with pytest.raises(Failure):
        read_response(data, ResponseContext())


@given(st.binary(max_size=60))
def test_any_bytes_in_a_text_are_text_or_malformed(data: bytes) -> None:
    content = bytes(byte for byte in data if byte >= 32 and byte not in b'"\\')
    whole = b'{"choices":[{"text":"x' + content + b'"}]}'
    try:
        content.decode()
    except UnicodeDecodeError:
        with pytest.raises(Failure, match="malformed"):
            read_response(whole, ResponseContext())
    else:
        assert is_sound(read_response(whole, ResponseContext()))


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
        read_response(data, ResponseContext())
    assert failure.value.may_retry and failure.value.billed


@pytest.mark.parametrize(
    "data",
    [
        body({"content": "a\ud83d b"}),
        b'{"choices": [{"text": "a\xff"}]}',
        b'{"choices": [{"text": "a\xc3"}], "usage": {"completion_tokens": 7}}',
    ],
)
def test_half_a_character_is_malformed(data: bytes) -> None:
    with pytest.raises(Failure, match="malformed") as failure:
        read_response(data, ResponseContext())
    assert failure.value.may_retry and failure.value.billed
    assert failure.value.tokens.completion == (7 if b"usage" in data else 0)


def test_a_whole_character_in_two_escapes_is_one() -> None:
    data = body({"content": "a\ud83d\ude00"})
    assert read_response(data, ResponseContext()).choices[0].text == "a\U0001f600"


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert read_response(body({"content": parts}), ResponseContext()).choices[0].text == "ab"


@pytest.mark.parametrize(
    ("finish_reason", "expected"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("LENGTH", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_how_it_ended(finish_reason: Any, expected: str) -> None:
    [choice] = read_response(body({"content": "a"}, finish_reason), ResponseContext()).choices
    assert (choice.finish_reason, choice.error) == (expected, "")


@pytest.mark.parametrize("finish_reason", [None, 7, "what", ""])
def test_an_ending_that_nobody_knows_is_not_finished(finish_reason: Any) -> None:
    [choice] = read_response(body({"content": "a"}, finish_reason), ResponseContext()).choices
    assert (choice.text, choice.finish_reason) == ("a", "")
    assert choice.error.startswith("unfinished: ")
    if finish_reason is not None:
        assert repr(str(finish_reason)) in choice.error


def test_a_stop_reason_beside_the_finish_reason_is_read_where_that_is_missing() -> None:
    entries = [
        {"message": {"content": "a"}, "finish_reason": "length", "stop_reason": 128001},
        {"message": {"content": "a"}, "finish_reason": None, "stop_reason": "end_turn"},
        {"message": {"content": "a"}, "stop_reason": "max_tokens"},
    ]
    data = json.dumps({"choices": entries}).encode()
    finishes = [choice.finish_reason for choice in read_response(data, ResponseContext()).choices]
    assert finishes == ["length", "stop", "length"]


@pytest.mark.parametrize("finish_reason", ["abort", "error", "insufficient_system_resource"])
def test_an_answer_that_the_server_broke_off_may_be_tried_again(finish_reason: str) -> None:
    with pytest.raises(Failure, match="broke the answer off") as failure:
        read_response(
            body({"content": "a"}, finish_reason, usage={"completion_tokens": 7}), ResponseContext()
        )
    assert (failure.value.kind, failure.value.text) == ("server", "a")
    assert failure.value.may_retry and failure.value.billed and failure.value.tokens.completion == 7


def test_a_choice_that_was_broken_off_beside_a_whole_one_is_an_error() -> None:
    entries = [
        {"message": {"content": "a"}, "finish_reason": "stop"},
        {"message": {"content": "b"}, "finish_reason": "abort"},
    ]
    whole, broken_off = read_response(
        json.dumps({"choices": entries}).encode(), ResponseContext()
    ).choices
    assert (whole.finish_reason, whole.error) == ("stop", "")
    assert broken_off.error.startswith("server: the server broke the answer off")


@pytest.mark.parametrize("finish_reason", [None, "abort", "length"])
def test_a_text_that_holds_a_stop_string_is_whole_however_it_ended(finish_reason: Any) -> None:
    data = body({"content": "one END two"}, finish_reason)
    [choice] = read_response(data, ResponseContext(stop=("END",))).choices
    assert (choice.text, choice.finish_reason, choice.error) == ("one ", "stop_string", "")
    assert choice.stop_string == "END"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"finish_reason": "stop", "stop_reason": None}, ("stop", "")),  # vLLM
        ({"finish_reason": "stop", "stop_reason": 151645}, ("stop", "")),
        ({"finish_reason": "stop", "stop_reason": "END"}, ("stop_string", "END")),
        ({"finish_reason": "stop", "matched_stop": 2}, ("stop", "")),  # SGLang
        ({"finish_reason": "stop", "matched_stop": "END"}, ("stop_string", "END")),
        ({"finish_reason": {"type": "stop", "matched": "END"}}, ("stop_string", "END")),
        ({"finish_reason": {"type": "stop", "matched": 2}}, ("stop", "")),
        ({"finish_reason": "stop_sequence", "stop_sequence": "END"}, ("stop_string", "END")),
        ({"finish_reason": "stop_sequence"}, ("stop_string", "")),
        ({"finish_reason": "end_turn"}, ("stop", "")),
        ({"finish_reason": "eos_token"}, ("stop", "")),
        ({"finish_reason": "stop"}, ("stop_string", "")),  # OpenAI says the same of both
        ({"finish_reason": "length", "stop_reason": None}, ("length", "")),
    ],
)
def test_a_stop_string_is_told_from_the_end_of_an_answer(said: Any, expected: Any) -> None:
    data = json.dumps({"choices": [{"message": {"content": "one"}, **said}]}).encode()
    [asked] = read_response(data, ResponseContext(stop=("END",))).choices
    assert (asked.finish_reason, asked.stop_string) == expected
    [completion] = to_completions(read_response(data, ResponseContext(stop=("END",))))
    assert (completion.finish_reason, completion.stop_string) == expected


def test_where_no_stop_string_was_asked_for_a_stop_is_the_end() -> None:
    [choice] = read_response(body({"content": "one"}), ResponseContext()).choices
    assert (choice.finish_reason, choice.stop_string) == ("stop", "")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "16", "thinking": "7 + 9"}, "<think>7 + 9</think>16"),
        ({"content": "16", "reasoning_details": [{"text": "7 + 9"}]}, "<think>7 + 9</think>16"),
        (
            {"content": "16", "reasoning_content": "<think>\n7 + 9\n</think>"},
            "<think>\n7 + 9\n</think>16",
        ),
        (
            {"content": "</think>\n\n16", "reasoning_content": "7 + 9"},
            "<think>7 + 9</think>\n\n16",
        ),
        (
            {"content": "<think>7 + 9</think>16", "reasoning": "7 + 9"},
            "<think>7 + 9</think>16",
        ),
        (
            {"content": "</think> is a tag.", "reasoning": ""},
            "</think> is a tag.",
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "7 + 9"}]},
                    {"type": "text", "text": "16"},
                ]
            },
            "<think>7 + 9</think>16",
        ),
    ],
)
def test_a_thought_stands_before_the_reply_with_its_tags_once(
    message: dict[str, Any], expected: str
) -> None:
    assert read_response(body(message), ResponseContext()).choices[0].text == expected


def test_a_stop_is_cut_even_if_the_server_left_it() -> None:
    choice = read_response(
        body({"content": "one END two"}, "length"), ResponseContext(stop=("END",))
    ).choices[0]
    assert (choice.text, choice.finish_reason) == ("one ", "stop_string")
    assert (
        read_response(body({"content": "END"}), ResponseContext(stop=("END",))).choices[0].error
        == ""
    )


def end_of(message: dict[str, Any], finish_reason: str = "stop") -> tuple[str, str]:
    """Text and finish reason of an answer to a request that stops at END."""
    [choice] = read_response(body(message, finish_reason), ResponseContext(stop=("END",))).choices
    return choice.text, choice.finish_reason


def test_a_stop_string_in_a_thought_that_came_apart_ends_nothing() -> None:
    whole = {"reasoning_content": "No END yet.", "content": "It is 4."}
    assert end_of(whole) == ("<think>No END yet.</think>It is 4.", "stop_string")
    cut = {"reasoning_content": "No END yet.", "content": "It is END 4."}
    assert end_of(cut) == ("<think>No END yet.</think>It is ", "stop_string")
    in_the_text = {"content": "<think>No END yet.</think>It is 4."}
    assert end_of(in_the_text) == ("<think>No ", "stop_string")


def test_a_thought_that_a_stop_string_ended_stays_open() -> None:
    left = {"reasoning": "We see END of", "content": None}  # some servers leave the string in
    assert end_of(left) == ("<think>We see ", "stop_string")
    assert end_of(left, "length") == ("<think>We see END of", "length"), "it went on behind it"
    assert end_of({"reasoning": "We see", "content": None}) == ("<think>We see", "stop_string")
    assert end_of({"reasoning": "We see", "content": ""}, "length") == ("<think>We see", "length")


def test_an_empty_answer_is_an_error_but_for_a_continuation() -> None:
    assert (
        read_response(body({"content": " "}), ResponseContext())
        .choices[0]
        .error.startswith("empty")
    )
    assert read_response(body({"content": ""}), ResponseContext(prefix="done.")).choices[
        0
    ] == Choice("")
    assert (
        "raise max_tokens"
        in read_response(body({"content": None}, "length"), ResponseContext()).choices[0].error
    )


@pytest.mark.parametrize(
    ("think", "prefix", "is_truncated", "expected"),
    [
        ("raw", "", False, "<think> t </think> r"),
        ("lines", "", False, "<think>\nt\n</think>\nr"),
        ("raw", "<think>a", False, " t </think> r"),
        ("lines", "<think>a", False, " t\n</think>\nr"),
        ("raw", "<think>a</think>", False, "<think> t </think> r"),
        ("raw", "", True, "<think> t </think> r"),
    ],
)
def test_thought_and_reply_are_joined(
    think: str, prefix: str, is_truncated: bool, expected: str
) -> None:
    assert (
        join_server_reasoning(
            " t ", " r", ResponseContext(prefix, think=think), is_truncated=is_truncated
        )
        == expected
    )


def test_a_thought_that_was_cut_stays_open() -> None:
    text = (
        read_response(
            body({"reasoning": "half a th", "content": None}, "length"), ResponseContext()
        )
        .choices[0]
        .text
    )
    assert text == "<think>half a th" and split_reasoning(text) == ("half a th", "")
    done = (
        read_response(body({"reasoning": "whole", "content": ""}), ResponseContext())
        .choices[0]
        .text
    )
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
        ({"prompt_tokens": True, "completion_tokens": "many"}, NO_TOKENS),
        ({"prompt_tokens": "5", "completion_tokens": "7.0"}, Tokens(5, 7)),
        ({"prompt_tokens": 10**9, "completion_tokens": 1e300}, NO_TOKENS),
        ([7], NO_TOKENS),
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
    assert read_usage(value) == expected


@given(
    st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=9),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_what_a_group_used_is_shared_without_a_rest(
    texts: list[str], completion: int, reasoning: int
) -> None:
    tokens = Tokens(11, completion, 3, min(reasoning, completion))
    made = to_completions(Response(tuple(Choice(text) for text in texts), tokens, 0.25))
    assert Tokens(*(sum(counts) for counts in zip(*(c.tokens for c in made)))) == tokens
    assert sum(c.cost or 0 for c in made) == 0.25


def test_numbers_are_log_probabilities_or_nothing() -> None:
    assert read_logprobs([-1, -0.5, 0.0001]) == (-1.0, -0.5, 0.0)
    assert [read_logprobs(v) for v in ([float("nan")], [None], [True], "ab", None, [0.5])] == [
        None
    ] * 6


def test_a_cost_that_the_server_says() -> None:
    for cost in (0.5, "0.5"):
        response = read_response(body({"content": "a"}, usage={"cost": cost}), ResponseContext())
        assert (response.cost, response.ignored) == (0.5, ())
    for cost in (-1, "much", float("nan"), True, 1e300, [1]):
        response = read_response(body({"content": "a"}, usage={"cost": cost}), ResponseContext())
        assert response.cost is None and response.ignored == (f"cost={cost!r}",)
