"""Thought and reply of a text, and whether an answer counts that stands only inside the thought.

It does not: a thought without a reply, closed or cut, is no answer, or a model would be rewarded for not finishing.
Inside `reading_thoughts` it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# How models mark where a thought begins and ends.
THOUGHT_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)

# Whether answers inside thoughts count; a context variable, so that worker threads inherit it.
_READS_THOUGHTS: ContextVar[bool] = ContextVar("potstill_reads_thoughts", default=False)


@contextmanager
def reading_thoughts(is_on: bool = True) -> Iterator[None]:
    """Let answers count that stand only inside a thought, for the length of a `with` block."""
    token = _READS_THOUGHTS.set(is_on)
    try:
        yield
    finally:
        _READS_THOUGHTS.reset(token)


def reads_thoughts() -> bool:
    """Whether answers that stand only inside a thought count now."""
    return _READS_THOUGHTS.get()


def split_reply(text: str) -> tuple[str, str]:
    """Split a text into the reply after its last thought and the reasoning before it, by any of `THOUGHT_MARKS`.

    An unclosed thought is all reasoning, and what stands before it is the reply.
    """
    # The last closing mark of any kind ends the reasoning.
    reasoning_end = reply_start = 0
    for _, closing in THOUGHT_MARKS:
        position = text.rfind(closing)
        if position >= reply_start:
            reasoning_end, reply_start = position, position + len(closing)
    # A thought that was opened behind it was cut.
    reply_end = cut_start = len(text)
    for opening, _ in THOUGHT_MARKS:
        position = text.rfind(opening, reply_start)
        if 0 <= position < reply_end:
            reply_end, cut_start = position, position + len(opening)
    return text[reply_start:reply_end], text[:reasoning_end] + text[cut_start:]


def is_only_thought(text: str) -> bool:
    """Whether a text has a thought, and nothing but blanks after it."""
    reply, _ = split_reply(text)
    return bool(text.strip()) and not reply.strip()
