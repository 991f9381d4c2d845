"""Constants of an objective that move from step to step, and what else lies beside the weights in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, final

from potstill.errors import StageError
from potstill.training.objective_config import ObjectiveConfig


class When(NamedTuple):
    """Where a training stands: optimizer steps done, and in all."""

    step: int
    total: int

    @property
    def done(self) -> float:
        """The share of the steps that is done."""
        return self.step / max(1, self.total)


class Stateful(Protocol):
    """What a checkpoint must hold beside weights and optimizer, as tensors, numbers, lists and mappings."""

    def state(self) -> dict[str, Any]:
        """All of it."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        ...


@final
class ConstantSchedules:
    """The constants of a step: those in `config.schedule` go in a line, others by the objective's own rule."""

    def __init__(self, config: ObjectiveConfig) -> None:
        self._lines = dict(config.schedule)
        self._rule = config.hooks.schedule(config.constants, config.schedule)

    def constants(self, when: When) -> dict[str, Any]:
        """The values of this step."""
        share = min(1.0, when.step / max(1, when.total - 1))
        values: dict[str, Any] = {}
        for name, (first, last) in self._lines.items():
            values[name] = first + (last - first) * share
        if self._rule:
            values |= self._rule.constants()
        return values

    def advance(self, when: When, record: Mapping[str, float]) -> None:
        """Move on after a step.

        Args:
            when: before the step was counted.
            record: of the whole step: its loss, and means of its statistics.
        """
        if self._rule:
            self._rule.advance(record, when.done)

    def state(self) -> dict[str, Any]:
        """Where the objective's rule stands; lines are a function of the step."""
        return self._rule.state() if self._rule else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        if set(state) != set(self.state()):
            raise StageError(
                "a checkpoint of another schedule",
                expected="the same objective config",
                fix="train anew",
            )
        if self._rule:
            self._rule.restore(state)
