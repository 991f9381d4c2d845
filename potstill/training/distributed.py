"""One training in several processes (torchrun, accelerate launch), on one machine or on several.

All plan the same batches, and each has a share of the rows.

Which rows make a step doesn't depend on how many processes there are, so neither does the student, but for rounding:
the rows of a micro-batch go round the processes, what is drawn for a row is drawn by its place in the whole one, and
whatever is a sum or a mean over a step is one over all processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, distributed

from potstill.errors import StageError
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings

# What an objective can't have under FSDP: its loss looks into the student, at its embeddings or layers, or has trained
# projections beside it.
FSDP_REFUSED = ("aligned", "shared", "own", "embedded", "layers", "projectors", "states")
TIMEOUT = timedelta(hours=2)  # for the slowest process: servers score rows, rewards run programs
UNSUPPORTED = ("MEGATRON_LM", "PARALLELISM_CONFIG")
# DeepSpeed's stages that leave the weights whole in each process: optimizer shared out (1), and gradients too (2).
DEEPSPEED_STAGES = ("1", "2")

T = TypeVar("T")


def join_processes() -> None:
    """Connect to the other processes, where a launcher has started several; refuse other ways of sharding."""
    refused = [name for name in UNSUPPORTED if _is_requested(name)]
    if uses_fsdp() and os.environ.get("FSDP_VERSION") != "2":
        refused.append("FSDP 1")
    if _is_requested("DEEPSPEED"):
        refused += _deepspeed_obstacles()
    if refused:
        raise StageError(
            f"training started with {refused[0]}",
            expected="data parallel processes, each with the whole model; DeepSpeed's ZeRO 1 or 2, which share out the "
            "optimizer; or FSDP2, which shares out the weights too",
            fix="torchrun, accelerate launch --multi_gpu, accelerate launch --use_deepspeed --zero_stage 2 "
            "--mixed_precision no, or accelerate launch --use_fsdp --fsdp_version 2",
        )
    # Else all processes but the first would load teachers without weights.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _connect()


def _connect() -> None:
    """Have accelerate connect the processes; on GPUs what is no tensor of theirs still goes from CPU to CPU."""
    from accelerate import PartialState

    if not torch.cuda.is_available():
        PartialState(cpu=True, timeout=TIMEOUT)  # it sees the others only if it is told
        return
    PartialState(backend="cuda:nccl,cpu:gloo", timeout=TIMEOUT)
    own_gpu = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    gpu_count = len(set(gather_objects(own_gpu)))
    if gpu_count < process_count():
        gpus = "1 GPU" if gpu_count == 1 else f"{gpu_count} GPUs"
        raise StageError(
            f"training started in {process_count()} processes, and they see {gpus}",
            expected="a GPU for each process, counted on each machine by itself",
            fix=f"torchrun --nproc-per-node {max(1, gpu_count // node_count())}, "
            "or CUDA_VISIBLE_DEVICES= to train on CPUs",
        )


def _is_requested(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def uses_fsdp() -> bool:
    """Whether the processes share out the model's weights too."""
    return _is_requested("FSDP")


def sharding() -> Literal["", "FSDP", "DeepSpeed"]:
    """By what the processes share out the optimizer, and more; "" where each has all of it."""
    if uses_fsdp():
        return "FSDP"
    return "DeepSpeed" if _is_requested("DEEPSPEED") else ""


def _deepspeed_obstacles() -> list[str]:
    """What of DeepSpeed's settings can't be had: weights that are not whole, or half the bits in its own computing."""
    obstacles = []
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none") != "none":
        obstacles.append("DeepSpeed settings from a file")
    elif stage not in DEEPSPEED_STAGES:
        obstacles.append(f"DeepSpeed's ZeRO {stage}")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":  # the training casts by itself (training.bf16), and keeps float32 weights
        obstacles.append(f"DeepSpeed in {precision}")
    return obstacles


def process_count() -> int:
    """How many processes train."""
    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_world_size())
    return 1


def node_count() -> int:
    """On how many machines they run, as the launcher says."""
    return max(1, process_count() // int(os.environ.get("LOCAL_WORLD_SIZE", process_count())))


def process_rank() -> int:
    """Which of them this is; the first one, 0, writes."""
    return int(distributed.get_rank()) if process_count() > 1 else 0


def wait_for_all() -> None:
    """Return when all processes are here."""
    gather_objects(None)


def check_supported(
    config: ObjectiveConfig, processes: int, settings: TrainingSettings | None = None
) -> None:
    """Refuse what is only done in one process and, under FSDP, what needs whole models.

    Args:
        settings: those of the training; without them FSDP is not checked.
    """
    if settings and uses_fsdp():
        _check_fsdp(config, settings)
    if settings and sharding() == "DeepSpeed":
        _check_deepspeed(config, settings)
    if processes == 1:
        return
    if not config.hooks.trains_student:
        raise StageError(
            f"training started in {processes} processes, and {config.objective} trains no student",
            expected="one process: its gradients are of the projections alone",
            fix="run it in one process (no torchrun, no accelerate launch)",
        )
    if "states" in config.needs:
        raise StageError(
            f"training started in {processes} processes, and {config.objective} compares the rows of a micro-batch",
            expected="a loss that is a sum over rows, pairs or prompts: each process has a share of a micro-batch",
            fix="run it in one process (no torchrun, no accelerate launch)",
        )


def _check_fsdp(config: ObjectiveConfig, settings: TrainingSettings) -> None:
    unsupported = sorted(set(config.needs) & set(FSDP_REFUSED))
    if config.teacher_model_kind in ("live", "ema"):  # they read the weights that are shared out
        unsupported.append(f"teacher_model_kind={config.teacher_model_kind}")
    if settings.lora:
        unsupported.append("lora")
    if config.rollout_server:
        unsupported.append("rollout_server")
    if settings.optimizer != "adamw":
        unsupported.append(settings.optimizer)
    if unsupported:
        raise StageError(
            f"training started with FSDP, and {config.objective} comes with {', '.join(unsupported)}",
            expected="a teacher of the student's tokenizer, no projections, all weights trained by adamw",
            fix="torchrun, or accelerate launch --multi_gpu: each process holds the whole model",
        )


def _check_deepspeed(config: ObjectiveConfig, settings: TrainingSettings) -> None:
    unsupported = [
        need for need in config.needs if need == "projectors"
    ]  # no part of its engine's model
    if config.rollout_server:
        unsupported.append("rollout_server")
    if settings.optimizer != "adamw":  # matrices are cut into flat pieces
        unsupported.append(settings.optimizer)
    if unsupported:
        raise StageError(
            f"training started with DeepSpeed, and {config.objective} comes with {', '.join(unsupported)}",
            expected="no projections, and weights trained by adamw",
            fix="torchrun, or accelerate launch --multi_gpu: each process holds the whole model",
        )


def split_batches(batches: Sequence[Sequence[T]], rank: int, processes: int) -> list[Sequence[T]]:
    """What one process has of each micro-batch; nothing where there are too few rows."""
    return [batch[rank::processes] for batch in batches]


def place_in_batch(place: int) -> int:
    """The place in a whole micro-batch of a row of this process's share."""
    return process_rank() + place * process_count()


def sum_over_processes(total: Tensor) -> Tensor:
    """A tensor's sum over all processes."""
    if process_count() > 1:
        distributed.all_reduce(total)
    return total


def gather_objects(value: T) -> list[T]:
    """What each process has, in their order."""
    values = [value] * process_count()
    if process_count() > 1:
        distributed.all_gather_object(values, value)
    return values


def of_first_process(value: T) -> T:
    """What the first process has."""
    return gather_objects(value)[0]


def gather_shares(share: Sequence[T]) -> list[T]:
    """The whole of what was dealt out to the processes one by one, in its order."""
    shares = gather_objects(share)
    longest = max(map(len, shares))
    whole = []
    for place in range(longest):
        for one_share in shares:
            if place < len(one_share):
                whole.append(one_share[place])
    return whole


def map_in_shares(
    items: Sequence[Any], function: Callable[[Sequence[Any]], Sequence[T]]
) -> list[T]:
    """The function's value for each item; every process computes its share and gets all."""
    return gather_shares(function(items[process_rank() :: process_count()]))


def is_sharded(model: Any) -> bool:
    """Whether FSDP has shared out a model's weights."""
    return hasattr(model, "unshard")


def run_as_forward(wrapped: Any, argument: Tensor, loss: Callable[[], Tensor]) -> Tensor:
    """A loss computed as the forward pass of a wrapped model: only then gradients are exchanged, weights gathered.

    Args:
        wrapped: by DistributedDataParallel, or by FSDP2 in place.
        argument: a tensor of the batch, for the wrapper to look at.
    """
    model = wrapped if is_sharded(wrapped) else wrapped.module
    own_forward = model.__dict__.get("forward")

    def restore() -> None:
        model.__dict__.pop("forward", None)
        if own_forward is not None:
            model.forward = own_forward

    def loss_as_forward(_: Tensor) -> Tensor:
        restore()  # the loss may call the model's own
        return loss()

    model.forward = loss_as_forward
    try:
        value: Tensor = wrapped(argument)
    finally:
        restore()
    return value
