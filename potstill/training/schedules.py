"""Constants of an objective that move from step to step, and what else lives beside the weights in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, final

from potstill.errors import StageError
from potstill.objectives.schedules import FIRST, Taid
from potstill.training.objective_config import ObjectiveConfig

TAID_START = 0.4


class When(NamedTuple):
    """Where a training stands: optimiser steps done, and in all."""

    step: int
    total: int

    @property
    def done(self) -> float:
        """The share of the steps that is done."""
        return self.step / max(1, self.total)


class Stateful(Protocol):
    """What a checkpoint must hold beside weights and optimiser, as tensors, numbers, lists and mappings."""

    def state(self) -> dict[str, Any]:
        """All of it."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        ...


@final
class Moving:
    """The constants of a step: those in `config.schedule` go in a line from one value to another; two go by rules.

    TAID's t moves once an optimiser step by the loss of the whole step, unless the stage gives a t, which then stays.
    DistiLLM-2's `anchor="first"` becomes the mean gaps of the first step's responses, from the second step on.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        self._lines = dict(config.schedule)
        by_rule = (
            config.objective == "taid"
            and "t" not in config.constants
            and "t" not in config.schedule
        )
        self._taid = Taid(TAID_START) if by_rule else None
        self._anchored = config.objective == "distillm2" and config.constants.get("anchor") == FIRST
        self._anchor: tuple[float, ...] = ()

    def constants(self, when: When) -> dict[str, Any]:
        """The values of this step."""
        share = when.step / max(1, when.total - 1)
        made = {
            name: first + (last - first) * min(1.0, share)
            for name, (first, last) in self._lines.items()
        }
        by_rule = (
            {"t": self._taid.t} if self._taid else {"anchor": self._anchor} if self._anchor else {}
        )
        return {**made, **by_rule}

    def after(self, when: When, record: Mapping[str, float]) -> None:
        """Move on after a step.

        Args:
            when: before the step was counted.
            record: of the whole step: its loss, and means of its statistics.
        """
        if self._taid:
            self._taid = self._taid.after(record["loss"], when.done, start=TAID_START)
        if self._anchored and not self._anchor:
            self._anchor = record["gap"], record["gap_student"]

    def state(self) -> dict[str, Any]:
        """Where TAID stands, and the anchors; lines are a function of the step."""
        return (
            {"taid": list(self._taid)}
            if self._taid
            else {"anchor": list(self._anchor)}
            if self._anchored
            else {}
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        if set(state) != set(self.state()):
            raise StageError(
                "a checkpoint of another schedule",
                expected="the same objective config",
                fix="train anew",
            )
        if self._taid:
            self._taid = Taid(*state["taid"])
        self._anchor = tuple(state.get("anchor", ()))
