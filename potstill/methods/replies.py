"""Replies of models that think before they answer: what they were asked for stands behind the thought."""

from __future__ import annotations

from typing import Any

from potstill.records import split_reasoning


def reply_alone(trace: Any) -> str:
    """A text without the thought before it; "" while that is not closed. A function for `edit`."""
    return reply_of(trace.text)


def reply_of(text: str) -> str:
    """What stands behind the thought of a text, or the whole text where there is none."""
    thought, reply = split_reasoning(text)
    return reply.strip() if thought else text
