"""Re-distillation: a base model learns, in one small training, what reinforcement learning taught its likeness.

Read: the paper's abstract and its released code, from whose scripts the constants are.

| constant | value | source |
|---|---|---|
| problems of the first training | 1,000 with right long chains, at most 4,000 tokens | `K_and_K_preprocess.py` |
| the teacher | greedy | `K_and_K_preprocess.py` |
| reinforcement learning | 8 rollouts, T 0.7, clip 0.2, no KL term, 5e-6, 4,096 tokens | `train_rl_kk_long_cot.sh` |
| samples of the policy | greedy, one for each problem of the first training, right ones | `gen_kk_re_distill_sft.sh` |
| first and last training | 2 epochs, 1e-5, no warm-up (batch: left to the recipe) | `train_sft_kk_*.sh` |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import is_finished, keep, mix, right_test, sample, split_by, verify

SFT: dict[str, Any] = {"num_train_epochs": 2, "learning_rate": 1e-5, "warmup_steps": 0.0}


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
        form as well. Reinforcement is on all problems; the released split keeps those of the first training out of it.
        A chain is learnt as it is, where the released code learns the thought alone with its answer in a box. The
        paper's other rows, right rollouts of the last steps of the reinforcement, are not here.
    Paper: 155
    Cite: Yutong Chen, Jiandong Gao, Ji Wu: Towards Revealing the Effectiveness of Small-Scale Fine-tuning in R1-style
        Reinforcement Learning (2025).

    Args:
        teacher: a reasoning model, DeepSeek-R1 in the paper.
        student: a base model.
        arm: the method or one of its controls.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        rows: at most so many, of different problems, in the first training; the last one is on the same problems.
        num_generations: rollouts a prompt.
        max_new_tokens: longest chain, sample and rollout.
    """
    is_right = right_test(problems, steps)

    # Cold start: the teacher's right chains, one a problem.
    chains = sample(teacher, problems, temperature=0.0, max_new_tokens=max_new_tokens)
    chains = mix(keep(is_right, verify(keep(is_finished, chains))))[:rows]
    policy = yield Stage(student, chains, "sft", **SFT)
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

    # Re-distillation: the policy's right samples on the same problems, learnt by the model that all began with.
    taught, _ = split_by(chains, problems)
    samples = sample(policy, taught, temperature=0.0, max_new_tokens=max_new_tokens)
    samples = keep(is_right, verify(keep(is_finished, samples)))
    yield Stage(student, samples, "sft", **SFT)
