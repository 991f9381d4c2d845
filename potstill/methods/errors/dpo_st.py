"""DPO-ST: rounds of preference on the student's own chains, then supervised on what it writes afterwards.

| constant | value | source |
|---|---|---|
| rounds | 3 | paper |
| samples a problem: for pairs, for pseudo-labels | 5, 3 | paper |
| temperature of either | 0.7 | paper, released code |
| longest sample | 1,024 tokens here; 300 in the released code | ours |
| near duplicates: Jaccard index above | 0.7 | paper |
| pairs a problem | 3, the least similar ones | paper |
| rows a problem, its solution among them | at most the 90th percentile of their numbers | paper, released code |
| beta, learning rate, steps of DPO | 0.1, 3e-7, 100 (Llama-2-7B) | paper |
| learning rate, epochs of the supervised stages | 2e-5, 2 (Llama-2-7B) | paper |
| warm-up | 0.1; cosine to 10 % of the peak in the paper, to 0 here | paper |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from statistics import quantiles
from typing import Any, Literal

from potstill.methods.checks import require_pairs, require_wrong_attempts
from potstill.methods.gold_solutions import judge_solutions
from potstill.methods.settings import Options, options
from potstill.models.model import Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    by_chance,
    chance,
    is_finished,
    keep,
    mix,
    pair_all,
    problem,
    right,
    right_test,
    sample,
    split_by,
    verify,
    wrong,
)
from potstill.traces.word_overlap import word_jaccard

Arm = Literal["dpo-st", "no-dpo", "random-pairs", "near-pairs"]
SFT: dict[str, Any] = {"num_train_epochs": 2, "learning_rate": 2e-5, "warmup_steps": 0.1}
DPO: dict[str, Any] = {"max_steps": 100, "learning_rate": 3e-7, "beta": 0.1, "warmup_steps": 0.1}


def dpo_st(
    problems: list[Trace],
    student: Trainable,
    *,
    arm: Arm = "dpo-st",
    rounds: int = 3,
    n: int = 5,
    labels: int = 3,
    pairs: int = 3,
    max_jaccard: float = 0.7,
    steps: bool | None = None,
    sampling: Options = options(temperature=0.7, max_new_tokens=1024),
) -> Generator[Stage, Trainable, None]:
    """DPO-ST: self-training with direct preference optimization (Wang et al., arXiv:2407.18248).

    DPO_i = DPO(SFT_{i-1}, pairs of its right and wrong chains); SFT_i = SFT(base, solutions and right chains of DPO_i).

    Learns from: the problems' solutions, pairs of its own right and wrong chains, and its own right chains.
    Needs: student (writes and is trained).
    Controls: arm=no-dpo (self-training alone: its right chains are the supervised student's), random-pairs (pairs by
        chance: must they be unlike?), near-pairs (the most similar ones).
    Departure: a solution must be right by its verifier. Similarity is of words, in the released code of the student's
        tokens; which of too many rows of a problem are learnt is by chance, there by the alphabet. A chain that is cut
        or says no answer is no rejected one. With `steps` a learnt chain is right in every step.
    Partial: not here is the calculator that corrects results while the student writes.
    Paper: 89
    Cite: Tianduo Wang, Shichen Li, Wei Lu: Self-Training with Direct Preference Optimization Improves Chain-of-Thought
        Reasoning (2024).

    Args:
        student: the base model; it writes all chains.
        arm: the method or one of its controls.
        rounds: of preference and self-training.
        n: samples a problem that pairs are made of.
        labels: samples a problem that are learnt.
        pairs: of a problem, at most.
        max_jaccard: a chain that shares more of its words with an earlier one of its problem is left out.
        steps: also demand that every step of a learnt chain is right; left open, where the verifier judges steps.
        sampling: of all samples.
    """
    is_right = right_test(problems, steps)
    settings = dict(sampling)
    gold = keep(right, judge_solutions("dpo_st", problems))
    base = student
    student = yield Stage(base, gold, "sft", name="sft-0", **SFT)

    samples: list[Trace] = []
    pseudo_labels: list[Trace] = []
    for number in range(1, rounds + 1):
        # DPO on pairs of all rounds so far, from the supervised student.
        writer = student
        if arm != "no-dpo":
            samples += verify(keep(is_finished, sample(student, problems, n=n, **settings)))
            require_wrong_attempts("dpo_st", samples, alternative="--set arm=no-dpo")
            positives = drop_similar(max_jaccard, [*gold, *keep(is_right, samples)])
            negatives = drop_similar(max_jaccard, keep(wrong, samples))
            rows = pair_all(positives, negatives, k=pairs, rank=partial(pair_rank, arm))
            require_pairs("dpo_st", rows, alternative="self-training alone is --set arm=no-dpo")
            writer = yield Stage(student, rows, "dpo", name=f"dpo-{number}", **DPO)

        # What it writes now is learnt beside the solutions that it does not repeat, from the base model.
        written = sample(writer, problems, n=labels, **settings)
        pseudo_labels += keep(is_right, verify(keep(is_finished, written)))
        distinct = drop_similar(max_jaccard, [*gold, *pseudo_labels])[len(gold) :]
        chosen = limit_labels(gold, distinct)
        student = yield Stage(base, mix(gold, chosen), "sft", name=f"sft-{number}", **SFT)


def drop_similar(max_jaccard: float, traces: Sequence[Trace]) -> list[Trace]:
    """The traces without those that are near duplicates of an earlier one of their problem."""
    kept_texts: dict[str, list[str]] = {}

    def is_unlike_earlier(trace: Trace) -> tuple[bool, str]:
        texts = kept_texts.setdefault(trace.problem.id, [])
        is_similar = any(word_jaccard(trace.text, text) > max_jaccard for text in texts)
        if not is_similar:
            texts.append(trace.text)
        return (
            not is_similar,
            f"shares more than {max_jaccard:.0%} of its words with an earlier one",
        )

    return keep(is_unlike_earlier, traces)


def pair_rank(arm: Arm, good: Trace, bad: Trace) -> tuple[float, str]:
    """The place of a pair among those of its problem; equal ones by chance."""
    tie = chance(good.id, bad.id)
    if arm == "random-pairs":
        return 0.0, tie
    similarity = word_jaccard(good.text, bad.text)
    return (-similarity if arm == "near-pairs" else similarity), tie


def limit_labels(gold: list[Trace], labels: list[Trace]) -> list[Trace]:
    """So many labels of a problem, by chance, that with its solution it has no more rows than 90 % of the problems."""
    counts = Counter(trace.problem.id for trace in [*gold, *labels]).values()
    tenths = [float(count) for count in counts]
    if len(tenths) > 1:
        tenths = quantiles(tenths, n=10, method="inclusive")
    limit = int(tenths[-1])
    beside_gold, alone = split_by(gold, labels)
    return [
        *best(by_chance, beside_gold, by=problem, k=limit - 1),
        *best(by_chance, alone, by=problem, k=limit),
    ]
