"""What a learner is shown, said as a template: the prompt with {question} and {choices} for the problem's own texts.

Who trains on rows has no template, only prompts that were made from one. It is found again so that a student can be
asked as it was trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from potstill.records import Problem, Prompt, Trace

MAX_TEMPLATES = 5  # that are listed of prompts that are not made from one
QUESTION = "{question}"


def list_templates(traces: Sequence[Trace]) -> list[str]:
    """The templates of the traces' prompts, most frequent first; no more than a few of them.

    A template is one that `--prompt` takes; the turns of a conversation stand behind their roles.
    """
    counts = Counter(prompt_template(trace.prompt, trace.problem) for trace in traces)
    if list(counts) == [QUESTION]:
        # Rows of a file: what they call the question is their whole prompt.
        return [common_template({trace.problem.question for trace in traces})]
    templates = [template for template, _ in counts.most_common(MAX_TEMPLATES)]
    if len(counts) > MAX_TEMPLATES:
        templates.append(f"(and {len(counts) - MAX_TEMPLATES:,} more prompts)")
    return templates


def prompt_template(prompt: Prompt, problem: Problem) -> str:
    """A prompt with the names of the problem's fields in the place of their texts."""
    fields = {
        QUESTION: problem.question,
        "{choices}": problem.lettered_choices,
        "{table}": problem.table or "",
    }
    names = [(name, value) for name, value in fields.items() if value.strip()]
    if isinstance(prompt, str):
        return _join_segments(_split_at_names(prompt, names))
    turns: list[str] = []
    for turn in prompt:
        content = _join_segments(_split_at_names(turn.content, names))
        turns.append(f"[{turn.role}] {content}")
    return "\n".join(turns)


def common_template(prompts: set[str]) -> str:
    """The template of prompts whose questions are not known: their common first and last paragraphs."""
    if len(prompts) < 2:
        return QUESTION
    paragraphs = [prompt.split("\n\n") for prompt in prompts]
    shortest = min(len(parts) for parts in paragraphs) - 1  # one paragraph at least is the question
    first = count_equal([parts[:shortest] for parts in paragraphs])
    last = count_equal([parts[::-1][: shortest - first] for parts in paragraphs])
    example = paragraphs[0]
    before = "".join(f"{part}\n\n" for part in example[:first])
    after = "".join(f"\n\n{part}" for part in example[len(example) - last :])
    return _join_segments([_Segment(before), _Segment(QUESTION, is_name=True), _Segment(after)])


def count_equal(lists: Sequence[Sequence[str]]) -> int:
    """How many entries at the beginning all lists have in common."""
    count = 0
    for entries in zip(*lists, strict=False):
        if len(set(entries)) > 1:
            break
        count += 1
    return count


class _Segment(NamedTuple):
    """A stretch of a template: text as it is, or a name in braces."""

    text: str
    is_name: bool = False


def _split_at_names(text: str, names: Sequence[tuple[str, str]]) -> list[_Segment]:
    """A text with each value, once, as its name."""
    if not names:
        return [_Segment(text)]
    (name, value), *others = names
    before, found, after = text.partition(value)
    if not found:
        return _split_at_names(text, others)
    name_segment = _Segment(name, is_name=True)
    return [*_split_at_names(before, others), name_segment, *_split_at_names(after, others)]


def _join_segments(segments: Sequence[_Segment]) -> str:
    """The template of segments: an opening brace doubled, and the closing one that belongs to it."""
    template = ""
    open_braces = 0
    for segment in segments:
        if segment.is_name:
            template += segment.text
            continue
        for character in segment.text:
            template += character
            if character == "{":
                template += character
                open_braces += 1
            elif character == "}" and open_braces:
                template += character
                open_braces -= 1
    return template


def is_template(text: str) -> bool:
    """Whether a listed template is one that a prompt can be made from: no turns, and the question in it."""
    return QUESTION in text and not text.startswith(("[system]", "[user]", "[assistant]"))
