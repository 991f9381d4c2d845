"""Phi-4-Mini-Reasoning: mid-training on all right chains, fine-tuning on few, preference, rewards.

| constant | value | source |
|---|---|---|
| chains a problem | 8 | second description |
| chains of fine-tuning a problem | 1 | inferred; 200,000 of ten million |
| pairs a problem at most | 1 | inferred; about 300,000 |
| beta of the preference | 0.1 | inferred |
| training of the preference: learning rate, epochs | 5e-7, 1 | second description |
| texts a problem in reinforcement learning | 8 | inferred |
| temperature there | 1, falling to 0.6 in the paper | second description |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from potstill.methods.rollouts import Rollouts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    chance,
    keep,
    note,
    pair_all,
    problem,
    right_test,
    sample,
    split_by,
    verify,
    wrong,
)

PREFERENCE: dict[str, Any] = {"beta": 0.1, "learning_rate": 5e-7, "num_train_epochs": 1}


def phi4_mini_reasoning(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal[
        "paper", "distillation", "no-mid-training", "no-preference", "no-rewards"
    ] = "paper",
    n: int = 8,
    steps: bool | None = None,
    temperature: float = 0.6,
    max_new_tokens: int = 32768,
    rollouts: Rollouts = Rollouts(max_new_tokens=32768),
) -> Generator[Stage, Trainable, None]:
    """Phi-4-Mini-Reasoning: four stages for a small reasoner (Xu et al., arXiv:2504.21233).

    Learns from: a teacher's right chains, all and then few of them, right against wrong ones, then its own texts by
        verdict.
    Needs: teacher (writes), student (is trained, then writes and is trained).
    Controls: arm=distillation (the first two stages), no-mid-training, no-preference, no-rewards (a stage left out).
    Departure: which chains are the compact set is chance; the paper picks for variety and level. Problems to be
        rewarded are those that the teacher solves at times, and chains that were called wrong are not judged a second
        time: one without an answer, or cut, is neither right nor wrong.
    Partial: the temperature of the last stage does not fall, and its prompts are not sorted by length.
    Paper: 58
    Cite: Haoran Xu, Baolin Peng, Hany Awadalla, Dongdong Chen, Yen-Chun Chen, Mei Gao, Young Jin Kim, Yunsheng Li,
        Liliang Ren, Yelong Shen, Shuohang Wang, Weijian Xu, Jianfeng Gao, Weizhu Chen: Phi-4-Mini-Reasoning: Exploring
        the Limits of Small Reasoning Language Models in Math (2025).

    Args:
        arm: the paper, or one of its controls.
        n: chains sampled from the teacher a problem.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest chain.
        rollouts: how the student writes while it is rewarded.
    """
    chains = sample(teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    chains = verify(chains)
    right_chains = keep(right_test(problems, steps), chains)
    wrong_chains = keep(wrong, chains)

    # 1. Mid-training: all right chains, packed.
    if arm != "no-mid-training":
        student = yield Stage(student, right_chains, "sft", name="mid-training", packing=True)

    # 2. Fine-tuning: few of them, each a row of its own, so that the student learns to stop.
    few = best(by_chance, right_chains, by=problem)
    student = yield Stage(student, few, "sft", name="fine-tuning", packing=False)
    if arm == "distillation":
        return

    # 3. Preference: right chains against wrong ones of the same problem.
    if arm != "no-preference":
        pairs = pair_all(right_chains, wrong_chains, k=1)
        student = yield Stage(student, pairs, "dpo", name="preference", **PREFERENCE)

    # 4. Rewards, where a problem is neither always solved nor never.
    if arm != "no-rewards":
        solved, _ = split_by(right_chains, problems)
        hard, _ = split_by(wrong_chains, solved)
        if not hard:
            note("phi4_mini_reasoning: no problem is solved at times, so all of them are rewarded")
        yield Stage(student, hard or problems, "grpo", name="rewards", **rollouts.keywords())


def by_chance(trace: Trace) -> str:
    """A chain's place in a shuffle that does not depend on the others."""
    return chance("fine-tuning", trace.id)
