"""Rows that say the answer and nothing else: what papers compare reasoning with, and what removing it leaves."""

from __future__ import annotations

from typing import Any

from potstill.records import Trace

ANSWER_ALONE = "The answer is \\boxed{{{answer}}}."  # a form that every verifier of answers reads


def gold_answer_alone(trace: Any) -> dict[str, str] | None:
    """The problem's gold answer as the text of a trace; None where it has none. A function for `edit`."""
    answer = trace.problem.answer
    return answer_text(answer) if answer else None


def own_answer_alone(trace: Any) -> dict[str, str] | None:
    """The answer that a judged text came to, without the text; None where none can be read. A function for `edit`."""
    answer = trace.verdict.answer
    return answer_text(answer) if answer else None


def answer_text(answer: str) -> dict[str, str]:
    """A finished text that is this answer."""
    return {"text": ANSWER_ALONE.format(answer=answer), "finish_reason": "stop"}


def is_read(trace: Trace) -> tuple[bool, str]:
    """Its answer can be read, whether it is the gold answer or not. A test for `keep`."""
    return trace.verdict.answer is not None, "no answer can be read"
