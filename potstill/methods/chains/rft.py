"""Rejection-sampling fine-tuning: the student learns from its own right samples.

| constant | value | source |
|---|---|---|
| samples a problem k | 4 here, 100 in the paper | ours: a first run should end |
| temperature | 0.7 | arXiv:2308.01825 |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import by_pass_rate, dedupe, keep, right_test, sample, verify, words


def rft(
    problems: list[Trace],
    student: Trainable,
    sampler: Model | None = None,
    *,
    n: int = 4,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 32768,
    difficulty_pools: Mapping[str, tuple[float, float]] = {},
) -> Generator[Stage, Trainable, None]:
    """Self-training: the student learns its own distinct right samples (RFT, Yuan et al., arXiv:2308.01825).

    Learns from: its own right samples, each wording once.
    Needs: student (writes and is trained), [sampler] (writes in its place).
    Controls: none; it is what methods with a teacher are compared with.
    Cite: Zheng Yuan, Hongyi Yuan, Chengpeng Li, Guanting Dong, Keming Lu, Chuanqi Tan, Chang Zhou, Jingren Zhou:
        Scaling Relationship on Learning Mathematical Reasoning with Large Language Models (2023).
    Departure: the paper tells samples apart by their list of equations, we by their words; it also keeps the
    dataset's own solutions as rows, we train on samples alone.

    Args:
        sampler: whose samples these are, if not the student's: a recorded model stands for samples taken earlier.
        n: samples a problem.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the samples.
        max_new_tokens: longest sample.
        difficulty_pools: problems by the share of right samples, as name: [highest share, weight]; rows are weighed by
            their problem's pool, and dropped with the weight 0. Empty weighs all alike.
    """
    is_right = right_test(problems, steps)
    samples = verify(
        sample(
            sampler or student,
            problems,
            n=n,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
        )
    )
    rows = dedupe(words, keep(is_right, samples))
    if difficulty_pools:
        rows = by_pass_rate(samples, rows, pools=difficulty_pools)
    yield Stage(student, rows, "sft")
