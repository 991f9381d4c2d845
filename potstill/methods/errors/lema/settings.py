"""LEMA's constants and arms: what the paper (arXiv:2310.20689 v4) says, and what it leaves open.

P: read in the paper or its code. I: not reported, chosen here.

| constant | value | source |
|---|---|---|
| chains a problem that the teacher writes | 4 | P: 30,000 of 7,473 questions |
| attempts a problem of each reasoner | 4 | I: samples a question are not reported |
| temperature of attempts | 0.8 | I: not reported |
| temperature of chains and corrections | 0.7 | I: not reported |
| examples in the corrector's prompt | 4 | P |
| corrections of an attempt | 1 | P |
| evolved questions a round | 10,000 | P, of MATH's 7,500 problems; here as many as there are seed questions |
| answers that vote on an evolved question's gold | 3, 2 of them equal | P |
| second round of evolution | the same seed questions; wrong attempts of the first round's student | P; that they are \
evolved anew: I |
| training | QLoRA r 64, alpha 16, dropout 0.05, all linear layers, nf4 with double quantisation, bf16; AdamW, \
constant 2e-4 (1e-4 from 34B on), batch 96, weight decay 0.01, gradient clip 0.3; 2,000 steps (the released script: \
1,000) | P: a recipe's `training`, no part of the method |
| checkpoint | best of those saved, on the test set | P; here the last, or the best on rows that are held out |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.errors import ConfigError
from potstill.methods.settings import Options, options

Arm = Literal[
    "full",
    "cot",
    "spliced",
    "no-step",
    "no-explanation",
    "no-solution",
    "whole-chain",
    "caution",
    "shuffled-explanations",
    "shuffled-attempts",
    "random-text",
    "injection",
]
Match = Literal["none", "rows", "characters"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the paper does not report, or fixes at a size of its own.

    Args:
        chains: right chains are looked for among so many samples of the teacher a problem.
        attempts: samples a problem of each reasoner.
        examples: worked corrections that the corrector is shown before the attempt, at most 4; `potstill tune-prompts
            lema` says with how many a corrector writes what can be learnt.
        steps: also demand that every step of a right chain, and of the chain that a correction makes of the wrong
            attempt, is right; left open, where the problems' verifier judges steps.
        evolve_from: questions that are evolved: those that occur in "corrections", as often as they do, or "all" of
            them alike (the paper's control).
        evolved: evolved questions a round; 0 is as many as there are problems.
        voters: answers of the teacher that vote on an evolved question's gold answer.
        votes: of them, how many must be equal.
        seed: of the draw of seed questions and of the order of rows.
        chain_sampling: sampling of the teacher's chains, and of its votes.
        attempt_sampling: sampling of the attempts.
        correction_sampling: sampling of the corrections.
        evolution_sampling: sampling of evolved questions.
    """

    chains: int = 4
    attempts: int = 4
    steps: bool | None = None
    examples: int = 4
    evolve_from: Literal["corrections", "all"] = "corrections"
    evolved: int = 0
    voters: int = 3
    votes: int = 2
    seed: int = 0
    chain_sampling: Options = options(temperature=0.7)
    attempt_sampling: Options = options(temperature=0.8, max_new_tokens=1024)
    correction_sampling: Options = options(temperature=0.7)
    evolution_sampling: Options = options(temperature=0.7)

    def __post_init__(self) -> None:
        """Refuse what could not be done, before questions and answers are paid for."""
        if self.votes > self.voters:
            raise ConfigError(
                f"{self.votes} equal votes are asked for, and {self.voters} answers vote",
                fix=f"--set settings.voters={self.votes}",
            )
        if not 0 <= self.examples <= 4:
            raise ConfigError(
                f"the corrector is to be shown {self.examples} examples",
                expected="0 to 4, of which the first are taken",
                fix="--set settings.examples=4",
            )
