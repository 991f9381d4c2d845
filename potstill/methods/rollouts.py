"""How a student writes while its texts are rewarded: the keywords that every method of rewards gives its stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rollouts:
    """How a student writes while its texts are rewarded.

    Args:
        num_generations: texts a problem.
        temperature: of its texts.
        max_new_tokens: longest text.
        beta: weight of the divergence to the student as the stage begins; 0 is none.
    """

    num_generations: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 2048
    beta: float = 0.0

    def keywords(self, **others: Any) -> dict[str, Any]:
        """The keywords of a stage on the student's own texts; `others` win."""
        return {
            "on_policy_fraction": 1.0,
            "num_generations": self.num_generations,
            "rollout_temperature": self.temperature,
            "max_new_tokens": self.max_new_tokens,
            "beta": self.beta,
            **others,
        }
