"""Supervised fine-tuning on the teacher's verified chains: rejection-sampled distillation."""

from __future__ import annotations

from collections.abc import Generator

from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import keep, right_test, sample, verify


def sft(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    n: int = 1,
    steps: bool | None = None,
    temperature: float = 0.6,
    max_new_tokens: int = 32768,
) -> Generator[Stage, Trainable, None]:
    """Teacher SFT: the student learns the teacher's right chains as they are (long-CoT baseline in arXiv:2505.22131).

    Learns from: the teacher's right chains, word for word.
    Needs: teacher (writes), student (is trained).
    Controls: none; it is what other methods are compared with.
    Cite: Zhuoyang Wu, Xinze Li, Zhenghao Liu, Yukun Yan, Zhiyuan Liu, Minghe Yu, Cheng Yang, Yu Gu, Ge Yu, Maosong Sun:
        Enhancing Long-Chain Reasoning Distillation through Error-Aware Self-Reflection (2025).

    J = - sum_i sum_t log P_M( c_{i,t}^T | c_{i,<t}^T, q_i ) over the chains with V(c_i^T, a_i*) = 1.

    Args:
        n: chains sampled from the teacher a problem; every right one is a row.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest chain.
    """
    is_right = right_test(problems, steps)
    chains = sample(teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    yield Stage(student, keep(is_right, verify(chains)), "sft")
