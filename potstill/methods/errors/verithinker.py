"""VeriThinker: a reasoning model learns to say whether short solutions are right, and reasons more briefly for it.

| constant | value | source |
|---|---|---|
| short solutions a problem | 4 | inferred; the paper has about 340,000, 160,000 of them right |
| right and wrong solutions | as many | inferred: the released rows are nearly so |
| learning rate, epochs, warm-up, decay | 3e-5, 2, 0.05, cosine | released code |
| adapters, longest row | LoRA r 256, alpha 512 on attention, 5,000 tokens | released code; a recipe's `training` |
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.checks import sample_attempts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    by_chance,
    dedupe,
    edit,
    is_finished,
    keep,
    learn,
    mix,
    pose,
    report_shares,
    right_test,
    share_of,
    words,
    wrong,
)

VERIFY = """\
Question:
{question}

Proposed solution:
{text}

Verify every step of this solution. Then say in one line whether all of its steps are right."""
RIGHT, WRONG = "All steps are right.", "Not all steps are right."


def verithinker(
    problems: list[Trace],
    solver: Model,
    student: Trainable,
    *,
    arm: Literal["verify", "shuffled", "unbalanced", "short-sft"] = "verify",
    n: int = 4,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
    closing: str = "\n</think>",
) -> Generator[Stage, Trainable, None]:
    """VeriThinker: learning to verify makes a reasoning model efficient (Chen et al., arXiv:2505.17941).

    L = - log pi(verdict, </think> | question, short solution): no chain of thought is learnt, and what is measured is
    how long the student's own have become.

    Learns from: verdicts of one line on short solutions, right and wrong ones.
    Needs: solver (writes short solutions), student (is trained).
    Controls: arm=shuffled (verdicts dealt out by chance: verifying, or a short reply?), unbalanced (as many right and
        wrong ones as there are), short-sft (the right short solutions themselves are learnt).
    Departure: the prompt's wording and the verdicts' are ours. A solution of equal wording is shown once. With `steps`
        a solution whose answer is right and one of whose steps is not is of neither kind.
    Paper: 144
    Cite: Zigeng Chen, Xinyin Ma, Gongfan Fang, Ruonan Yu, Xinchao Wang: VeriThinker: Learning to Verify Makes Reasoning
        Model Efficient (2025).

    Args:
        solver: a model that solves without long reasoning.
        student: a model that reasons at length.
        arm: the method or one of its controls.
        n: short solutions a problem.
        steps: also demand that every step of a right solution is right; left open, where the verifier judges steps.
        temperature: of the solver.
        max_new_tokens: longest short solution.
        closing: stands behind a verdict, as the end of the student's thought; "" for a student that does not think.
    """
    # Short solutions, judged by the problems' verifiers.
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    solutions = sample_attempts("verithinker", solver, problems, n=n, **sampling)
    solutions = dedupe(words, keep(is_finished, solutions))
    right_ones, wrong_ones = keep(is_right, solutions), keep(wrong, solutions)
    shares = [share_of("right", is_right, solutions), share_of("wrong", wrong, solutions)]
    report_shares("Short solutions", shares, hint="As many of either kind are learnt from.")
    schedule: dict[str, Any] = {"num_train_epochs": 2, "learning_rate": 3e-5}
    if arm == "short-sft":
        yield Stage(student, right_ones, "sft", **schedule)
        return

    # As many right as wrong ones, each with its verdict.
    if arm != "unbalanced":
        size = min(len(right_ones), len(wrong_ones))
        right_ones = best(by_chance, right_ones, k=size)
        wrong_ones = best(by_chance, wrong_ones, k=size)
    if arm == "shuffled":
        right_ones, wrong_ones = deal_by_chance([*right_ones, *wrong_ones])
    rows = mix(
        write_verdicts(RIGHT + closing, right_ones), write_verdicts(WRONG + closing, wrong_ones)
    )
    yield Stage(student, rows, "sft", **schedule)


def write_verdicts(verdict: str, solutions: Sequence[Trace]) -> list[Trace]:
    """A row of each solution: the learner sees question and solution, and learns the verdict."""
    return learn("all", edit(partial(as_text, verdict), pose(VERIFY, solutions)))


def as_text(verdict: str, trace: Any) -> dict[str, str]:
    """The verdict in the place of whatever was there."""
    return {"text": verdict, "finish_reason": "stop"}


def deal_by_chance(solutions: list[Trace]) -> tuple[list[Trace], list[Trace]]:
    """Two halves of the solutions, whatever they are."""
    shuffled = mix(solutions)
    return shuffled[::2], shuffled[1::2]
