"""A chat message is read alike from servers and files, and a thought is written with its tags exactly once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.messages import (
    ChatMessage,
    MalformedMessageError,
    ToolCall,
    has_open_thought,
    is_reasoning_switch,
    join_reasoning,
    read_message,
    strip_reasoning_tags,
)
from potstill.records import REASONING_KEYS, split_reasoning

MISTRAL = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "one "}, {"type": "text", "text": "and one"}]},
    {"type": "text", "text": "2"},
]  # fmt: skip
ANTHROPIC = [
    {"type": "thinking", "thinking": "one and one", "signature": "c2ln"},
    {"type": "text", "text": "2"},
]
LANGCHAIN = [{"type": "reasoning", "reasoning": "one and one"}, {"type": "text", "text": "2"}]
BEDROCK = [
    {"type": "reasoning_content", "reasoning_content": {"text": "one and one", "signature": "c2ln"}},
    {"text": "2"},
]  # fmt: skip


@pytest.mark.parametrize("key", REASONING_KEYS)
def test_a_thought_is_found_under_every_name(key: str) -> None:
    assert read_message({"content": "2", key: "one and one"}).reasoning == "one and one"


@pytest.mark.parametrize("content", [MISTRAL, ANTHROPIC, LANGCHAIN, BEDROCK])
def test_thinking_chunks_are_the_thought(content: Any) -> None:
    message = read_message({"role": "assistant", "content": content})
    assert message == ChatMessage("assistant", "2", "one and one")


def test_reasoning_details_are_read() -> None:
    details = [
        {"type": "reasoning.summary", "summary": "first"},
        {"type": "reasoning.text", "text": "then", "format": "unknown"},
        {"type": "reasoning.encrypted", "data": "c2ln"},
    ]
    assert read_message({"content": "2", "reasoning_details": details}).reasoning == "first\n\nthen"


def test_an_empty_field_does_not_hide_the_next() -> None:
    message = {
        "content": "2",
        "reasoning_content": "",
        "reasoning": None,
        "thinking": "one and one",
    }
    assert read_message(message).reasoning == "one and one"


@pytest.mark.parametrize("switch", ["on", "Off", True, False, "high", {"effort": "low"}])
def test_a_switch_is_no_thought(switch: Any) -> None:
    assert read_message({"content": "2", "reasoning": switch}).reasoning == ""
    assert is_reasoning_switch(switch) or isinstance(switch, dict)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"from": "human", "value": "Add."}, ChatMessage("user", "Add.")),
        ({"from": "gpt", "value": "2"}, ChatMessage("assistant", "2")),
        ({"role": "assistant", "content": None}, ChatMessage("assistant", "")),
        ({"text": "2"}, ChatMessage("", "2")),
        ({"role": "user", "content": ["a", "b"]}, ChatMessage("user", "ab")),
        (
            {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "a"}]},
            ChatMessage("user", "a", unread=("image_url",)),
        ),
        (
            {"role": "assistant", "content": None, "refusal": "No."},
            ChatMessage("assistant", "", refusal="No."),
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            ChatMessage("assistant", "", refusal="No."),
        ),
    ],
)
def test_shapes_of_a_message(message: dict[str, Any], expected: ChatMessage) -> None:
    assert read_message(message) == expected


@pytest.mark.parametrize("content", [5, {"a": 1}, [5], [{"type": "text", "text": 5}], True])
def test_content_that_is_no_text_is_malformed(content: Any) -> None:
    with pytest.raises(MalformedMessageError, match=r"^a \w+ for a "):
        read_message({"content": content})


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"id": "c", "function": {"name": "add", "arguments": '{"a": 3}'}}]},
        {"tool_calls": [{"name": "add", "arguments": {"a": 3}}]},
        {"function_call": {"name": "add", "arguments": '{"a": 3}'}},
        {"content": [{"type": "tool_use", "name": "add", "input": {"a": 3}}]},
    ],
)
def test_tool_calls_of_every_shape(message: dict[str, Any]) -> None:
    assert read_message(message).tool_calls == (ToolCall("add", '{"a": 3}'),)


@pytest.mark.parametrize(
    ("reasoning", "reply"),
    [
        ("t", "r"),
        ("\nt\n", "\n\nr"),
        ("<think>\nt\n</think>", "r"),
        ("<think>t", "r"),
        ("t\n</think>\n", "r"),
        ("t", "</think>\n\nr"),
        ("t", "<think>\nt\n</think>\n\nr"),
        ("t", "t</think>r"),
    ],
)
def test_tags_that_are_there_are_not_doubled(reasoning: str, reply: str) -> None:
    assert join_reasoning(reasoning, reply) == "<think>\nt\n</think>\n\nr"


def test_two_different_thoughts_are_both_kept() -> None:
    assert strip_reasoning_tags("one", "<think>two</think>r") == ("one\n\ntwo", "r")
    assert strip_reasoning_tags("one and two", "<think>two</think>r") == ("one and two", "r")


def test_a_text_without_a_thought_comes_back_as_it_is() -> None:
    assert join_reasoning(" ", "\nr") == "\nr"


def test_a_thought_that_was_cut_stays_open() -> None:
    text = join_reasoning("half a th", "", is_truncated=True)
    assert text == "<think>\nhalf a th" and has_open_thought(text)
    assert not has_open_thought(join_reasoning("whole", ""))


@given(st.text(min_size=1), st.text())
def test_joining_and_splitting_are_inverse(reasoning: str, reply: str) -> None:
    thought, answer = split_reasoning(join_reasoning(reasoning, reply))
    if reasoning.strip() and "think>" not in reasoning + reply:
        assert (thought.strip("\n"), answer.strip("\n")) == (
            reasoning.strip("\n"),
            reply.strip("\n"),
        )
