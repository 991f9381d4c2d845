"""The constants of explain-based distillation: what is inferred, not read in the paper (arXiv:2404.08148).

V: stated in a review of the paper, whose full text was not read. I: inferred here.

| constant | value | source |
|---|---|---|
| plans × programs at test time | n × 1 | V: 10 × 1 solves more than 1 × 10 |
| the Coder is not fine-tuned | the untrained student | V |
| easier and more recent problems weigh more | 1 ± 0.25 each | V that they do; I the amount and the form |
| sections of an editorial | 7 | V three of them; I the others, after arXiv:2307.05337 |
| largest share of the solution's 4-grams in an editorial | 0.5 | I |
| the oracle solution passes its own tests | yes | I |
| Explainer's temperature | 0.6 | I; as in `sft`, so that both arms have the same teacher |
| Coder's temperature, top-p | 0.8, 0.95 | I; a knob of its own |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.errors import ConfigError
from potstill.methods.roles.explain.prompts import SECTIONS
from potstill.methods.settings import Options, options

Arm = Literal[
    "explain", "solve-based", "direct", "zero-shot-editorial", "zero-shot-cot", "zero-shot"
]
OracleSource = Literal["gold", "sampled-right", "sampled", "sampled-wrong"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about explain-based distillation that is inferred, not read in the paper.

    Args:
        sections: which sections of an editorial the Reasoner learns, in this order.
        oracle: the solution that the Explainer is shown: the problem's own ("gold"), or one sampled from `solver` that
            passes ("sampled-right"), whatever it is ("sampled"), or that fails ("sampled-wrong").
        max_copied_share: largest share of the solution's runs of 4 tokens that an editorial may repeat.
        faithful_tries: tries of the Coder on each editorial, for the score `faithful`; 0 leaves it out. Nothing is
            dropped by it, since that would favour easy problems.
        difficulty: metadata by which problems are hard, higher is harder; the first that a problem has, and then all
            must have it. Where none has one it does not weigh.
        recency: metadata by which problems are recent, higher is more recent; the same holds.
        easy_weight: how much more the easiest problem weighs than the hardest, in shares of the mean weight.
        recent_weight: how much more the most recent problem weighs than the oldest, in shares of the mean weight.
        programs: programs T for each plan at test time; an evaluation of n answers has n / T plans.
        explainer_sampling: sampling of the editorials.
        solver_sampling: sampling of sampled oracle solutions, and of the chains of the arm solve-based.
        coder_sampling: sampling of the programs.
    """

    sections: tuple[str, ...] = tuple(SECTIONS)
    oracle: OracleSource = "gold"
    max_copied_share: float = 0.5
    faithful_tries: int = 0
    difficulty: tuple[str, ...] = ("rating", "level")
    recency: tuple[str, ...] = ("date",)
    easy_weight: float = 0.5
    recent_weight: float = 0.5
    programs: int = 1
    explainer_sampling: Options = options(temperature=0.6, max_new_tokens=8192)
    solver_sampling: Options = options(temperature=0.6, max_new_tokens=32768)
    coder_sampling: Options = options(temperature=0.8, top_p=0.95, max_new_tokens=8192)

    def __post_init__(self) -> None:
        """Refuse sections that no editorial has, weights below 0, and no programs."""
        unknown = [name for name in self.sections if name not in SECTIONS]
        if unknown or not self.sections:
            raise ConfigError(
                f"explain does not know the section {unknown[0]!r}" if unknown else "no section",
                available=SECTIONS,
                wanted=unknown[0] if unknown else "",
                fix="--set settings.sections=key_insight,step_by_step",
            )
        if min(self.easy_weight, self.recent_weight) < 0 or (
            self.easy_weight + self.recent_weight >= 2
        ):
            raise ConfigError(
                f"easy_weight={self.easy_weight} and recent_weight={self.recent_weight} make weights below 0",
                expected="both 0 or more, together below 2",
            )
        if self.programs < 1:
            raise ConfigError(f"programs={self.programs}", expected="1 or more for each plan")
