"""Warm-up: long chains of thought about puzzles are learnt before a few problems are trained on by reward.

The released code was read (sampling, both trainings, rewards); of the paper its abstract and introduction.

| constant | value | source |
|---|---|---|
| puzzles | 45 for each problem: 4,500 for 100 | notes on the paper: about 5,000, 4,500 of them to learn |
| people in a puzzle | 3 to 7 | released data |
| chains a puzzle: temperature, top-p, top-k, tokens | 4: 0.6, 0.95, 40, 8,192 | released code, `qwq_sample.py` |
| chains are learnt | right or wrong | notes on the code |
| warm-up: learning rate, epochs, warm-up steps | 1e-6 constant, 5, 25 | released code, `sftconfig.yaml` |
| its weight decay, gradient norm | 1e-4, 0.1 | released code |
| problems that are trained on by reward | 100 at most | abstract |
| rewards | 2 right, -0.5 wrong, -1 without a box, -2 in another form | released code, `dataset_loader.py` |
| texts a problem, temperature, divergence | 10, 0.7, none | released code, `grpoconfig.yaml`, `trainer_qwen.py` |
| mean of the loss | over the tokens of a batch, as `grpo` has it | released code, its copy of the library |
| learning rate, epochs, warm-up steps | 1e-6 constant, 25, 25 | released code |
| weight decay, gradient norm | 0.1, 0.1 | released code |
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from random import Random
from typing import Any, Literal

from potstill.methods.questions._knights_knaves import draw_puzzle, write_answer, write_question
from potstill.methods.rollouts import Rollouts
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    chance,
    derive,
    is_finished,
    keep,
    report_shares,
    right,
    sample,
    share_of,
    verify,
)

TRAINING: dict[str, Any] = {
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "warmup_steps": 25,
    "max_grad_norm": 0.1,
}
# 2 and -0.5 where the form is right and -2 elsewhere, each with 2 added, which no advantage sees.
REWARD = {"verifier": 2.5, "form": 1.5}


def puzzle_warm_up(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["paper", "rl", "warm-up", "right-puzzles"] = "paper",
    examples: int = 100,
    puzzles: int = 45,
    people: tuple[int, ...] = (3, 4, 5, 6, 7),
    n: int = 4,
    sampling: Options = options(temperature=0.6, top_p=0.95, top_k=40, max_new_tokens=8192),
    rollouts: Rollouts = Rollouts(num_generations=10, temperature=0.7, max_new_tokens=8192),
) -> Generator[Stage, Trainable, None]:
    """Warm up before you train: reasoning from puzzles, then a few problems (Shrestha et al., arXiv:2505.13718).

    Learns from: a reasoner's chains about knights and knaves, right or wrong; then its own texts on a few problems, by
        verdict and form.
    Needs: teacher (writes long chains about puzzles), student (is trained, then writes and is trained).
    Controls: arm=rl (the same rewards without the warm-up: the paper's comparison), warm-up (the puzzles alone),
        right-puzzles (of the puzzles' chains the right ones alone).
    Departure: puzzles are made here, of the same forms; a problem's are drawn by its id. Chains that end at their limit
        are left out (inferred). A right answer in another form has 2.5 more than a wrong one, and a wrong answer
        without a box as much as any wrong one. Advantages are divided by the group's deviation, which the released code
        leaves out; it samples the rewarded texts with top-p 0.95, here with 1. Another toy domain is `sft` on it and
        then `deepseek_r1 arm=zero`; a teacher of short chains, which the paper also compares, is another teacher.
    Paper: 135
    Cite: Safal Shrestha, Minwu Kim, Aadim Nepal, Anubhav Shrestha, Keith Ross: Warm Up Before You Train: Unlocking
        General Reasoning in Resource-Constrained Settings (2025).

    Args:
        teacher: a reasoning model, QwQ-32B in the paper; it sees the puzzles alone.
        arm: the paper, or one of its controls.
        examples: problems that are trained on by reward, at most; by chance where there are more.
        puzzles: for each of these problems.
        people: in a puzzle, in turn.
        n: chains sampled a puzzle.
        sampling: of the chains.
        rollouts: how the student writes while it is rewarded.
    """
    # The target problems are few: the warm-up is for those who have no more.
    few = best(by_chance_of_problem, problems, k=examples)

    # Stage 1: chains about puzzles, whatever their answers.
    if arm != "rl":
        # New problems of the run, beside those that it was given: what overlaps the evaluation set is left out.
        toy_problems: list[Trace] = []
        for number in range(puzzles):
            write = partial(make_puzzle, people, number)
            toy_problems += derive(write, few, prompt="{question}")
        chains = verify(keep(is_finished, sample(teacher, toy_problems, n=n, **dict(sampling))))
        share = share_of("chains about puzzles: right", right, chains)
        report_shares("Warm-up", [share], hint="Right or wrong, they are learnt.")
        if arm == "right-puzzles":
            chains = keep(right, chains)
        student = yield Stage(
            student,
            chains,
            "sft",
            name="warm-up",
            num_train_epochs=5,
            weight_decay=1e-4,
            **TRAINING,
        )

    # Stage 2: rewards on the few problems.
    if arm != "warm-up":
        keywords = rollouts.keywords(reward=REWARD)
        yield Stage(
            student,
            few,
            "grpo",
            name="rewards",
            num_train_epochs=25,
            weight_decay=0.1,
            **TRAINING,
            **keywords,
        )


def by_chance_of_problem(trace: Trace) -> str:
    """A problem's place in a shuffle that the other problems do not change."""
    return chance("puzzle_warm_up", trace.problem.id)


def make_puzzle(people: tuple[int, ...], number: int, trace: Trace) -> dict[str, Any]:
    """The puzzle of this number for a problem: a question with its gold answer."""
    # The id of the problem is the seed: neither other problems nor their order change its puzzles.
    count = people[number % len(people)]
    puzzle = draw_puzzle(Random(chance("knights and knaves", trace.problem.id, number)), count)
    return {
        "question": write_question(puzzle),
        "answer": write_answer(puzzle),
        "kind": "exact",
        # Nothing of the target problem is handed on.
        "choices": (),
        "table": None,
        "metadata": {"topic": "knights and knaves", "people": count},
    }
