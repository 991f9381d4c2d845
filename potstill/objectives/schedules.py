"""Constants that move while a student learns, and where a step's rows come from: pure rules over plain numbers.

A rule's state is a small tuple that goes in and comes out, so that a checkpoint can hold it. The training loop calls a
rule once an optimizer step, with the loss of the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, final

from torch import Tensor

Source: TypeAlias = Literal["fresh", "replay", "rows"]
FIRST = "first"  # of an anchor: the mean gap of a training's first step
TAID_START = 0.4


class Taid(NamedTuple):
    """Where TAID's interpolation stands: the share t of the teacher, its momentum, the last step's loss."""

    t: float
    momentum: float = 0.0
    loss: float | None = None

    def after(
        self,
        loss: float,
        done: float,
        *,
        start: float = TAID_START,
        end: float = 1.0,
        alpha: float = 5e-4,
        beta: float = 0.99,
    ) -> Taid:
        """The state after a step (TAID, arXiv:2501.16937, alg. 1, as in SakanaAI/TAID's `update_t`).

        delta = (last - loss) / last; m <- beta m + (1 - beta) delta; t <- min(end, max(linear, t + alpha sigmoid(m)
        (1 - t))), linear = start + (end - start) done. The first step only notes its loss.

        Args:
            loss: of the whole optimizer step.
            done: share of all steps that lay before this one.
        """
        if self.loss is None:
            return self._replace(loss=loss)
        delta = (self.loss - loss) / (self.loss + 1e-15)
        momentum = beta * self.momentum + (1 - beta) * delta
        moved = self.t + alpha * _sigmoid(momentum) * (1 - self.t)
        return Taid(min(end, max(start + (end - start) * done, moved)), momentum, loss)


@final
class TaidSchedule:
    """TAID's t, which moves once an optimizer step by the loss of the whole step (`hooks.ConstantSchedule`)."""

    def __init__(self) -> None:
        self._taid = Taid(TAID_START)

    def constants(self) -> dict[str, Any]:
        """The teacher's share at the step to come."""
        return {"t": self._taid.t}

    def advance(self, record: Mapping[str, float], progress: float) -> None:
        """Move on after a step."""
        self._taid = self._taid.after(record["loss"], progress)

    def state(self) -> dict[str, Any]:
        """Share, momentum and last loss."""
        return {"taid": list(self._taid)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._taid = Taid(*state["taid"])


@final
class FirstStepAnchors:
    """DistiLLM-2's anchors: the mean gaps of the first step's responses, from the second step on."""

    def __init__(self) -> None:
        self._anchors: tuple[float, ...] = ()

    def constants(self) -> dict[str, Any]:
        """Both anchors; none before the first step was made."""
        return {"anchor": self._anchors} if self._anchors else {}

    def advance(self, record: Mapping[str, float], progress: float) -> None:
        """Take the anchors from the first step."""
        if not self._anchors:
            self._anchors = record["gap"], record["gap_student"]

    def state(self) -> dict[str, Any]:
        """The anchors."""
        return {"anchor": list(self._anchors)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._anchors = tuple(state["anchor"])


class AdaptiveShare(NamedTuple):
    """Where DistiLLM's adaptive off-policy scheduler stands: the share of student text, the last loss that moved it."""

    share: float = 0.0
    loss: float | None = None

    def after(self, loss: float, *, eps: float = 0.1, step: float = 0.1) -> AdaptiveShare:
        """The state after a validation (DistiLLM, arXiv:2402.03898, sec. 3.2, as in the authors' finetune.py).

        Where the loss is at least eps above the noted one, the share grows by `step` and the loss is noted; otherwise
        the noted loss stays, so slow growth counts too. The first validation only notes its loss.
        """
        if self.loss is None:
            return self._replace(loss=loss)
        if loss >= self.loss + eps:
            return AdaptiveShare(min(1.0, round(self.share + step, 10)), loss)
        return self

    def source(self, uniform: float, done: float, *, full: bool = True) -> Source:
        """Where a step's rows come from: fresh student text below share (1 - done), the buffer below share, else rows.

        Args:
            uniform: the step's own number in [0, 1).
            done: share of all steps done.
            full: whether the buffer holds its capacity; until then what it would give is written afresh.
        """
        if not uniform < self.share:
            return "rows"
        return "fresh" if uniform < self.share * (1 - done) or not full else "replay"


def choose_source(uniform: float, share: float) -> Source:
    """GKD's coin (arXiv:2306.13649, alg. 1): student text where u <= share, as TRL has it. We toss it once a step."""
    return "fresh" if share > 0 and uniform <= share else "rows"


def distillm2_skew(
    likely: Tensor, unlikely: Tensor, anchor: float, *, base: float = 0.1, least: float = 0.01
) -> Tensor:
    """The skew of each sample: `clip(1 - (1 - base) anchor / (e^lp - e^lq + 1e-5), least, base)` (arXiv:2503.07067).

    Args:
        likely: mean log-probability of each response's tokens under whom it is of, lp: of the teacher's responses the
            teacher, of the student's the student.
        unlikely: under the other one, lq.
        anchor: what base was chosen for: mean of e^lp - e^lq on the first batch.
    """
    gap = likely.exp() - unlikely.exp() + 1e-5
    return (1 - (1 - base) * anchor / gap).clamp(least, base)


def paced_weight(rate: float, *, a: float = 1.0, b: float = 1.0) -> float:
    """`r^a (1 - r)^b`: nothing for solved and for hopeless problems (PACED, arXiv:2603.11178, from its abstract)."""
    return float(rate**a * (1 - rate) ** b)


def speculative_block(
    draft: Sequence[int], likely: Sequence[Sequence[int]], instead: int
) -> list[int]:
    """What one round of SKD keeps (arXiv:2410.11325, alg. 1).

    The draft's longest prefix of tokens that are among the teacher's likeliest at their place, then the teacher's own
    token `instead` of the first that is not; the rest of the draft is dropped.
    """
    for at, (token, best) in enumerate(zip(draft, likely, strict=True)):
        if token not in best:
            return [*draft[:at], instead]
    return list(draft)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
