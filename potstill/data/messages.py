"""One chat message, from a server's answer or a row's turn: thought, reply, tool calls, refusal.

A thought travels in many ways: in a field beside the content (`REASONING_KEYS`), as thinking chunks in a list of
content (Mistral, Anthropic), or in <think> tags that stand in the text already. `read_message` finds it in all of
them; `join_reasoning` writes thought and reply as one text with the tags exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.records import REASONING_KEYS, split_reasoning

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
ROLE_ALIASES: Mapping[str, str] = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
REASONING_SWITCHES = ("on", "off", "true", "false", "yes", "no", "auto", "none", "enabled", "disabled", "minimal",
                      "low", "medium", "high")  # fmt: skip
"""What a column or field `reasoning` holds where it says how to think, not what was thought."""

_TEXT_CHUNKS = ("text", "output_text", "input_text")
_REASONING_CHUNKS = ("thinking", "reasoning", "reasoning_text", "reasoning_content")
_REASONING_TEXT_KEYS = (
    "thinking",
    "reasoning",
    "reasoning_text",
    "reasoning_content",
    "text",
    "summary",
    "content",
)


class ToolCall(NamedTuple):
    """One call of a tool: its name and its arguments as JSON text."""

    name: str
    arguments: str


class ChatMessage(NamedTuple):
    """What one message says.

    Args:
        role: "user", "assistant", "system", "tool" …; "" where the message has none.
        content: the reply, or what a user's turn says; the text chunks of a list joined.
        reasoning: the thought beside it; "" without one. It may still have its tags: see `join_reasoning`.
        tool_calls: in order.
        refusal: why the model did not answer.
        unread: types of the parts that are neither text nor thought ("image_url", "redacted_thinking" …).
    """

    role: str
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    unread: tuple[str, ...] = ()


class MalformedMessageError(ValueError):
    """A message whose content is no text, no list of parts and not null."""


def read_message(message: Mapping[str, Any]) -> ChatMessage:
    """Read a message of OpenAI's, Mistral's, Anthropic's or ShareGPT's shape.

    The thought is the first of `REASONING_KEYS` that is not empty, else the thinking chunks of the content, which then
    stand before all text, also where chunks of text stand between them. `MalformedMessageError` is raised where the
    content is none of a text, a list of parts and null.
    """
    # `from` and `value` are ShareGPT's names, `text` is a plain completion's.
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value", message.get("text")))
    chunks = _read_chunks(content)
    refusal = message.get("refusal")
    return ChatMessage(
        role=ROLE_ALIASES.get(role, role) if isinstance(role, str) else "",
        content="".join(chunks.texts),
        reasoning=read_reasoning(message) or "\n\n".join(chunks.thoughts),
        tool_calls=(*_read_tool_calls(message), *chunks.tool_calls),
        refusal=refusal if isinstance(refusal, str) and refusal else "".join(chunks.refusals),
        unread=tuple(chunks.unread),
    )


def read_reasoning(message: Mapping[str, Any]) -> str:
    """The thought beside a message's content, or among a row's columns; "" where there is none.

    A switch (`reasoning: off`, a boolean, an object of settings) is no thought.
    """
    for key in REASONING_KEYS:
        text = reasoning_text(message.get(key))
        if text.strip() and not is_reasoning_switch(text):
            return text
    return ""


def is_reasoning_switch(value: Any) -> bool:
    """Whether a value under `reasoning` says whether or how much to think, rather than what was thought."""
    if isinstance(value, bool):
        return True
    return isinstance(value, str) and value.strip().casefold() in REASONING_SWITCHES


def reasoning_text(value: Any) -> str:
    """The text of a thought: a string, a block with a text inside, or a list of either.

    Blocks of a list are thoughts of their own and get an empty line between them; the text chunks inside one block
    are pieces of one text.
    """
    if isinstance(value, list):
        return "\n\n".join(text for text in map(_block_text, value) if text)
    return _block_text(value)


def _block_text(block: Any) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, list):
        return "".join(_block_text(piece) for piece in block)
    if isinstance(block, Mapping):
        for key in _REASONING_TEXT_KEYS:
            if text := _block_text(block.get(key)):
                return text
    return ""


def has_open_thought(text: str) -> bool:
    """Whether a text ends inside its thought."""
    return text.rfind(OPEN_TAG) > text.rfind(CLOSE_TAG)


def strip_reasoning_tags(reasoning: str, reply: str) -> tuple[str, str]:
    """Thought and reply without tags that stand in them already, so that a join does not double these.

    Taken away are `<think>` before the thought, `</think>` behind it or before the reply. A reply that holds a thought
    of its own gives it up: one that contains the thought beside it replaces it, another one is put behind it.
    """
    # Tags around the thought, and a closing one that a server left before the reply.
    reasoning = _strip_own_tags(reasoning)
    if reply.lstrip().startswith(CLOSE_TAG):
        return reasoning, reply.lstrip().removeprefix(CLOSE_TAG)

    # The whole text may stand in the reply, beside the thought that a server took out of it.
    thought_in_reply, remaining_reply = split_reasoning(reply)
    is_tagged = reply.lstrip().startswith(OPEN_TAG)
    if not is_tagged and thought_in_reply.strip() != reasoning.strip():
        return reasoning, reply  # it speaks of the tag
    if reasoning.strip() in thought_in_reply:
        return thought_in_reply, remaining_reply
    if thought_in_reply.strip() in reasoning:
        return reasoning, remaining_reply
    return f"{reasoning}\n\n{thought_in_reply}", remaining_reply


def _strip_own_tags(reasoning: str) -> str:
    """A thought without the tags around it."""
    if reasoning.lstrip().startswith(OPEN_TAG):
        reasoning = reasoning.lstrip().removeprefix(OPEN_TAG)
    if reasoning.rstrip().endswith(CLOSE_TAG):
        reasoning = reasoning.rstrip().removesuffix(CLOSE_TAG)
    return reasoning


def _refuse_two_thoughts(reasoning: str, reply: str) -> None:
    """Refuse a row's reply that has a thought in tags, and another one beside it."""
    if not reply.lstrip().startswith(OPEN_TAG):
        return
    thought_in_reply, _ = split_reasoning(reply)
    beside, inside = _strip_own_tags(reasoning).strip(), thought_in_reply.strip()
    if beside not in inside and inside not in beside:
        raise InputError(
            f"two thoughts for one reply: {beside[:60]!r} beside it, {inside[:60]!r} in its {OPEN_TAG} tags",
            expected="one thought a completion",
            fix="--map reasoning= takes the one in the tags, or leave the row out with --skip-bad",
        )


def join_reasoning(reasoning: str, reply: str, *, is_truncated: bool = False) -> str:
    r"""Thought and reply of a row as one text: `<think>\nthought\n</think>\n\nreply`, the tags never doubled.

    A server's answer is joined by `models.remote.response`, without line breaks that the model did not write.

    Args:
        reasoning: the thought; without one the reply comes back as it is.
        reply: what follows it.
        is_truncated: whether a limit ended the text; a thought without a reply then stays open.

    Raises:
        InputError: a reply with another thought in tags of its own.
    """
    if not reasoning.strip():
        return reply
    _refuse_two_thoughts(reasoning, reply)
    reasoning, reply = strip_reasoning_tags(reasoning, reply)
    opened_text = f"{OPEN_TAG}\n{reasoning.strip(chr(10))}"
    if is_truncated and not reply.strip():
        return opened_text
    return f"{opened_text}\n{CLOSE_TAG}\n\n{reply.strip(chr(10))}"


class _Chunks(NamedTuple):
    """A list of content, sorted by kind."""

    texts: list[str]
    thoughts: list[str]
    tool_calls: list[ToolCall]
    refusals: list[str]
    unread: list[str]


def _read_chunks(content: Any) -> _Chunks:
    chunks = _Chunks([], [], [], [], [])
    if content is None:
        return chunks
    if isinstance(content, str):
        chunks.texts.append(content)
        return chunks
    if not isinstance(content, list):
        raise MalformedMessageError(f"a {type(content).__name__} for a text")
    for chunk in content:
        _read_chunk(chunk, chunks)
    return chunks


def _read_chunk(chunk: Any, chunks: _Chunks) -> None:
    """Add one part of a content list to the parts of its kind."""
    if isinstance(chunk, str):
        chunks.texts.append(chunk)
        return
    if not isinstance(chunk, Mapping):
        raise MalformedMessageError(f"a {type(chunk).__name__} for a part of a text")
    kind = chunk.get("type", "text")
    if kind in _TEXT_CHUNKS:
        text = chunk.get("text")
        if not isinstance(text, str):
            raise MalformedMessageError(f"a {type(text).__name__} for a part of a text")
        chunks.texts.append(text)
    elif kind in _REASONING_CHUNKS:
        chunks.thoughts.append(_block_text(chunk))
    elif kind == "tool_use":
        chunks.tool_calls.append(ToolCall(str(chunk.get("name", "")), _as_json(chunk.get("input"))))
    elif kind == "refusal":
        chunks.refusals.append(str(chunk.get("refusal", "")))
    else:
        chunks.unread.append(str(kind))


def _read_tool_calls(message: Mapping[str, Any]) -> list[ToolCall]:
    calls = message.get("tool_calls")
    entries = list(calls) if isinstance(calls, Sequence) and not isinstance(calls, str) else []
    if message.get("function_call"):
        entries.append({"function": message["function_call"]})
    tool_calls = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        function = entry.get("function", entry)
        if isinstance(function, Mapping):
            arguments = _as_json(function.get("arguments"))
            tool_calls.append(ToolCall(str(function.get("name", "")), arguments))
    return tool_calls


def _as_json(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return json.dumps({} if arguments is None else arguments, ensure_ascii=False, default=str)
