"""What a learner is shown, said as a template: the prompt with the problem's own texts as {question} and {choices}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from potstill.records import Trace
from potstill.traces.prompts import lettered_choices

MAX_TEMPLATES = 5  # that are listed of prompts that are not made from one


def prompt_template(trace: Trace) -> str:
    """The learner's prompt with {question}, {choices} and {table} for the problem's texts; turns by their role."""
    if isinstance(trace.prompt, str):
        return _insert_names(trace.prompt, trace)
    turns = [
        f"[{message.role}] {_insert_names(message.content, trace)}" for message in trace.prompt
    ]
    return "\n".join(turns)


def list_templates(traces: Iterable[Trace]) -> list[str]:
    """The different templates of the traces' prompts, most frequent first; no more than a few of them."""
    counts = Counter(prompt_template(trace) for trace in traces)
    templates = [template for template, _ in counts.most_common(MAX_TEMPLATES)]
    if len(counts) > MAX_TEMPLATES:
        templates.append(f"(and {len(counts) - MAX_TEMPLATES:,} more prompts)")
    return templates


def _insert_names(text: str, trace: Trace) -> str:
    problem = trace.problem
    values = {
        "{question}": problem.question,
        "{choices}": lettered_choices(trace),
        "{table}": problem.table or "",
    }
    for name, value in values.items():
        if value.strip():
            text = text.replace(value, name, 1)
    return text
