"""What a student is to learn by: an objective, its constants, and where its other ingredients come from. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from potstill import objectives
from potstill.errors import ConfigError

# Keywords of a stage that bind to the loop; all others are the objective's constants.
LOOP = ("teacher", "kept", "reference", "rollout", "group", "reward", "temperature", "max_new", "mean")


@dataclass(frozen=True, slots=True)
class Task:
    """An objective with what it needs.

    Args:
        objective: a name of `objectives.TABLE`.
        constants: its keyword arguments.
        teacher: a checkpoint of the same tokenizer whose distribution is distilled.
        kept: a folder of stored teacher entries (`training.kept`), instead of the teacher.
        reference: a checkpoint; None is the student as it starts.
        rollout: share of the steps whose completions the student writes: 0 off-policy, 1 on-policy, between them GKD.
        group: completions of a prompt in a step, where the student writes them.
        reward: of a problem and a text, a number; None is 1.0 where the problem's verifier says right.
        temperature: of rollouts.
        max_new: tokens of a rollout at most.
        mean: what the loss of a token is averaged over; see `objectives.policy.means`.
    """

    objective: str = "likelihood"
    constants: Mapping[str, Any] = field(default_factory=dict)
    teacher: Path | None = None
    kept: Path | None = None
    reference: Path | None = None
    rollout: float = 0.0
    group: int = 1
    reward: Callable[[Any, str], float] | None = None
    temperature: float = 1.0
    max_new: int = 512
    mean: Literal["token", "sequence", "fixed"] = "token"

    def __post_init__(self) -> None:
        """Refuse what can't be trained, all at once."""
        needs = objectives.entry(self.objective).needs
        known = objectives.constants(self.objective)
        unknown = sorted(set(self.constants) - set(known))
        wrong = [
            text
            for bad, text in (
                (bool(unknown), f"no constant {', '.join(unknown)} (known: {', '.join(known) or 'none'})"),
                ("distribution" in needs and not (self.teacher or self.kept), "a teacher= or kept= is needed"),
                ("logp" in needs and not self.teacher, "a teacher= is needed"),
                ("advantages" in needs and self.rollout != 1, "rewards are of the student's own samples: rollout=1"),
                ("advantages" in needs and self.group < 2, "advantages are within a group: group=2 or more"),
                ("pairs" in needs and self.rollout > 0, "pairs are rows, not rollouts: rollout=0"),
                (bool(self.kept) and self.rollout > 0, "kept entries belong to the rows they were made on: rollout=0"),
                (not 0 <= self.rollout <= 1, f"rollout={self.rollout} is a share"),
                (
                    self.group < 1 or self.max_new < 1 or self.temperature < 0,
                    "group, max_new, temperature out of range",
                ),
            )
            if bad
        ]
        if wrong:
            raise ConfigError(
                f"objective {self.objective}: {'; '.join(wrong)}", fix="change the stage, or training.task"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective must be given."""
        return objectives.entry(self.objective).needs

    def identity(self) -> dict[str, Any]:
        """What of it can change the trained weights; checkpoints by their content."""
        from potstill.models import checkpoint

        made = {name: getattr(self, name) for name in ("rollout", "group", "reward", "temperature", "max_new", "mean")}
        for name in ("teacher", "reference"):
            path = getattr(self, name)
            made[name] = checkpoint.content_id(path) if path else ""
        return made | {"objective": self.objective, "constants": dict(self.constants), "kept": _kept(self.kept)}


def _kept(folder: Path | None) -> str:
    return (folder / "kept.json").read_text("utf-8") if folder else ""
