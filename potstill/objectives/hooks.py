"""What an objective asks of a training beside its loss: options, checks, schedules, projections, rows. No torch.

The training loop calls these and knows no objective by name. A module of this package whose objective needs one has a
mapping `HOOKS` from the objective's name to an instance of a subclass of `Hooks`; every method has a default.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from potstill.records import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from potstill.objectives.inputs import Inputs


class Mistake(NamedTuple):
    """What is wrong with a config, and the keyword that fixes it (`teacher=`, `num_generations=4`)."""

    message: str
    fix: str = ""


class ModelShape(NamedTuple):
    """Width of a model's states, and how many layers it has."""

    width: int
    depth: int


class Projectors(NamedTuple):
    """Trained projections between two models' spaces, and the (student's, teacher's) layers that are compared."""

    module: nn.Module
    layer_pairs: Sequence[tuple[int, int]] = ()


class ConstantSchedule(Protocol):
    """Constants that a rule moves from step to step; a checkpoint holds its state."""

    def constants(self) -> dict[str, Any]:
        """The values of the step to come."""
        ...

    def advance(self, record: Mapping[str, float], progress: float) -> None:
        """Move on after a step.

        Args:
            record: of the whole step: its loss, and means of its statistics.
            progress: share of all steps that lay before this one.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs, as numbers and lists."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        ...


class RowShortening(Protocol):
    """How much of each row's reasoning is gone at a step of the training."""

    def tokens_to_remove(self, line_lengths: Sequence[int], step: int, random: Random) -> int:
        """Tokens that go from the left of a reasoning whose lines have these lengths."""
        ...

    def resets_optimizer(self, step: int) -> bool:
        """Whether the optimizer forgets its moments before this step, if anything is left to remove."""
        ...


@dataclass(frozen=True, slots=True)
class NoOptions:
    """An objective without options."""


@dataclass(frozen=True, slots=True)
class ProjectorOptions:
    """Of an objective with trained projections.

    Args:
        projector_lr: their learning rate; the training's schedule moves it as it moves the student's.
    """

    projector_lr: float = 1e-3


class Hooks:
    """What the training loop asks an objective.

    Attributes:
        options: a frozen dataclass of settings that are no arguments of the loss.
        trains_student: False where only the projections learn; they are then stored beside the student.
        keeps_equal_pairs: whether a pair whose two sides are the same tokens can be trained on.
    """

    options: type[Any] = NoOptions
    trains_student: bool = True
    keeps_equal_pairs: bool = False

    def extra_needs(self, constants: Mapping[str, Any]) -> tuple[str, ...]:
        """Needs (`Objective.needs`) that some values of the constants add; a scheduled constant counts as set."""
        return ()

    def wants_full_distribution(self, constants: Mapping[str, Any]) -> bool:
        """Whether the loss needs the probability of every token, where a teacher may tell its likeliest alone."""
        return False

    def option_mistakes(self, options: Any) -> Sequence[Mistake]:
        """What is wrong with option values of the right kinds."""
        return ()

    def teacher_share(self, constants: Mapping[str, Any]) -> float:
        """The teacher's share in the distribution that each token of a rollout is drawn from."""
        return 0.0

    def schedule(
        self, constants: Mapping[str, Any], scheduled: Collection[str]
    ) -> ConstantSchedule | None:
        """The rule that moves constants of this objective; None where nothing moves by itself.

        Args:
            constants: those that the config sets.
            scheduled: names of the constants that the config's own schedule moves.
        """
        return None

    def check_rows(self, rows: Sequence[Trace]) -> None:
        """Raise StageError where rows can't be trained on by this objective."""

    def pairs_with_answer_alone(self, constants: Mapping[str, Any]) -> bool:
        """Whether each row is paired with itself without its reasoning."""
        return False

    def row_shortening(self, options: Any, steps_per_epoch: int) -> RowShortening | None:
        """How rows lose their reasoning from step to step; None where they stay whole."""
        return None

    def replaced_share(self, options: Any) -> float:
        """The share of a row's learnt tokens in whose place the student's own stand; 0 leaves rows as they are."""
        return 0.0

    def step_returns(self, rewards_N: Tensor, x: Inputs, constants: Mapping[str, Any]) -> Tensor:
        """Returns of each position from its rewards (teacher's log-probability less the sampler's), [N].

        The loop whitens them over the whole step and gives them as `advantages_N`. For objectives that need "returns".
        """
        raise NotImplementedError

    def projectors(
        self, student: ModelShape, teacher: ModelShape, options: Any
    ) -> Projectors | None:
        """New projections between two models, for objectives that need "projectors"."""
        return None

    def initial_projectors(self, options: Any) -> Path | None:
        """The folder of a student beside which an earlier training stored the projections to begin with."""
        return None


DEFAULT = Hooks()


def at_least(options: Any, name: str, minimum: float) -> list[Mistake]:
    """The mistake of an option below its minimum, if it is."""
    value = getattr(options, name)
    if value >= minimum:
        return []
    message = f"{name}={value!r} is out of range: {minimum:g} or more"
    return [Mistake(message, f"{name}={minimum:g}")]


def above_zero(options: Any, name: str, example: float) -> list[Mistake]:
    """The mistake of an option that is not above 0, if it is not."""
    value = getattr(options, name)
    if value > 0:
        return []
    return [Mistake(f"{name}={value!r} is out of range: above 0", f"{name}={example:g}")]
