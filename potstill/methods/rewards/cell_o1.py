"""Cell-o1: a cold start on a reasoner's right chains, then rewards of answers that are right as a whole.

| constant | value | source |
|---|---|---|
| texts a problem in reinforcement learning | 5 | released code, `run_cello1_grpo.sh` |
| longest text | 3,000 tokens | released code |
| weight of the divergence (low_var_kl) | 0.001 | released code |
| chains of the teacher a problem | 8 | inferred: rejection sampling is said, its number is not |
| training: SFT 5e-5, one epoch, LoRA 256; GRPO 1e-6 | | released code; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.methods.rollouts import Rollouts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import dedupe, keep, right_test, sample, verify, words


def cell_o1(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["paper", "sft", "rl"] = "paper",
    n: int = 8,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 3000,
    rollouts: Rollouts = Rollouts(num_generations=5, max_new_tokens=3000, beta=0.001),
) -> Generator[Stage, Trainable, None]:
    """Cell-o1: distilled chains, then reinforcement learning by whole answers (Fang et al., arXiv:2506.02911).

    A problem asks for several labels at once, and its gold answer is all of them: the reward is 1 where every label is
    right, however many there are.

    Learns from: a teacher's right chains, then its own texts, by whether the whole answer is right.
    Needs: teacher (writes), student (is trained, then writes and is trained).
    Controls: arm=sft (the cold start alone), rl (rewards from the beginning).
    Departure: the reward is the verdict alone (inferred: the code's reward file is not released, a term for the form is
        likely).
    Paper: 2
    Cite: Yin Fang, Qiao Jin, Guangzhi Xiong, Bowen Jin, Xianrui Zhong, Siru Ouyang, Aidong Zhang, Jiawei Han, Zhiyong
        Lu: Cell-o1: Training LLMs to Solve Single-Cell Reasoning Puzzles with Reinforcement Learning (2025).

    Args:
        arm: the paper, or one of its controls.
        n: chains sampled from the teacher a problem.
        steps: also demand that every step of a chain is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest chain.
        rollouts: how the student writes while it is rewarded.
    """
    # Cold start: each wording of a right chain once.
    if arm != "rl":
        chains = sample(
            teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens
        )
        rows = dedupe(words, keep(right_test(problems, steps), verify(chains)))
        student = yield Stage(student, rows, "sft", name="cold-start")

    # Rewards of the whole batch of labels.
    if arm != "sft":
        keywords = rollouts.keywords(corrected=False)
        yield Stage(student, problems, "grpo", name="rewards", **keywords)
