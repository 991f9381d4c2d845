"""Implicit chain of thought: the reasoning is removed from the left until only the answer is trained on.

Deng et al., arXiv:2405.14838 (ICoT-SI, stepwise internalisation), as in da03/Internalize_CoT_Step_by_Step. The loss is
the likelihood of what is left; all that is special is how much goes, and that is here, without tensors. A schedule that
is too fast collapses: evaluate each stage by generation, and keep a checkpoint of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, final

from potstill.objectives import likelihood
from potstill.objectives.hooks import Hooks, Mistake, RowShortening, above_zero, at_least
from potstill.objectives.inputs import Inputs, Loss

Unit: TypeAlias = Literal["tokens", "steps", "share"]


def implicit_cot(x: Inputs, *, chunk: int = 0) -> Loss:
    """Negative log-likelihood of what is left of each row. Which part that is, the options say."""
    return likelihood.sft(x, chunk=chunk)


@dataclass(frozen=True, slots=True)
class ImplicitCotOptions:
    """How much of the reasoning is gone at a step of the training.

    Departure: the paper counts tokens, 8 an epoch, of chains of a hundred. Chains of thousands would take hundreds of
    epochs, so lines of the reasoning or hundredths of it can be counted instead.

    Args:
        steps_per_epoch: optimizer steps of an epoch; 0 is the training's own.
        per_epoch: how many units go in an epoch.
        unit: tokens; steps, the lines of the reasoning; or share, hundredths of each reasoning's tokens.
        smoothing: lambda of the extra offset o, of probability `(1 - e^-lambda) e^(-lambda o)`; infinite for none.
        full_reasoning_steps: optimizer steps with the whole reasoning before the first unit goes.
        remove_all_after: units past which the whole reasoning goes at once (the paper's choice for long chains); 0 is
            never.
        reset_optimizer: the optimizer forgets its moments where a unit more goes (sec. 3: the loss changes suddenly,
            and Adam's second moments are of the loss before), while something is left to remove; learning rate and
            its schedule stay. The repository's scripts say so too, its code leaves it off unless told.
    """

    steps_per_epoch: int = 0
    per_epoch: float = 8.0
    unit: Unit = "tokens"
    smoothing: float = 4.0
    full_reasoning_steps: int = 0
    remove_all_after: int = 0
    reset_optimizer: bool = True


@final
class StepwiseRemoval:
    """The options at work (`hooks.RowShortening`).

    Args:
        options: what the config sets.
        steps_per_epoch: the training's, where the options leave it open.
    """

    def __init__(self, options: ImplicitCotOptions, steps_per_epoch: int) -> None:
        self._options = options
        steps = options.steps_per_epoch or steps_per_epoch
        self.steps_per_unit = max(1, round(steps / options.per_epoch))

    def units_removed(self, step: int) -> int:
        """Units gone at an optimizer step, the offset not counted."""
        return max(0, step - self._options.full_reasoning_steps) // self.steps_per_unit

    def resets_optimizer(self, step: int) -> bool:
        """Whether a unit more goes at this step."""
        grows = step > 0 and self.units_removed(step) > self.units_removed(step - 1)
        return self._options.reset_optimizer and grows

    def offset(self, random: Random) -> int:
        """The extra units of one row, 0 in most."""
        if math.isinf(self._options.smoothing):
            return 0
        return int(-math.log(1 - random.random()) / self._options.smoothing)

    def tokens_in(self, units: int, line_lengths: Sequence[int]) -> int:
        """How many tokens of a reasoning, whose lines have these lengths, so many units are."""
        options, total = self._options, sum(line_lengths)
        if options.remove_all_after and units >= options.remove_all_after:
            return total
        if options.unit == "steps":
            return sum(line_lengths[:units])
        if options.unit == "share":
            return min(total, math.ceil(total * units / 100))
        return min(total, units)

    def tokens_to_remove(self, line_lengths: Sequence[int], step: int, random: Random) -> int:
        """Tokens that go from the left of a reasoning whose lines have these lengths."""
        return self.tokens_in(self.units_removed(step) + self.offset(random), line_lengths)


@final
class _ImplicitCotHooks(Hooks):
    """Rows lose their reasoning from step to step."""

    options = ImplicitCotOptions

    def option_mistakes(self, options: ImplicitCotOptions) -> Sequence[Mistake]:
        mistakes = []
        for name in ("per_epoch", "smoothing"):  # else nothing would ever be removed
            mistakes += above_zero(options, name, 4)
        for name in ("steps_per_epoch", "full_reasoning_steps", "remove_all_after"):
            mistakes += at_least(options, name, 0)
        return mistakes

    def row_shortening(self, options: ImplicitCotOptions, steps_per_epoch: int) -> RowShortening:
        return StepwiseRemoval(options, steps_per_epoch)


HOOKS: Mapping[str, Hooks] = {"implicit_cot": _ImplicitCotHooks()}
