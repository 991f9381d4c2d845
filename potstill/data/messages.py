"""Chat messages, from a server's answer or a row's turns: thought, reply, tool calls, refusal.

A thought travels in many ways: in a field beside the content (`REASONING_KEYS`), as thinking chunks in a list of
content (Mistral, Anthropic), or in <think> tags that stand in the text already. `read_message` finds it in all of
them; `join_reasoning` writes thought and reply as one text with the tags exactly once. `parse_turns` reads a whole
conversation, and refuses what prompts of role and text can't say.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.records import REASONING_KEYS, Message, Prompt, split_reasoning

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

ROLES = ("system", "developer", "user", "assistant", "tool")

_THOUGHT_MARKERS = re.compile(
    r"\s*<\|begin_of_thought\|>(.*?)<\|end_of_thought\|>\s*(?:<\|begin_of_solution\|>)?(.*?)"
    r"(?:<\|end_of_solution\|>)?\s*",
    re.DOTALL,
)
_TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")
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
    if not isinstance(role, str):
        role = ""
    # What stands beside the content goes before what is among its chunks.
    refusal = message.get("refusal")
    if not isinstance(refusal, str) or not refusal:
        refusal = "".join(chunks.refusals)
    return ChatMessage(
        role=ROLE_ALIASES.get(role, role),
        content="".join(chunks.texts),
        reasoning=read_reasoning(message) or "\n\n".join(chunks.thoughts),
        tool_calls=(*_read_tool_calls(message), *chunks.tool_calls),
        refusal=refusal,
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
    entries: list[Any] = []
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        entries += calls
    # The older way to call: one function, without a list.
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


# Turns: the messages of a row.


class Turn(NamedTuple):
    """One turn of a conversation; a weight of 0 says that it is not learnt."""

    role: str
    content: str
    weight: float = 1.0


def parse_turns(value: Any) -> list[Turn] | None:
    """The turns of a list of {role, content} or {from, value}, also as JSON text; None where it is no conversation.

    Raises:
        InputError: a conversation with a tool call, an image, or an unknown role.
    """
    # Tables hold conversations as JSON text.
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[ {", "[\n")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list | tuple) or not value:
        return None
    for turn in value:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role", turn.get("from")), str):
            return None
    return [_read_turn(turn) for turn in value]


def normalise_thought(text: str) -> str:
    """OpenThoughts' markers as <think> tags; any other text as it is."""
    if "<|begin_of_thought|>" not in text:
        return text
    whole = _THOUGHT_MARKERS.fullmatch(text)
    if whole:
        return join_reasoning(whole[1].strip(), whole[2].strip())
    return text.replace("<|begin_of_thought|>", "<think>").replace("<|end_of_thought|>", "</think>")


def _read_turn(turn: Mapping[str, Any]) -> Turn:
    try:
        message = read_message(turn)
    except MalformedMessageError as error:
        raise InputError(
            f"a turn's content is {error}",
            expected="a text, or a list of parts with text",
            fix="correct the row, or leave it out with --skip-bad",
        ) from error
    if message.role not in ROLES:
        raise InputError(
            f"a turn's role is {message.role!r}",
            available=(*ROLES, "human", "gpt"),
            wanted=message.role,
            fix="correct the role, or leave the row out with --skip-bad",
        )
    # What a text can't hold would be lost, and the answer would follow from nothing.
    unusable = [f"a part of type {kind!r}" for kind in message.unread]
    unusable += [f"a call of the tool {call.name!r}" for call in message.tool_calls]
    if unusable:
        raise InputError(
            f"a turn has {unusable[0]}, which prompts of role and text can't say",
            expected="turns of text",
            fix="leave the row out with --skip-bad, or write the call into the content as its student shall see it",
        )
    # A thought belongs to what the assistant says, and so does a refusal.
    content = message.content
    if message.role == "assistant":
        reply = normalise_thought(content or message.refusal)
        content = join_reasoning(message.reasoning, reply)
    return Turn(message.role, content, read_weight(turn.get("weight"), "a turn's weight"))


def parse_transcript(text: str) -> list[Turn]:
    """The turns of "\n\nHuman: … \n\nAssistant: …", as Anthropic's preference data writes conversations."""
    parts = _TRANSCRIPT_TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise InputError(
            "chosen and rejected are texts, and the row has no prompt",
            expected="a column prompt, or whole conversations as turns or as Human: … Assistant: …",
            fix="--map question=COLUMN",
        )
    # A split at a pattern with a group gives speaker and text in turn, behind what stands before the first.
    turns = []
    for speaker, content in zip(parts[1::2], parts[2::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        turns.append(Turn(role, content.strip()))
    return turns


def read_weight(value: Any, what: str) -> float:
    """How much a row or a turn counts, 1 where nothing is said."""
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"{what} is {value!r}", expected="a number", fix="correct it, or rename the column"
        )
    return float(value)


def last_question(turns: Sequence[Turn]) -> str:
    """What the user said last; without a user, what was said last."""
    for turn in reversed(turns):
        if turn.role == "user":
            return turn.content
    if turns:
        return turns[-1].content
    return ""


def to_prompt(turns: Sequence[Turn]) -> Prompt:
    """A lone user's turn as a text, anything else as messages."""
    if not turns:
        return ""
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].content
    return tuple(Message(turn.role, turn.content) for turn in turns)
