"""The form of faithful reasoning: statements with labels, a step a line, and what each part of the model is shown.

A text is `sent 2. We know that sent 1. Therefore, …` a line, and in the end an answer. What follows in a step is a new
statement with the next label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.methods.choices import with_choices
from potstill.methods.replies import reply_of
from potstill.methods.testtime._statements import number_statements, read_labels, split_question

TRACE = """\
Reason from the numbered statements to the answer, one step a line, each in this form:

sent 2. We know that sent 1 and sent 4. Therefore, ...

Name statements by their labels alone. What follows is a new statement with the next label. End with a line \
"The answer is \\boxed{{...}}."

{context}

Question: {query}"""
SELECT = """\
Choose the statements that the next step of reasoning follows from. Name them by their labels alone, as in "sent 2. \
We know that sent 1 and sent 4."

{context}

Question: {query}"""
INFER = """\
Write the one statement that follows, and nothing else.

{selection}"""
HALT = """\
Question: {query}
Given: {inference}
Do you know the answer?"""
ANSWER = """\
Given: {inference}
What does this say in answer to the question? Write \\boxed{{...}}.

{query}"""
VALUE = """\
Context:
{context}

Question: {query}

Reason:
{steps}

The above reasoning steps are"""
CORRECT, INCORRECT = "correct", "incorrect"
LABEL = "sent "
UNKNOWN = "Unknown"
_SELECTION = r"sent \d{1,4}\.(?: We know that sent \d{1,4}(?:,? (?:and )?sent \d{1,4}){0,20}\.)?"
_STEP = re.compile(rf"({_SELECTION}) Therefore, (\S.*)")
_CHOSEN = re.compile(rf"{_SELECTION}")


class Step(NamedTuple):
    """A step: the places of the statements that it selects, counted from 0, and the statement that follows."""

    selected: tuple[int, ...]
    inference: str


def read_steps(trace: Any) -> list[Step]:
    """The steps of a text up to the first line that is none, or that names a statement that is not there yet."""
    count = len(split_question(trace.question)[0])
    steps: list[Step] = []
    for line in trace.text.splitlines():
        match = _STEP.fullmatch(line.strip())
        if match is None:
            break
        numbers = re.findall(r"sent (\d+)", match[1])
        selected = tuple(read_labels(match[1], LABEL, count + len(steps)))
        # A label without a statement: whoever wrote it made a fact up.
        if len(selected) < len(set(numbers)):
            break
        steps.append(Step(selected, match[2]))
    return steps


def statements_of(trace: Any, steps: Sequence[Step]) -> list[str]:
    """The question's statements, then what the steps inferred."""
    return [*split_question(trace.question)[0], *(step.inference for step in steps)]


def query_of(trace: Any) -> str:
    """What the question asks, with its choices where it has some."""
    return with_choices(split_question(trace.question)[1], trace.problem)


def show_context(template: str, trace: Any, steps: Sequence[Step]) -> str:
    """A prompt with the labelled statements and the question."""
    context = number_statements(statements_of(trace, steps), LABEL)
    return template.format(context=context, query=query_of(trace))


# What each part is shown of a text: all steps, or at the last one the part's own share of it.


def show_trace(trace: Any) -> str:
    """The prompt for a whole text: the teacher's, and that of the control which writes it at once."""
    return show_context(TRACE, trace, [])


def show_selection(trace: Any) -> str:
    """The selection's prompt, behind all steps of the text."""
    return show_context(SELECT, trace, read_steps(trace))


def show_last_selection(trace: Any) -> str:
    """The prompt that the last step's selection answers."""
    return show_context(SELECT, trace, read_steps(trace)[:-1])


def show_inference(trace: Any) -> str:
    """The inference's prompt: the selected statements alone, never the question."""
    steps = read_steps(trace)
    selection = trace.text.splitlines()[-1]
    return compose_selection(statements_of(trace, steps), read_labels(selection, LABEL, 10_000))


def show_last_inference(trace: Any) -> str:
    """The prompt that the last step's inference answers."""
    steps = read_steps(trace)
    return compose_selection(statements_of(trace, steps[:-1]), steps[-1].selected)


def compose_selection(statements: Sequence[str], selected: Sequence[int]) -> str:
    """The inference's prompt with statements in the place of their labels: "X. We know that Y and Z." """
    first, *others = [
        statements[place].rstrip(".") for place in selected if place < len(statements)
    ]
    sentence = f"{first}."
    if others:
        sentence += f" We know that {' and '.join(others)}."
    return INFER.format(selection=sentence)


def show_halt(trace: Any) -> str:
    """The halter's first prompt: is the last inference enough?"""
    return HALT.format(query=query_of(trace), inference=read_steps(trace)[-1].inference)


def show_answer(trace: Any) -> str:
    """The halter's second prompt: the answer, from the last inference and as little else as there is."""
    return ANSWER.format(query=query_of(trace), inference=read_steps(trace)[-1].inference)


def show_value(trace: Any) -> str:
    """The value's prompt: is the last step a right one?"""
    steps = read_steps(trace)
    lines = trace.text.splitlines()[: len(steps)]
    context = number_statements(split_question(trace.question)[0], LABEL)
    return VALUE.format(context=context, query=query_of(trace), steps="\n".join(lines))


# What each part writes of the last step.


def last_selection(trace: Any) -> str:
    """Which statements the last step selects."""
    labels = [f"{LABEL}{place + 1}" for place in read_steps(trace)[-1].selected]
    return write_selection(labels)


def last_inference(trace: Any) -> str:
    """What the last step infers."""
    return read_steps(trace)[-1].inference


def write_selection(labels: Sequence[str]) -> str:
    """Labels as a selection: `sent 2. We know that sent 1 and sent 4.`"""
    first, *others = labels
    return f"{first}. We know that {' and '.join(others)}." if others else f"{first}."


def close_selection(trace: Any) -> str | None:
    """A text that ends with a selection in its form; None where the reply names no statement that is there."""
    steps, reply = split_reply(trace.text)
    places = read_labels(reply, LABEL, len(statements_of(trace, read_steps(trace))))
    if not places:
        return None
    return steps + write_selection([f"{LABEL}{place + 1}" for place in places])


def close_inference(trace: Any) -> str | None:
    """A text that ends with a whole step; None where nothing was inferred."""
    steps, selection = split_steps(trace.text)
    match = _CHOSEN.match(selection)
    inference = first_line(selection[match.end() :]) if match else ""
    if match is None or not inference:
        return None
    return f"{steps}{match[0]} Therefore, {inference}\n"


def close_answer(trace: Any) -> str:
    """A text that ends with the halter's answer."""
    steps, reply = split_reply(trace.text)
    return f"{steps}{reply or UNKNOWN}"


def say_unknown(trace: Any) -> str:
    """The steps of a text and no answer, as the paper's end where the halter never knew it."""
    return f"{split_steps(trace.text)[0]}{UNKNOWN}"


def split_steps(text: str) -> tuple[str, str]:
    """The whole steps of a text, and what stands behind them."""
    match = re.match(rf"(?:{_STEP.pattern}\n)*", text)
    stop = match.end() if match else 0
    return text[:stop], text[stop:]


def split_reply(text: str) -> tuple[str, str]:
    """The whole steps of a text, and the first line of what a model wrote behind them."""
    steps, reply = split_steps(text)
    return steps, first_line(reply)


def first_line(reply: str) -> str:
    """The first line of a reply behind its thought; "" where there is none."""
    lines = reply_of(reply).strip().splitlines()
    return lines[0].strip() if lines else ""
