"""One training in several processes (torchrun, accelerate launch): the same batches, each process a share of the rows.

Which rows make a step doesn't depend on how many processes there are, so neither does the student, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, distributed

from potstill.errors import StageError
from potstill.training.task import Task

ROWWISE = ("distribution", "reference", "pairs")  # what an objective may need where its loss is a sum over rows


def _state() -> PartialState:
    return PartialState(cpu=not torch.cuda.is_available())  # accelerate sees processes on a CPU only if it is told


def count() -> int:
    """How many processes train."""
    return int(_state().num_processes)


def rank() -> int:
    """Which of them this is; the first one writes."""
    return int(_state().process_index)


def wait() -> None:
    """Until all processes are here."""
    _state().wait_for_everyone()


def check(task: Task, processes: int) -> None:
    """Refuse what is only done in one process."""
    own = {"rollout", "replay", "internalise", "teacher", "held", "watch"}
    found = sorted(name for name in own if getattr(task, name)) + sorted(set(task.needs) - set(ROWWISE))
    if processes > 1 and found:
        raise StageError(
            f"training started in {processes} processes, and {task.objective} comes with {', '.join(found)}",
            expected="rows, pairs or kept entries, whose loss is a sum over rows; the rest is done in one process",
            fix="run it in one process (no torchrun, no accelerate launch)",
        )


def shares(batches: Sequence[Sequence[int]], rank: int, processes: int) -> list[Sequence[int]]:
    """Of each micro-batch the rows of one process; where none is left for it, one that `idle` counts as nothing."""
    return [batch[rank::processes] or batch[:1] for batch in batches]


def idle(batch: Sequence[int], rank: int) -> bool:
    """Whether a micro-batch has too few rows for this process."""
    return rank >= len(batch)


def summed(total: Tensor) -> Tensor:
    """A number's sum over all processes."""
    if count() > 1:
        distributed.all_reduce(total)
    return total


def gathered(value: Any) -> list[Any]:
    """What each process has, in their order."""
    found = [value] * count()
    if count() > 1:
        distributed.all_gather_object(found, value)
    return found


def through(wrapped: Any, given: Tensor, loss: Callable[[], Tensor]) -> Tensor:
    """A loss computed as the forward pass of DistributedDataParallel: only then it exchanges the gradients.

    Args:
        given: a tensor of the batch, for DDP to look at.
    """
    model = wrapped.module
    before = model.__dict__.get("forward")

    def restore() -> None:
        model.__dict__.pop("forward", None)
        if before is not None:
            model.forward = before

    def once(_: Tensor) -> Tensor:
        restore()  # the loss may call the model's own
        return loss()

    model.forward = once
    try:
        made: Tensor = wrapped(given)
    finally:
        restore()
    return made
