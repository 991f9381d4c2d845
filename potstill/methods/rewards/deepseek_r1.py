"""DeepSeek-R1: a cold start, rewards, the policy's own right texts learnt from the beginning, and rewards again.

| constant | value | source |
|---|---|---|
| problems of the cold start | all here; "thousands" of examples in the paper | paper, sec. 2.3.1 |
| texts a problem in rejection sampling | 4 | inferred; about 600,000 reasoning rows in the paper |
| texts a problem in reinforcement learning | 16 | journal version, not read here |
| temperature | 1 | journal version, not read here |
| weight of the divergence | 0.001 | journal version, not read here |
| training: 3e-6 | | journal version, not read here; left to the recipe |
| epochs on the texts of rejection sampling | 2 | paper, sec. 2.3.3; left to the recipe |
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
    dedupe,
    is_finished,
    keep,
    right_test,
    sample,
    verify,
    words,
)

REWARD = {"verifier": 1.0, "form": 1.0}


def deepseek_r1(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["paper", "zero", "no-second-rewards"] = "paper",
    cold_start: int = 0,
    n: int = 4,
    steps: bool | None = None,
    max_new_tokens: int = 32768,
    rollouts: Rollouts = Rollouts(num_generations=16, max_new_tokens=32768, beta=0.001),
) -> Generator[Stage, Trainable, None]:
    """DeepSeek-R1: cold start, rewards, rejection sampling and rewards again (DeepSeek-AI, arXiv:2501.12948).

    Learns from: long chains of the cold start, then its own texts by reward, then its own right texts from the
        beginning.
    Needs: teacher (writes the cold start), student (is trained, then writes and is trained).
    Controls: arm=zero (R1-Zero: rewards from the beginning, nothing else), no-second-rewards (the last stage left out).
    Departure: the cold start is a teacher's right chains; the paper's are of few-shot prompts and of R1-Zero, edited by
        people. The reward of a language is left out, and so are the filters of rejection sampling for mixed languages,
        long paragraphs and blocks of code. Problems are shown as they are, without R1-Zero's template. A text that was
        cut at its limit is no row (inferred).
    Partial: the 200,000 rows of other tasks, and the rewards of helpfulness and harmlessness in the last stage; the
        dense students that learn the same rows by `sft`.
    Paper: 36
    Cite: DeepSeek-AI: DeepSeek-R1: Incentivizing Reasoning Capability in LLMs via Reinforcement Learning (2025).

    Args:
        arm: the paper, or one of its controls.
        cold_start: problems of the cold start at most; 0 is all.
        n: chains sampled a problem, of the teacher and of the policy.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest chain.
        rollouts: how the student writes while it is rewarded; its temperature is that of all chains.
    """
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {
        "n": n,
        "temperature": rollouts.temperature,
        "max_new_tokens": max_new_tokens,
    }
    keywords = rollouts.keywords(reward=REWARD)
    if arm == "zero":
        yield Stage(student, problems, "grpo", name="rewards", **keywords)
        return

    # 1. Cold start: a few long chains.
    few = best(by_chance, problems, k=cold_start) if cold_start else problems
    written = keep(is_finished, sample(teacher, few, **sampling))
    chains = dedupe(words, keep(is_right, verify(written)))
    policy = yield Stage(student, chains, "sft", name="cold-start")

    # 2. Rewards of verdict and form, until they no longer grow (as long as the recipe says).
    policy = yield Stage(policy, problems, "grpo", name="rewards", **keywords)

    # 3. Rejection sampling: what the policy writes rightly is learnt from the beginning, by the model as it started.
    written = keep(is_finished, sample(policy, problems, **sampling))
    own = dedupe(words, keep(is_right, verify(written)))
    policy = yield Stage(student, own, "sft", name="rejection-sampling")

    # 4. Rewards again.
    if arm == "paper":
        yield Stage(policy, problems, "grpo", name="second-rewards", **keywords)


def by_chance(trace: Trace) -> str:
    """A problem's place in a shuffle that does not depend on the other problems."""
    return chance("cold-start", trace.problem.id)
