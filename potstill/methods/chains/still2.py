"""STILL-2: imitate a few long thoughts, explore hard problems with many rollouts, improve on the better ones, again.

Read: the paper's abstract and a summary. Inferred: which problems count as hard, how many rollouts and rounds, that
every round begins with the untrained student, and which of several right rollouts is learnt.

| constant | value | source |
|---|---|---|
| thoughts of the first training | a small number, over domains | abstract |
| rollouts of a hard problem | 8 | inferred |
| rounds of exploration | 2 | inferred |
| hard | at most half of the rollouts are right | inferred |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    best,
    dedupe,
    is_finished,
    keep,
    mix,
    pair,
    problem,
    report_shares,
    right_test,
    sample,
    verify,
    words,
    wrong,
)


def still2(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["still2", "imitate", "all-problems", "dpo"] = "still2",
    steps: bool | None = None,
    rounds: int = 2,
    n: int = 8,
    max_solve_rate: float = 0.5,
    temperature: float = 0.7,
    max_new_tokens: int = 32768,
) -> Generator[Stage, Trainable, None]:
    """STILL-2: imitate, explore and self-improve (Min et al., arXiv:2412.09413).

    Learns from: the teacher's right long thoughts, and then also its own right rollouts on problems that it mostly
        gets wrong.
    Needs: teacher (thinks at length), student (is trained, and explores).
    Controls: arm=imitate (the first training alone), all-problems (rollouts on easy problems are learnt too: is it the
        hard ones?), dpo (each round prefers a right rollout to a wrong one instead: the paper's other way to improve).
    Departure: what is inferred is named above. Rows are finished; of a problem's right rollouts the longest is learnt,
        and with `steps` its steps are right too.
    Paper: 104 (from the abstract)
    Cite: Yingqian Min, Zhipeng Chen, Jinhao Jiang, Jie Chen, Jia Deng, Yiwen Hu, Yiru Tang, Jiapeng Wang,
        Xiaoxue Cheng, Huatong Song, Wayne Xin Zhao, Zheng Liu, Zhongyuan Wang, Ji-Rong Wen: Imitate, Explore, and
        Self-Improve: A Reproduction Report on Slow-thinking Reasoning Systems (2024).

    Args:
        teacher: a slow-thinking model.
        student: learns to think slowly.
        arm: the method or one of its controls.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        rounds: of exploring and improving.
        n: rollouts of a problem in each round.
        max_solve_rate: a problem is hard where at most this share of its rollouts is right.
        temperature: of rollouts and thoughts.
        max_new_tokens: longest of both.
    """
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}

    # Imitate.
    rows = keep(is_right, verify(keep(is_finished, sample(teacher, problems, **sampling))))
    explorer = yield Stage(student, rows, "sft")
    if arm == "imitate":
        return

    for number in range(1, rounds + 1):
        # Explore: right rollouts on problems that are still hard.
        rollouts = verify(keep(is_finished, sample(explorer, problems, n=n, **sampling)))
        right_rollouts = keep(is_right, rollouts)
        if arm != "all-problems":
            right_counts = Counter(rollout.problem.id for rollout in right_rollouts)
            is_hard = partial(is_mostly_unsolved, right_counts, n, max_solve_rate)
            right_rollouts = keep(is_hard, right_rollouts)
        new_rows = best(length, right_rollouts, by=problem)
        report_round(number, problems, rollouts, new_rows)

        # Improve: on all rows so far, from the beginning; or by preference.
        if arm == "dpo":
            pairs = pair(new_rows, keep(wrong, rollouts))
            explorer = yield Stage(explorer, pairs, "dpo", reference=explorer)
            continue
        rows = dedupe(words, mix(rows, new_rows))
        explorer = yield Stage(student, rows, "sft")


def is_mostly_unsolved(
    right_counts: Counter[str], n: int, max_solve_rate: float, trace: Trace
) -> tuple[bool, str]:
    """Its problem is hard for the model that explores."""
    rate = right_counts[trace.problem.id] / n
    return rate <= max_solve_rate, f"not hard: {rate:.0%} of its rollouts are right"


def length(trace: Trace) -> int:
    """The words of a rollout."""
    return len(trace.text.split())


def report_round(
    number: int, problems: Sequence[Trace], rollouts: Sequence[Trace], new_rows: Sequence[Trace]
) -> None:
    """Say what a round's exploration found."""
    solved = {trace.problem.id for trace in rollouts if trace.verdict.status == "right"}
    report_shares(
        f"Exploration, round {number}",
        [
            Share("problems with a right rollout", len(solved), len(problems)),
            Share("problems whose rollout is learnt", len(new_rows), len(problems)),
        ],
        hint="Rollouts of the student of the round before; what it mostly solves is not learnt again.",
    )
