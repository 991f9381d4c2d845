"""ELAD's constants and arms (arXiv:2402.13098). The paper's own values could not be read: all but the budget are ours.

| constant | value | source |
|---|---|---|
| share of the pool that is annotated | 0.5 | the review: its figures are at a 50 % budget |
| labelled seed | 0.05 of the problems | ours |
| chains a problem k, temperature | 5, 0.7 | ours |
| weight of the intra score lambda | 1, both terms scaled to [0, 1] | ours |
| rounds | 5 of B/5 annotations, each from the warm start | ours |
| steps of a chain at most | 16 | ours |
| tries of a verdict | 2 | ours: "one re-ask" |
| price of a completion token in prompt tokens | 4 | the reference's worked example |
| price of a teacher's token in a student's | 10 | ours; only the arm random-same-cost asks for it |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.methods.settings import Options, options

Arm = Literal[
    "egss",
    "inter",
    "intra",
    "inter-same-calls",
    "random",
    "random-same-length",
    "random-same-cost",
]
Sign = Literal["change", "same"]
Probe = Literal["branch", "drop-one"]
Annotation = Literal["sequential", "single-call", "fresh-chain"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about ELAD that is inferred, not read in the paper.

    Args:
        seed_share: share of the problems whose fresh teacher chains warm the student up; 0 begins with it as it is.
        rounds: in how many equal parts the budget is spent; each scores what is left of the pool with the student that
            the one before has made.
        intra_weight: lambda, the weight of the intra score beside the inter score.
        subtract_noise: take from U_change what changes between two continuations of one text, where that was measured.
        probed: which chains are probed: one with the "majority" answer, the "greedy" one, or "all" that were sampled.
        step_pattern: a step begins at each match of this pattern; blanks between steps belong to the later one.
        max_steps: steps of a chain at most; in a longer one several sentences are a step. Each costs two continuations
            of the student and a verdict of the teacher.
        chain_sampling: sampling of the student's chains.
        probe_sampling: sampling of the continuations that the intra score compares.
        answer_lead: what the probe drop-one puts behind the steps, to have the answer written at once.
        answer_tokens: tokens that such an answer may have.
        max_new_tokens: longest chain, of the student and of the teacher.
        verdict_tokens: tokens of a verdict at most; more for a teacher that thinks before it answers.
        verdict_tries: how often a verdict that can't be read is asked for.
        teacher_sampling: sampling of the teacher's revisions and chains; verdicts are greedy, and asked anew at 0.7.
        prefix_weight: weight in the loss of the steps that the teacher accepted, also of chains that it accepted whole;
            0 learns only what the teacher wrote, and leaves those chains out.
        check_answers: also drop revised rows whose answer is judged wrong, where problems have gold answers.
        selection_seed: decides between equal scores, and is the seed of the random arms and of the labelled seed.
        cost_sample: problems that EGSS is run on to measure what it costs, in the arm random-same-cost.
        completion_price: of a completion token, in prompt tokens.
        teacher_price: of a teacher's token, in tokens of the student.
    """

    seed_share: float = 0.05
    rounds: int = 5
    intra_weight: float = 1.0
    subtract_noise: bool = False
    probed: Literal["majority", "greedy", "all"] = "majority"
    step_pattern: str = r"(?<=[.!?])\s+(?=\S)|\n+(?=\S)"
    max_steps: int = 16
    chain_sampling: Options = options(temperature=0.7)
    probe_sampling: Options = options(temperature=0.7)
    answer_lead: str = " The answer is \\boxed{"
    answer_tokens: int = 16
    max_new_tokens: int = 1024
    verdict_tokens: int = 64
    verdict_tries: int = 2
    teacher_sampling: Options = options(temperature=0.6)
    prefix_weight: float = 1.0
    check_answers: bool = False
    selection_seed: int = 0
    cost_sample: int = 16
    completion_price: float = 4.0
    teacher_price: float = 10.0


@dataclass(frozen=True, slots=True)
class Selection:
    """How chains are chosen: the values of `elad` that EGSS and its controls share.

    Args:
        n: chains sampled a problem.
        arm: how problems are chosen.
        sign: which answers of the probes count as doubt.
        probe: how a step is taken away.
        settings: what is inferred.
    """

    n: int = 5
    arm: Arm = "egss"
    sign: Sign = "change"
    probe: Probe = "branch"
    settings: Settings = Settings()
