"""One training in several processes (torchrun, accelerate launch): the same batches, each process a share of the rows.

Which rows make a step doesn't depend on how many processes there are, so neither does the student, but for rounding:
the rows of a micro-batch go round the processes, what is drawn for a row is drawn by its place in the whole one, and
whatever is a sum or a mean over a step is one over all processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from potstill.errors import StageError
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings

SHARDED = (
    "distribution",
    "logp",
    "reference",
    "pairs",
    "labels",
    "prompts",
)  # asks a model once, in its forward pass
PATIENCE = timedelta(
    hours=2
)  # with the slowest process: servers score its rows, rewards run programs

T = TypeVar("T")
_NONE: Any = object()


def begin() -> None:
    """Meet the other processes, where a launcher has started several; refuse ways to share out weights but FSDP2."""
    known = {name: _asked(name) for name in ("DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")}
    known["FSDP 1"] = shards() and os.environ.get("FSDP_VERSION") != "2"
    for name in (name for name, asked in known.items() if asked):
        raise StageError(
            f"training started with {name}",
            expected="data parallel processes, each with the whole model, or FSDP2, which shares out the weights",
            fix="torchrun, accelerate launch --multi_gpu, or accelerate launch --use_fsdp --fsdp_version 2",
        )
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = (
        "false"  # else all but the first load teachers without weights
    )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _meet()


def _meet() -> None:
    """Have accelerate connect the processes; on GPUs what is no tensor of theirs still goes from CPU to CPU."""
    from accelerate import PartialState

    if not torch.cuda.is_available():
        PartialState(cpu=True, timeout=PATIENCE)  # it sees the others only if it is told
        return
    PartialState(backend="cuda:nccl,cpu:gloo", timeout=PATIENCE)
    own = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    there = len(set(gathered(own)))
    if there < count():
        raise StageError(
            f"training started in {count()} processes, and they see {there} GPU{'s' * (there > 1)}",
            expected="a GPU for each process",
            fix=f"torchrun --nproc-per-node {there}, or CUDA_VISIBLE_DEVICES= to train on CPUs",
        )


def _asked(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def shards() -> bool:
    """Whether weights are to be shared out too."""
    return _asked("FSDP")


def count() -> int:
    """How many processes train."""
    return (
        distributed.get_world_size()
        if distributed.is_available() and distributed.is_initialized()
        else 1
    )


def rank() -> int:
    """Which of them this is; the first one writes."""
    return distributed.get_rank() if count() > 1 else 0


def wait() -> None:
    """Until all processes are here."""
    gathered(None)


def check(
    config: ObjectiveConfig, processes: int, settings: TrainingSettings | None = None
) -> None:
    """Refuse what is only done in one process, or by whole models, if the settings are of shared out ones."""
    if settings and shards():
        own = [
            name
            for name in ("on_policy_fraction", "replay_buffer_size", "eval_rows", "eval_steps")
            if getattr(config, name)
        ]
        own += sorted(set(config.needs) - set(SHARDED)) + ["lora"] * bool(settings.lora)
        own += [settings.optimizer] * (settings.optimizer != "adamw")
        if own:
            raise StageError(
                f"training started with FSDP, and {config.objective} comes with {', '.join(own)}",
                expected="rows, pairs, a local teacher or cached teacher logits, all weights trained by adamw",
                fix="torchrun, or accelerate launch --multi_gpu: each process holds the whole model",
            )
    if processes > 1 and not config.hooks.trains_student:
        raise StageError(
            f"training started in {processes} processes, and {config.objective} trains no student",
            expected="one process: its gradients are of the projections alone",
            fix="run it in one process (no torchrun, no accelerate launch)",
        )
    if processes > 1 and "states" in config.needs:
        raise StageError(
            f"training started in {processes} processes, and {config.objective} compares the rows of a micro-batch",
            expected="a loss that is a sum over rows, pairs or prompts: each process has a share of a micro-batch",
            fix="run it in one process (no torchrun, no accelerate launch)",
        )


def shares(batches: Sequence[Sequence[T]], rank: int, processes: int) -> list[Sequence[T]]:
    """Of each micro-batch what one process has; nothing where there are too few rows."""
    return [batch[rank::processes] for batch in batches]


def place(at: int) -> int:
    """The place in a whole micro-batch of a row of this process's share."""
    return rank() + at * count()


def summed(total: Tensor) -> Tensor:
    """A tensor's sum over all processes."""
    if count() > 1:
        distributed.all_reduce(total)
    return total


def gathered(value: T) -> list[T]:
    """What each process has, in their order."""
    found = [value] * count()
    if count() > 1:
        distributed.all_gather_object(found, value)
    return found


def together(share: Sequence[T]) -> list[T]:
    """The whole of what was shared out, in its order."""
    return [
        one for one in chain(*zip_longest(*gathered(share), fillvalue=_NONE)) if one is not _NONE
    ]


def shared(things: Sequence[Any], made: Callable[[Sequence[Any]], Sequence[T]]) -> list[T]:
    """What is made of each thing; every process makes its share and gets all."""
    return together(made(things[rank() :: count()]))


def sharded(model: Any) -> bool:
    """Whether FSDP has shared out a model's weights."""
    return hasattr(model, "unshard")


def through(wrapped: Any, given: Tensor, loss: Callable[[], Tensor]) -> Tensor:
    """A loss computed as the forward pass of a wrapped model: only then gradients are exchanged, weights gathered.

    Args:
        wrapped: by DistributedDataParallel, or by FSDP2 in place.
        given: a tensor of the batch, for the wrapper to look at.
    """
    model = wrapped if sharded(wrapped) else wrapped.module
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
