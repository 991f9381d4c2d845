"""Stepwise internalisation: the chain of thought is taken away from the left until only the answer is trained on.

Deng et al., arXiv:2405.14838 (ICoT-SI), as in da03/Internalize_CoT_Step_by_Step. The loss is plain likelihood of what
is left; all that is special is how much is taken, and that is here, without tensors. Cut before packing. Evaluate each
stage by generation and keep a checkpoint of it: a schedule that is too fast collapses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, TypeAlias

from potstill.errors import ConfigError

Unit: TypeAlias = Literal["tokens", "steps", "share"]
UNITS = ("tokens", "steps", "share")


class Target(NamedTuple):
    """What is trained on: token ids, which of them are counted, and the positions that they stand at."""

    ids: list[int]
    counted: list[bool]
    positions: list[int]


@dataclass(frozen=True, slots=True)
class Internalise:
    """How much of a chain of thought is gone at a step of the training.

    Departure: the paper counts tokens, 8 an epoch, of chains of a hundred. Chains of thousands would take hundreds of
    epochs, so steps of the reasoning or hundredths of it can be counted instead.

    Args:
        steps_per_epoch: of the optimiser.
        per_epoch: how many units go in an epoch.
        unit: tokens; steps of the reasoning (in a training: its lines); or share, hundredths of each chain's tokens.
        smoothing: lambda of the extra offset o, of probability `(1 - e^-lambda) e^(-lambda o)`; infinite for none.
        warmup: optimiser steps with the whole chain.
        all_beyond: units past which the whole chain goes at once (the paper's choice for long chains); 0 is never.
        keep_positions: what is left stands at the positions that it had.
        reset: the optimiser forgets its moments where a unit more goes (sec. 3: the loss changes suddenly, and Adam's
            second moments are of the loss before), while something is left to take; rate and schedule stay. The
            repository's scripts say so too, its code leaves it off unless told.
    """

    steps_per_epoch: int
    per_epoch: float = 8.0
    unit: Unit = "tokens"
    smoothing: float = 4.0
    warmup: int = 0
    all_beyond: int = 0
    keep_positions: bool = False
    reset: bool = True

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(
                f"unknown unit={self.unit!r}",
                available=UNITS,
                wanted=str(self.unit),
                fix="unit=steps",
            )
        if self.per_epoch <= 0 or self.steps_per_epoch <= 0 or self.smoothing <= 0:
            raise ConfigError(
                "nothing would ever be taken away", expected="steps, units and smoothing above 0"
            )

    @property
    def every(self) -> int:
        """Optimiser steps between two units: `round(steps_per_epoch / per_epoch)`, at least 1."""
        return max(1, round(self.steps_per_epoch / self.per_epoch))

    def removed(self, step: int) -> int:
        """Units gone at an optimiser step, the offset not counted."""
        return max(0, step - self.warmup) // self.every

    def rises(self, step: int) -> bool:
        """Whether a unit more goes at this step: where the optimiser is to begin anew (`reset`)."""
        return step > 0 and self.removed(step) > self.removed(step - 1)

    def offset(self, random: Random) -> int:
        """The extra units of one row, 0 in most."""
        return (
            0
            if math.isinf(self.smoothing)
            else int(-math.log(1 - random.random()) / self.smoothing)
        )

    def tokens(self, units: int, lengths: Sequence[int]) -> int:
        """How many tokens of a chain so many units are; `lengths` are those of its steps."""
        whole = sum(lengths)
        if self.all_beyond and units >= self.all_beyond:
            return whole
        if self.unit == "steps":
            return sum(lengths[:units])
        return min(whole, units if self.unit == "tokens" else math.ceil(whole * units / 100))

    def target(
        self,
        step: int,
        random: Random,
        prompt: Sequence[int],
        steps: Sequence[Sequence[int]],
        answer: Sequence[int],
    ) -> Target:
        """The row at an optimiser step: the prompt, what is left of the chain, the answer."""
        gone = self.tokens(self.removed(step) + self.offset(random), [len(part) for part in steps])
        left = [token for part in steps for token in part][gone:]
        ids = [*prompt, *left, *answer]
        shift = gone if self.keep_positions else 0
        positions = [i if i < len(prompt) else i + shift for i in range(len(ids))]
        return Target(ids, [i >= len(prompt) for i in range(len(ids))], positions)


def offset_share(smoothing: float, offset: int) -> float:
    """The probability of an offset, `(1 - e^-lambda) e^(-lambda o)`."""
    if math.isinf(smoothing):
        return float(offset == 0)
    return -math.expm1(-smoothing) * math.exp(-smoothing * offset)
