"""Supervised fine-tuning on the problems' own solutions: what a data set teaches without any teacher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence

from potstill.methods.gold_solutions import judge_solutions
from potstill.models.model import Trainable
from potstill.records import Stage, Trace
from potstill.traces import Share, keep, note, report_shares, right_test

NAMED_PROBLEMS = 5  # in a note, of those whose solution and gold answer differ


def sft_gold(
    problems: list[Trace],
    student: Trainable,
    *,
    steps: bool | None = None,
) -> Generator[Stage, Trainable, None]:
    """Gold SFT: the student learns the problems' own solutions (data-set baseline in arXiv:2505.22131).

    Learns from: the solution of each problem, word for word, where its last answer is the gold answer.
    Needs: student (is trained).
    Controls: none; it is what methods with a teacher are compared with.
    Departure: a solution is checked as a model's chain is, so that one whose answer can't be read, or is not the gold
        answer, is no row; papers train on all of them.
    Cite: Zhuoyang Wu, Xinze Li, Zhenghao Liu, Yukun Yan, Zhiyuan Liu, Minghe Yu, Cheng Yang, Yu Gu, Ge Yu, Maosong Sun:
        Enhancing Long-Chain Reasoning Distillation through Error-Aware Self-Reflection (2025).

    J = - sum_i sum_t log P_M( s_{i,t} | s_{i,<t}, q_i ) over the solutions s_i with V(s_i, a_i*) = 1.

    Args:
        student: learns; no model is asked for anything.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
    """
    alternative = "without solutions, sft learns a teacher's chains"
    solutions = judge_solutions("sft_gold", problems, alternative=alternative)
    report_solutions(problems, solutions)
    yield Stage(student, keep(right_test(problems, steps), solutions), "sft")


def report_solutions(problems: Sequence[Trace], solutions: Sequence[Trace]) -> None:
    """Say how many problems have a solution, and of how many the answer can't be read or is not the gold answer."""
    statuses = Counter(solution.verdict.status for solution in solutions)
    missing = len(problems) - len(solutions)
    shares = [
        Share("no solution", missing, len(problems)),
        Share("answer can't be read", statuses["unparsed"], len(problems)),
        Share("another answer than the gold answer", statuses["wrong"], len(problems)),
        Share("no verdict", statuses["unjudged"], len(problems)),
        Share("right", statuses["right"], len(problems)),
    ]
    hint = (
        "A problem without a solution gives no row, nor does a solution whose answer can't be read or is not the gold "
        "answer. Solutions that differ from their gold answers are faults of the data."
    )
    report_shares("Gold solutions", shares, hint=hint)
    differing = [trace.problem.id for trace in solutions if trace.verdict.status == "wrong"]
    if differing:
        named = ", ".join(differing[:NAMED_PROBLEMS])
        more = f" and {len(differing) - NAMED_PROBLEMS} more"
        if len(differing) <= NAMED_PROBLEMS:
            more = ""
        note(
            f"{len(differing)} of {len(solutions)} gold solutions come to another answer than the gold answer, "
            f"and are no rows: {named}{more}"
        )
