"""A local model on replicas: `ray:transformers:PATH?replicas=4&gpus=1`, with the extra potstill[ray].

This process plans the batches, as it would for the model itself, and a batch is written by one replica alone. So a
completion depends neither on which replica wrote it nor on how many there are, and has the model's own id: a run may
go on with more of them, with fewer, or without.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

from potstill.cluster.connect import connect
from potstill.cluster.pool import LATER, Later, ReplicaPool, Resources
from potstill.errors import ModelError, PotstillWarning
from potstill.extras import require_extra
from potstill.models.answering import SCORING_BATCH, UNPLANNED_BATCH, answer_batch
from potstill.models.local.batcher import RequestBatcher
from potstill.models.model import (
    Completion,
    ComputesWithTorch,
    LoadsWeights,
    Model,
    Planned,
    Request,
    RowReport,
    Scored,
    Trainable,
)
from potstill.models.ray_spec import ReplicaSettings
from potstill.models.scoring import PassageLike, scoring_request, to_passages


def replicate(
    planner: Model, load: Callable[[], Model], settings: ReplicaSettings, *, name: str
) -> ReplicatedModel:
    """A model on replicas; it can do what the model itself can: plan, likelihood, weights, and nothing it can't.

    Args:
        planner: the model in this process, which has its id and its plans, and never loads its weights.
        load: makes it in a replica; picklable.
        settings: of the replicas.
        name: what to call the model in messages.
    """
    # A class per set of abilities, as in `store.cached_model.with_cache`.
    bases: list[type[ReplicatedModel]] = []
    if isinstance(planner, Planned):
        bases.append(_PlannedReplicas)
    if isinstance(planner, Scored):
        bases.append(_ScoredReplicas)
    if isinstance(planner, Trainable):
        bases.append(_TrainableReplicas)
    model_class: type[ReplicatedModel] = type("ReplicatedModel", (*bases, ReplicatedModel), {})
    return model_class(planner, load, settings, name=name)


def replicate_student(start: Any, folder: Path, *, threads: int, chat: str | bool) -> Model:
    """The model of a trained checkpoint; on replicas, where the model that it started from is on some.

    Args:
        start: the model that was trained, behind a store or not.
        folder: the checkpoint.
        threads: CPU threads.
        chat: see `models.local.prompt.PromptEncoder`.
    """
    start = getattr(start, "inner", start)  # of a model behind a store
    load = partial(_load_checkpoint, folder.absolute(), threads, chat)
    student = load()
    if not isinstance(start, ReplicatedModel):
        return student
    return replicate(student, load, start.settings, name=folder.name)


def _load_checkpoint(folder: Path, threads: int, chat: str | bool) -> Model:
    from potstill.models.local.transformers import TransformersModel

    return TransformersModel(folder, threads=threads, chat=chat)


class ReplicatedModel:
    """A model on replicas. Made by `replicate`; the cluster is joined, and replicas start, with the first request."""

    def __init__(
        self, planner: Model, load: Callable[[], Model], settings: ReplicaSettings, *, name: str
    ) -> None:
        """See `replicate`."""
        require_extra("ray", f"ray:{name}")
        self.settings, self._planner, self._load, self._name = settings, planner, load, name
        # Looked for in any model: how its prompts are rendered, and whether it goes on with a given text.
        self.encoder = getattr(planner, "encoder", None)
        self.continues: bool = getattr(planner, "continues", True)
        self._device, self._threads, gathers = "", settings.threads, True
        if isinstance(planner, ComputesWithTorch):
            self._device = "cuda" if settings.gpus else "cpu"
            planner.plan_for(self._device)
            gathers = planner.gathers
            if not settings.gpus:
                # Sums of floats depend on how many threads make them: as many as in this process give the same bits.
                self._threads = settings.threads or planner.threads
        # Requests of many threads form batches together, one for each replica.
        self._write_batched = self._write
        if gathers:
            self._write_batched = RequestBatcher(self._write, lanes=settings.replicas)

    def __repr__(self) -> str:
        return f"ReplicatedModel({self._name}, {self.settings})"

    @property
    def id(self) -> str:
        """The model's own id."""
        return self._planner.id

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order."""
        return self._write_batched(requests)

    def answer_batches(
        self, batches: Iterable[Sequence[Request] | None]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Answers of a batch with the batch's place, as they land; see `models.model.WritesBatches`."""
        with closing(self._pool.map(_with_later(batches))) as landed_batches:
            yield from landed_batches

    def release(self) -> None:
        """End the replicas; the next request starts them again."""
        self._pool.release()

    @cached_property
    def _pool(self) -> ReplicaPool[Sequence[Request], list[Completion]]:
        """The replicas, none of which has started yet."""
        self._warn_of_unused_gpus()
        worker = ReplicaWorker(self._load, self.id, self._device, self._threads)
        return ReplicaPool(
            worker,
            replicas=self.settings.replicas,
            resources=Resources(
                cpus=float(max(1, self._threads)),
                gpus=self.settings.gpus,
            ),
            name=f"replica of {self._name}",
        )

    def _warn_of_unused_gpus(self) -> None:
        ray = connect(f"ray:{self._name}")
        count = ray.cluster_resources().get("GPU", 0)
        if self._device == "cpu" and count:
            warnings.warn(
                f"ray:{self._name} computes on CPUs although the cluster has {count:g} GPUs: gpus=1 gives one to each "
                "replica",
                PotstillWarning,
                stacklevel=2,
            )

    def _write(
        self, requests: Sequence[Request], report: RowReport | None = None
    ) -> list[Completion]:
        if not isinstance(self._planner, Planned):
            return self._answer_in_chunks(requests, UNPLANNED_BATCH)
        plan = self._planner.plan(requests)
        return self._answer_planned(requests, plan)

    def _answer_in_chunks(self, requests: Sequence[Request], size: int) -> list[Completion]:
        """Answers of a model without a plan, or to requests to score."""
        plan = []
        for start in range(0, len(requests), size):
            plan.append(range(start, min(start + size, len(requests))))
        return self._answer_planned(requests, plan)

    def _answer_planned(
        self, requests: Sequence[Request], plan: Sequence[Sequence[int]]
    ) -> list[Completion]:
        answers: dict[int, Completion] = {}
        batches = [[requests[index] for index in indices] for indices in plan]
        for place, completions in self.answer_batches(batches):
            answers.update(zip(plan[place], completions, strict=True))
        return [answers[index] for index in range(len(requests))]


class _PlannedReplicas(ReplicatedModel):
    _planner: Planned

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """The model's own batches."""
        return self._planner.plan(requests)


class _ScoredReplicas(ReplicatedModel):
    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Natural-log probabilities of each token of the texts, one list a passage; empty where there is none."""
        requests = [scoring_request(passage) for passage in to_passages(passages)]
        return [list(answer.logprobs) for answer in self._answer_in_chunks(requests, SCORING_BATCH)]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """The same as answers to requests to score."""
        return self._answer_in_chunks(requests, SCORING_BATCH)


class _TrainableReplicas(ReplicatedModel):
    _planner: Trainable

    @property
    def weights(self) -> Path:
        """The checkpoint folder, which every node sees under this path."""
        return self._planner.weights


@final
@dataclass(frozen=True, slots=True)
class ReplicaWorker:
    """Makes the worker of a replica, in the replica; picklable.

    Args:
        load: makes the model.
        model_id: that it must have.
        device: that it must compute on; "" is any.
        threads: CPU threads of torch; 0 leaves them as they are.
    """

    load: Callable[[], Model]
    model_id: str
    device: str
    threads: int

    def __call__(self) -> Callable[[Sequence[Request]], list[Completion]]:
        """The function that answers batches, with its weights loaded."""
        model = self.load()
        self._check(model)
        if isinstance(model, LoadsWeights):
            model.load()
        if self.threads and isinstance(model, ComputesWithTorch):
            import torch

            # After the loading, which may set another number.
            torch.set_num_threads(self.threads)
        return partial(answer_batch, model)

    def _check(self, model: Model) -> None:
        """Refuse another model than the one that the driver plans for, or another device."""
        host = socket.gethostname()
        if model.id != self.model_id:
            raise ModelError(
                f"{host} of the cluster has another model at the same place: {model.id}, not {self.model_id}",
                expected="the same files on every node",
                fix="put the checkpoint on a file system that all nodes share",
            )
        if isinstance(model, ComputesWithTorch) and self.device and model.device != self.device:
            raise ModelError(
                f"{host} of the cluster would compute on {model.device}, not on {self.device}",
                expected="a node whose torch sees the GPUs that Ray gives it",
                fix="install torch for CUDA there, or leave gpus= out",
            )


def _with_later(
    batches: Iterable[Sequence[Request] | None],
) -> Iterator[Sequence[Request] | Later]:
    for batch in batches:
        yield LATER if batch is None else batch
