"""Faithful reasoning: statements are selected by label, what follows is inferred from them alone, and a search decides.

Sections 3, 4 and the start of 5 of the paper were read, and appendices A and B; of its figures the captions alone. The
prompts ask for what these say, in words of ours.

| constant | value | source |
|---|---|---|
| parts | selection, inference, halter, value: copies of one model (7B), trained apart | paper, sec. 4 |
| rows of N steps: selection, inference, halter, value | N, N, N + 1, 2 N | paper, sec. 4.2 to 4.4 |
| wrong steps | one selected statement exchanged by chance, the inference written anew | paper, sec. 4.4 |
| value | log p("correct") | paper, sec. 3.3 |
| candidates, beams, steps at most, temperature of selections | 4, 2, 10, 0.7 | inferred: not given |
| learning rate, epochs | not given: the recipe's | |
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from random import Random
from typing import Any, Literal, TypeAlias

from potstill.errors import ConfigError
from potstill.methods.replies import reply_alone
from potstill.methods.testtime._statements import split_question
from potstill.methods.testtime.faithful import format as form
from potstill.methods.testtime.faithful.search import Parts, Search, solve_by_search
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    chance,
    edit,
    is_finished,
    keep,
    mix,
    pose,
    report_shares,
    right,
    sample,
    solve_posed,
    verify,
)

Arm: TypeAlias = Literal["search", "no-search", "proof", "prompted", "prompted-no-search"]


def faithful(
    problems: list[Trace],
    student: Trainable,
    teacher: Model | None = None,
    *,
    arm: Arm = "search",
    n: int = 1,
    temperature: float = 0.7,
    search: Search = Search(),
) -> Generator[Stage, Any, Any]:
    """Faithful reasoning by selection, inference, halting and search (Creswell and Shanahan, arXiv:2208.14271).

    s_k ~ selection(q, C_k), i_k ~ inference(s_k), C_k+1 = C_k + i_k, until the halter knows the answer from i_k; a beam
    search keeps the texts whose last step has the highest log p(correct).

    Learns from: single steps of the teacher's right reasoning, each part its own share of them.
    Needs: student (is trained, once for each part), [teacher] (writes reasoning in labelled steps).
    Controls: arm=no-search (one text, without a value part: the paper's ablation), proof (one student writes the whole
        text and its answer: the paper's Proof + Answer), prompted (the student as it is, in all parts: nothing is
        trained), prompted-no-search (the same without a search).
    Departure: the reasoning is a teacher's with a right answer, where the paper's data sets come with proofs. The
        statements are the question's sentences, and its last one asks; without choices the halter answers that one in a
        box. A step that selects no statement that is there, or infers nothing, is no candidate.
    Paper: 123
    Cite: Antonia Creswell, Murray Shanahan: Faithful Reasoning Using Large Language Models (2022).

    Args:
        student: the base model of all parts.
        teacher: writes what the parts are trained on; without one the student does, where anything is trained.
        arm: the method or one of its controls.
        n: texts of the teacher for each problem.
        temperature: of the teacher.
        search: how far and how wide is searched at test time.
    """
    scored = student if isinstance(student, Scored) else None
    if arm in ("search", "prompted") and scored is None:
        raise ConfigError(
            f"faithful arm={arm} searches by likelihoods, and {student.id} gives none",
            expected="a local checkpoint, or a server with score=",
            fix="--set arm=no-search, or arm=prompted-no-search",
        )
    # The student as it is plays all parts; without a value part there is nothing to search by.
    if arm == "prompted":
        return partial(solve_by_search, Parts(student, student, student, scored), search)
    if arm == "prompted-no-search":
        return partial(solve_by_search, Parts(student, student, student, None), search)

    # The teacher's reasoning, in the form that can be taken apart into steps.
    posed = pose(form.show_trace, problems)
    texts = sample(teacher or student, posed, n=n, temperature=temperature)
    traces = verify(edit(reply_alone, keep(is_finished, texts)))
    traces = keep(is_in_form, keep(right, traces))
    report_shares(
        "Reasoning in labelled steps",
        [Share("texts in the form, with a right answer", len(traces), len(texts))],
        hint="Each step that a text selects and infers is a row of every part.",
    )
    if arm == "proof":
        student = yield Stage(student, traces, "sft", name="proof")
        return partial(solve_posed, student, form.show_trace)

    # Each text up to each of its steps, with the rows that the last step makes.
    steps = edit(split_steps, traces)
    endings = {(trace.problem.id, drop_answer(trace)) for trace in traces}
    selections = make_rows(form.show_last_selection, form.last_selection, steps)
    inferences = make_rows(form.show_last_inference, form.last_inference, steps)
    halts = make_rows(form.show_halt, partial(halting_word, endings), steps)
    answers = make_rows(form.show_answer, stated_answer, traces)
    selector = yield Stage(student, selections, "sft", name="selection")
    inferrer = yield Stage(student, inferences, "sft", name="inference")
    halter = yield Stage(student, mix(halts, answers), "sft", name="halter")
    if arm == "no-search":
        return partial(solve_by_search, Parts(selector, inferrer, halter, None), search)

    value = yield Stage(student, make_value_rows(inferrer, steps), "sft", name="value")
    return partial(solve_by_search, Parts(selector, inferrer, halter, value), search)


def make_value_rows(inferrer: Model, steps: Sequence[Trace]) -> list[Trace]:
    """Right steps, and steps with another statement in the place of a selected one, inferred anew."""
    corrupted = edit(exchange_statement, steps)
    inferred = sample(inferrer, corrupted, prompt=form.show_inference, temperature=0.0)
    wrong_steps = edit(form.close_inference, keep(is_finished, inferred))
    rights = make_rows(form.show_value, partial(say, form.CORRECT), steps)
    wrongs = make_rows(form.show_value, partial(say, form.INCORRECT), wrong_steps)
    return mix(rights, wrongs)


def is_in_form(trace: Trace) -> tuple[bool, str]:
    """Its lines are steps of statements that are there, and one line behind them has the answer."""
    steps, answer = form.split_steps(trace.text)
    count = len(form.read_steps(trace))
    is_whole = 0 < count == len(steps.splitlines()) and len(answer.strip().splitlines()) == 1
    return is_whole, "not in the form of labelled steps"


def split_steps(trace: Any) -> list[str]:
    """The text up to each of its steps."""
    lines = form.split_steps(trace.text)[0].splitlines(keepends=True)
    return ["".join(lines[: count + 1]) for count in range(len(lines))]


def drop_answer(trace: Any) -> str:
    """The steps of a text without its answer: its whole last state."""
    return form.split_steps(trace.text)[0]


def make_rows(
    show: Callable[[Any], str], write: Callable[[Any], str], texts: Sequence[Trace]
) -> list[Trace]:
    """A row of each text: under the prompt that one part is shown of it, what that part should write."""
    posed = pose(show, texts)
    return edit(partial(write_row, write), posed, context={"text": texts}, by=text_of)


def text_of(trace: Trace) -> str:
    """Key: a text, or the one that a blank trace was posed from."""
    return trace.id if trace.text else trace.parents[0]


def write_row(write: Callable[[Any], str], trace: Any, text: Sequence[Any]) -> dict[str, str]:
    """What the part should write of its text."""
    return {"text": write(text[0]), "finish_reason": "stop"}


def halting_word(endings: set[tuple[str, str]], trace: Any) -> str:
    """Yes behind the last step of a text, else no."""
    return "Yes" if (trace.problem.id, trace.text) in endings else "No"


def stated_answer(trace: Any) -> str:
    """What stands behind the steps."""
    return form.split_steps(trace.text)[1].strip()


def say(word: str, trace: Any) -> str:
    """The same word of every text."""
    return word


def exchange_statement(trace: Any) -> str | None:
    """The text with one statement of its last selection exchanged by chance, and nothing inferred yet; None where
    there is no other statement."""
    *before, last = form.read_steps(trace)
    count = len(split_question(trace.question)[0]) + len(before)
    others = [place for place in range(count) if place not in last.selected]
    if not others:
        return None
    # Chance goes by problem and text, so that another order of the problems changes nothing.
    rng = Random(chance("exchanged", trace.problem.id, trace.text))
    selected = list(last.selected)
    selected[rng.randrange(len(selected))] = rng.choice(others)
    lines = trace.text.splitlines(keepends=True)
    labels = [f"{form.LABEL}{place + 1}" for place in selected]
    return "".join(lines[:-1]) + form.write_selection(labels)
