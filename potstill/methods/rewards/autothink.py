"""AutoThink: an ellipsis in the prompt opens two modes, and three rewards in turn teach when to think.

| constant | value | source |
|---|---|---|
| prompt | `<think>`, an ellipsis, behind the question | released code, README |
| rewards of the modes | 1 and 0 with a thought, 2 and -1 without | released code, `reward_types.py` |
| stage 1: balance of the modes | from a share of 0.5, slope 2 | released code, `train_stage1.sh` |
| stage 3: weight of lengths | 0.05 for right and for wrong texts | released code, `train_stage3.sh` |
| longest texts | 8,192, 16,384, 24,576 | released code |
| texts a problem, temperature, divergence | 8, 0.6, none | released code |
| training: 1e-6, clip 0.2, two epochs a stage | | released code; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Literal

from potstill.methods.rollouts import Rollouts
from potstill.models.model import Trainable
from potstill.records import Stage, Trace
from potstill.traces import pose, solve_posed

ELLIPSIS = "{prompt}\n<think>\n...\n"
# The name of each stage, and its reward (objectives/rewards.py).
STAGES = {
    "stabilize": "thinking_balanced",
    "reinforce": "thinking",
    "prune": "thinking_by_length",
}


def autothink(
    problems: list[Trace],
    student: Trainable,
    *,
    arm: Literal["paper", "one-stage", "no-balance", "no-pruning"] = "paper",
    lengths: tuple[int, ...] = (8192, 16384, 24576),
    rollouts: Rollouts = Rollouts(temperature=0.6),
) -> Generator[Stage, Trainable, Callable[..., list[Trace]]]:
    """AutoThink: learn when to think, in three stages of rewards (Tu et al., arXiv:2505.10832).

    Learns from: its own texts under an ellipsis, by verdict and by whether it thought.
    Needs: student (writes and is trained).
    Controls: arm=one-stage (the verdict and mode alone, stage 2), no-balance (without stage 1), no-pruning (without
        stage 3).
    Departure: the ellipsis ends the prompt; in the code the chat template opens the student's turn with it. Modes are
        balanced in a micro-batch; the code's batch is 128 problems. A text without a thought and without an answer that
        can be read is worth -1 as a wrong one is, where the code gives 0. The loop's texts of long repetitions have no
        penalty.
    Paper: 90
    Cite: Songjun Tu, Jiahao Lin, Qichao Zhang, Xiangyu Tian, Linjing Li, Xiangyuan Lan, Dongbin Zhao: Learning When to
        Think: Shaping Adaptive Reasoning in R1-Style Models via Multi-Stage RL (2025).

    Args:
        arm: the paper, or one of its controls.
        lengths: longest text of each stage, in tokens.
        rollouts: how the student writes; `lengths` decides how long.
    """
    left_out = {
        "paper": (),
        "one-stage": ("stabilize", "prune"),
        "no-balance": ("stabilize",),
        "no-pruning": ("prune",),
    }[arm]
    posed = pose(ELLIPSIS, problems)
    for (name, reward), length in zip(STAGES.items(), lengths, strict=True):
        if name not in left_out:
            keywords = rollouts.keywords(reward=reward, max_new_tokens=length)
            student = yield Stage(student, posed, "grpo", name=name, **keywords)
    return partial(solve_posed, student, ELLIPSIS)
