"""Chains of a teacher that is told the answer: the first chain-of-thought distillation.

The paper's text was not read; a summary of it and notes are the source. Inferred: the prompt's wording.

| constant | value | source |
|---|---|---|
| worked examples in the prompt | 8 | summary of the paper |
| chains a problem | 1 | notes |
| decoding of teacher and student | greedy | notes, the student's; inferred of the teacher |
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, Literal

from potstill.methods.answer_rows import gold_answer_alone, is_read
from potstill.methods.gold_solutions import has_solution, show_solution
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    edit,
    few_shot,
    is_finished,
    keep,
    keep_reasoned,
    right_test,
    sample,
    show_as_turns,
    verify,
)


def hinted(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["hint", "no-hint", "unfiltered", "answer-only"] = "hint",
    n: int = 1,
    shots: int = 8,
    steps: bool | None = None,
    max_new_tokens: int = 1024,
    gate: ReferenceGate = ReferenceGate(0.0, 0.0),
) -> Generator[Stage, Trainable, None]:
    """Teaching small language models to reason: chains of a teacher that knows the answer (arXiv:2212.08410).

    Learns from: the teacher's right chains, written behind worked examples with the answer given before the chain.
    Needs: teacher (explains), student (is trained).
    Controls: arm=no-hint (the answer is not shown), unfiltered (chains with another answer stay), answer-only (the
        gold answers without any chain: the paper's own comparison).
    Departure: the examples are solutions of other problems of the run, where the paper has eight written ones; shots=0
        asks without. A chain that is cut is no row. One that is given the answer can be empty: `gate` asks for a share
        of the solution's steps where problems have solutions, and is off by default, as in the paper. With `steps` a
        row's steps are right too.
    Partial: no calculator mends the student's equations at test time (the paper's 38.2 instead of 22.0 on GSM8K).
    Paper: 57 (from the abstract)
    Cite: Lucie Charlotte Magister, Jonathan Mallinson, Jakub Adamek, Eric Malmi, Aliaksei Severyn: Teaching Small
        Language Models to Reason (2022).

    Args:
        teacher: a large model; its chain is greedy where n=1.
        student: learns.
        arm: the method or one of its controls.
        n: chains of each problem.
        shots: worked examples in the prompt.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest chain.
        gate: how much of the problem's own solution a chain must show.
    """
    is_right = right_test(problems, steps)
    if arm == "answer-only":
        yield Stage(student, keep(is_read, verify(edit(gold_answer_alone, problems))), "sft")
        return

    # Worked examples, each with its answer before its chain where the hint is given.
    ask = ask_without_answer if arm == "no-hint" else ask_with_answer
    context = None
    if shots:
        pool = edit(show_solution, keep(has_solution, problems))
        context = {"examples": few_shot(pool, shots, at_least=1)}
    chains = sample(
        teacher,
        problems,
        prompt=partial(show_as_turns, ask),
        context=context,
        n=n,
        temperature=0.7 if n > 1 else 0.0,
        max_new_tokens=max_new_tokens,
    )

    # Chains that come to another answer than they were told are dropped.
    rows = verify(keep(is_finished, chains))
    rows = keep(is_read if arm == "unfiltered" else is_right, rows)
    yield Stage(student, keep_reasoned(rows, gate=gate), "sft")


def ask_with_answer(trace: Any) -> str:
    """A turn of the user: the question, and the answer that the chain is to come to."""
    return (
        f"{trace.question}\n\nThe answer is {trace.problem.answer}. Reason step by step until you come to it, and end "
        "with it."
    )


def ask_without_answer(trace: Any) -> str:
    """The same turn without the answer."""
    return f"{trace.question}\n\nReason step by step, and end with the answer."
