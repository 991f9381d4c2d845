"""What a student is to learn by: an objective, its constants, and where its other ingredients come from. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from potstill import objectives
from potstill.errors import ConfigError, ModelError
from potstill.records import Stage, digest
from potstill.training.settings import SETTINGS

# Keywords of a stage that bind to the loop, and the field of `Task` that each sets. They are nobody's constants.
LOOP: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in ("teacher", "kept", "reference", "rollout", "group", "reward", "max_new", "mean")},
        "rollout_temperature": "temperature",  # an objective's own `temperature` is that of the distributions
    }
)


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

        made = {name: getattr(self, name) for name in ("rollout", "group", "temperature", "max_new", "mean")}
        made["reward"] = called(self.reward) if self.reward else None
        for name in ("teacher", "reference"):
            path = getattr(self, name)
            made[name] = checkpoint.content_id(path) if path else ""
        return made | {"objective": self.objective, "constants": dict(self.constants), "kept": _kept(self.kept)}


class Bound(NamedTuple):
    """The keywords of a stage, each where it belongs: the task, and settings of the training."""

    task: Task
    settings: Mapping[str, Any]


def bind(objective: str, given: Mapping[str, Any]) -> Bound:
    """A stage's keywords bound to the loop (LOOP), the objective's constants, and settings of the training.

    A name that is both a constant and a setting (`clip` of the policy objectives) is the constant. Models stand for
    the checkpoint that holds their weights.
    """
    constants = objectives.constants(objective)
    unknown = sorted(set(given) - set(constants) - set(LOOP) - set(SETTINGS))
    if unknown:
        raise ConfigError(
            f"objective {objective}: nothing is called {', '.join(unknown)}",
            expected=f"its constants ({', '.join(constants) or 'none'}), keywords of the loop, or training settings",
            available=(*constants, *LOOP, *SETTINGS),
            wanted=unknown[0],
            fix="change the stage, or training.task",
        )
    loop = {field: given[name] for name, field in LOOP.items() if given.get(name) is not None}
    for name in ("teacher", "reference", "kept"):
        if name in loop:
            loop[name] = folder(loop[name], name)
    mine = {name: value for name, value in given.items() if name in constants}
    rest = {name: value for name, value in given.items() if name in SETTINGS and name not in constants}
    return Bound(Task(objective, mine, **loop), rest)


def student_key(stage: Stage, settings: Mapping[str, Any], task: Task) -> str:
    """The id of the student: a plain likelihood's as ever, any other's also by what its task names, by content."""
    if task == Task():
        return stage.key(settings)
    named = {name: value for name, value in stage.constants.items() if name not in ("reward", "kept")}
    if task.rollout:  # rewards read the problems
        named["rollout"] = task.rollout
    plain = Stage(stage.model, stage.rows, stage.objective, **named)
    return plain.key({**settings, "task": task.identity()})


def folder(value: Any, role: str) -> Path:
    """The folder of a checkpoint or of kept entries: a path, or the model whose weights lie there."""
    if isinstance(value, str | Path):
        return Path(value).expanduser()
    weights = getattr(value, "weights", None)
    if weights is None:
        raise ModelError(
            f"the {role} {getattr(value, 'id', value)} has no weights to read distributions from",
            expected="a local checkpoint with the student's tokenizer",
            fix=f"--{role} transformers:PATH, or store a server's entries, or distil from its texts (likelihood)",
        )
    return Path(weights)


def called(function: Any) -> str:
    """The content id of a reward: its own `id`, or its name, source and defaults; refused where that is not all."""
    own = getattr(function, "id", None)
    if isinstance(own, str):
        return own
    held = getattr(function, "__closure__", None) or ()
    if not inspect.isfunction(function) or held:
        raise ConfigError(
            f"the reward {getattr(function, '__qualname__', function)} holds more than its source shows",
            expected="a plain function, or an object with an `id` that changes whenever its values do",
            fix="give it an attribute id, as in: reward.id = 'brevity-100'",
        )
    try:
        source = inspect.getsource(function)
    except OSError:  # typed into a console
        source = function.__code__.co_code.hex()
    return digest("reward", [function.__qualname__, source, repr(function.__defaults__)])


def _kept(folder: Path | None) -> str:
    return (folder / "kept.json").read_text("utf-8") if folder else ""
