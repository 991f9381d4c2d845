"""Cell-o1: a cold start on a reasoner's right chains, then rewards of how many labels are right and whether all are.

| constant | value | source |
|---|---|---|
| texts a problem in reinforcement learning | 5 | released code, `run_cello1_grpo.sh` |
| longest text | 3,000 tokens | released code |
| weight of the divergence (low_var_kl) | 0.001 | released code |
| temperature in reinforcement learning | 1 | released code, its default |
| reward | by labels, `reward_labels` | released code, `compute_score.py` |
| chains of the teacher a problem | 8 | inferred: rejection sampling is said, its number is not |
| temperature, longest chain of the teacher | 0.7, 3,000 | inferred |
| training: SFT 5e-5, one epoch, LoRA 256; GRPO 1e-6 | | released code; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.methods.rollouts import Rollouts
from potstill.models.model import Model, Trainable
from potstill.records import Problem, Stage, Trace
from potstill.traces import (
    dedupe,
    equal,
    is_finished,
    keep,
    read,
    right_test,
    sample,
    verify,
    words,
)

SEPARATOR = "|"  # between the labels of an answer


def cell_o1(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["paper", "sft", "rl", "whole-answer"] = "paper",
    n: int = 8,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 3000,
    rollouts: Rollouts = Rollouts(num_generations=5, max_new_tokens=3000, beta=0.001),
) -> Generator[Stage, Trainable, None]:
    """Cell-o1: distilled chains, then reinforcement learning by whole answers (Fang et al., arXiv:2506.02911).

    A problem asks for several labels at once, each of them once, and its gold answer is all of them: `A | B | C`. With
    r of k labels right a text is worth (r / k + [r = k]) / 2; where there are not k different labels it is worth -1.

    Learns from: a teacher's right chains, then its own texts, by how many labels are right and whether all are.
    Needs: teacher (writes), student (is trained, then writes and is trained).
    Controls: arm=sft (the cold start alone), rl (rewards from the beginning), whole-answer (a reward of 1 where all
        labels are right, and 0 else: what the share adds).
    Departure: labels are read where the problem's verifier reads an answer; in the code a text is also worth -1 without
        `<think>` and `<answer>` around its two halves. An answer of one label is worth 1 or 0.
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
        rows = dedupe(words, keep(right_test(problems, steps), verify(keep(is_finished, chains))))
        student = yield Stage(student, rows, "sft", name="cold-start")

    # Rewards of the whole batch of labels.
    if arm != "sft":
        reward = "verifier" if arm == "whole-answer" else reward_labels
        keywords = rollouts.keywords(corrected=False, reward=reward)
        yield Stage(student, problems, "grpo", name="rewards", **keywords)


def reward_labels(problem: Problem, text: str) -> float:
    """-1 without as many different labels as the gold answer has; else the mean of the share right and of all right."""
    answer = read(problem, text) or ""
    gold_answer = problem.answer or ""
    labels, gold_labels = split_labels(answer), split_labels(gold_answer)
    if len(labels) != len(gold_labels) or len(set(labels)) < len(labels):
        return -1.0
    pairs = zip(labels, gold_labels, strict=True)
    right_count = sum(label == gold for label, gold in pairs)
    # The verifier knows more spellings of one answer than small letters.
    if right_count == len(labels) or equal(problem, answer, gold_answer):
        return 1.0
    return right_count / len(labels) / 2


def split_labels(answer: str) -> list[str]:
    """The labels of an answer, in order and in small letters."""
    labels = [label.strip().lower() for label in answer.split(SEPARATOR)]
    return [label for label in labels if label]
