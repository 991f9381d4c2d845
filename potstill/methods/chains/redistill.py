"""Re-distillation: a base model learns, in one small training, what reinforcement learning taught its likeness.

Read: the paper's abstract and its released code, from whose scripts the constants are.

| constant | value | source |
|---|---|---|
| problems of the first training | 1,000 with right long chains, at most 4,000 tokens | notes on the code |
| reinforcement learning | 8 rollouts, T 0.7, clip 0.2, no KL term, 5e-6, 4,096 tokens | `train_rl_kk_long_cot.sh` |
| samples of the policy | greedy, one a problem, right ones | `gen_kk_re_distill_sft.sh`, `KK_re_distillation.py` |
| last training | 2 epochs, 1e-5 (32 rows a step: left to the recipe) | `train_sft_kk_re_distill_rl.sh` |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import dedupe, keep, mix, problem, right_test, sample, verify


def redistill(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["redistill", "long-cot", "rl", "without-rl"] = "redistill",
    steps: bool | None = None,
    rows: int = 1000,
    num_generations: int = 8,
    max_new_tokens: int = 4096,
) -> Generator[Stage, Trainable, None]:
    """Re-distillation: small-scale fine-tuning on samples of the RL-trained policy (Chen et al., arXiv:2505.17988).

    Learns from: right greedy samples of a copy of itself that learnt the teacher's chains and was then trained by
        reinforcement; the untrained student learns them.
    Needs: teacher (writes long chains), student (is trained three times, the last time from its beginning).
    Controls: arm=long-cot (the teacher's chains alone), rl (the policy after reinforcement learning: what is
        distilled), without-rl (samples of the policy before it: is it the reinforcement, or that they are its own?).
    Departure: with `steps` a row's steps are right too. Rewards are of the answer alone; the released ones look at the
        form as well.
    Paper: 155
    Cite: Yutong Chen, Jiandong Gao, Ji Wu: Towards Revealing the Effectiveness of Small-Scale Fine-tuning in R1-style
        Reinforcement Learning (2025).

    Args:
        teacher: a reasoning model, DeepSeek-R1 in the paper.
        student: a base model.
        arm: the method or one of its controls.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        rows: at most so many, of different problems, in the first and in the last training.
        num_generations: rollouts a prompt.
        max_new_tokens: longest chain, sample and rollout.
    """
    is_right = right_test(problems, steps)

    # Cold start: the teacher's right chains, one a problem.
    chains = sample(teacher, problems, temperature=0.6, max_new_tokens=max_new_tokens)
    chains = mix(keep(is_right, verify(chains)))[:rows]
    policy = yield Stage(student, chains, "sft")
    if arm == "long-cot":
        return

    # Reinforcement learning on all problems.
    if arm != "without-rl":
        policy = yield Stage(
            policy,
            problems,
            "grpo",
            on_policy_fraction=1.0,
            num_generations=num_generations,
            rollout_temperature=0.7,
            max_new_tokens=max_new_tokens,
            clip=0.2,
            beta=0.0,
            learning_rate=5e-6,
        )
        if arm == "rl":
            return

    # Re-distillation: the policy's right samples, learnt by the model that all began with.
    samples = sample(policy, problems, temperature=0.0, max_new_tokens=max_new_tokens)
    samples = dedupe(problem, mix(keep(is_right, verify(samples))))[:rows]
    yield Stage(student, samples, "sft", num_train_epochs=2, learning_rate=1e-5)
