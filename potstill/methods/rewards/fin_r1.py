"""Fin-R1: chains that pass two rounds of judging are learnt, and problems whose chains fail are rewarded.

| constant | value | source |
|---|---|---|
| chains a problem | 1 | inferred; 60,091 rows of ten sets |
| first round | is the answer right | released README |
| second round | seven criteria, 1 or 0 | released README |
| rewards | accuracy and format, alike | released README; their weights are inferred |
| temperature of the teacher | 0.6 | released README: the teacher's own recommended settings |
| longest chain | 16,384 tokens | inferred |
| texts a problem in reinforcement learning | 8 | inferred |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.methods.rollouts import Rollouts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    grade,
    is_finished,
    keep,
    note,
    report_shares,
    right_test,
    sample,
    score,
    share_of,
    split_by,
    verify,
)

QUALITY = "quality"  # of a chain, 1 or 0
# The seven criteria, in our words.
CRITERIA = """\
The reasoning is good if all of this holds:
1. its steps agree with each other and lead to the reference answer one by one;
2. it speaks in the terms of the reference answer;
3. it has at least three steps;
4. no step is wrong, and none that the answer needs is missing;
5. it does not say the same thing again and again;
6. what it says belongs to the subject of the question;
7. it does what the question asks for."""


def fin_r1(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    grader: Model | None = None,
    *,
    arm: Literal["paper", "sft", "one-round"] = "paper",
    n: int = 1,
    steps: bool | None = None,
    temperature: float = 0.6,
    max_new_tokens: int = 16384,
    rollouts: Rollouts = Rollouts(),
) -> Generator[Stage, Trainable, None]:
    """Fin-R1: two rounds of judging part rows to learn from problems to be rewarded (Liu et al., arXiv:2503.16252).

    Learns from: a teacher's right chains of good quality, then its own texts on the other problems, by verdict and
        form.
    Needs: teacher (writes), student (is trained, then writes and is trained), [grader] (judges the chains' quality;
        else the teacher does).
    Controls: arm=sft (no rewards), one-round (right chains are learnt, whatever their quality).
    Departure: the criteria are in our words; answers are compared by the problems' verifier, in the paper by rules or
        by another model (the role judge does that for problems that want one). A chain that was cut at its limit is
        no row (inferred).
    Partial: the mixture of ten financial sets.
    Paper: 12
    Cite: Zhaowei Liu, Xin Guo, Fangqi Lou, Lingfeng Zeng, Jinyi Niu, Zixuan Wang, Jiajie Xu, Weige Cai, Ziwei Yang,
        Xueqian Zhao, Chao Li, Sheng Xu, Dezhi Chen, Yun Chen, Zuo Bai, Liwen Zhang: Fin-R1: A Large Language Model for
        Financial Reasoning through Reinforcement Learning (2025).

    Args:
        grader: judges the quality of right chains; the teacher, where none is given.
        arm: the paper, or one of its controls.
        n: chains sampled from the teacher a problem.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest chain.
        rollouts: how the student writes while it is rewarded.
    """
    # Round 1: the answer.
    chains = sample(teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    good = keep(right_test(problems, steps), verify(keep(is_finished, chains)))

    # Round 2: the reasoning.
    if arm != "one-round":
        # The criteria are of the steps, so the grader is shown the thought and not the answer alone.
        grader_of_steps = grade(grader or teacher, CRITERIA, with_reasoning=True)
        graded = score(QUALITY, grader_of_steps, good)
        report_shares("Quality", [share_of("good", is_good, graded)], hint="Of the right chains.")
        good = keep(is_good, graded)
    student = yield Stage(student, good, "sft", name="sft")
    if arm == "sft":
        return

    # What has no good chain is hard, and is learnt by reward.
    _, hard = split_by(good, problems)
    if not hard:
        note("fin_r1: every problem has a good chain, so all of them are rewarded")
        hard = problems
    reward = {"verifier": 1.0, "form": 1.0}
    yield Stage(student, hard, "grpo", name="rewards", **rollouts.keywords(reward=reward))


def is_good(trace: Trace) -> tuple[bool, str]:
    """The grader called the reasoning good."""
    quality = trace.scores.get(QUALITY)
    if quality is None:
        return False, "no quality could be read"
    return quality == 1, "the reasoning is not good"
