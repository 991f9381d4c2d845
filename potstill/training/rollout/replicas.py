"""Replicas of the student on a Ray cluster, which write its rollouts: each has the weights that the training has now.

The student goes to a replica once without its weights; these go through Ray's object store, before what is written
with new ones. The rows of a batch are cut into as many parts as there may be replicas, and whichever is free takes one.
So what is written does not depend on how many are there or which of them die, and is what this process would write of
the same parts, bit for bit on the same kind of machine with as many threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from potstill.cluster.connect import connect
from potstill.cluster.pool import ReplicaPool, Resources
from potstill.models.local.generate import GeneratedRow, GenerationBatch, generate_batch
from potstill.training.whole_student import WholeStudent


@dataclass(frozen=True, slots=True)
class Part:
    """What a replica writes at once, and with what: the student and its weights stay in Ray's object store.

    Args:
        student: a reference to a `WholeStudent` and the weights that are not trained.
        weights: a reference to those that are trained, by name.
        version: of the weights, counted from 1.
        batch: what is written.
        bf16: whether to compute in bfloat16.
    """

    student: Any
    weights: Any
    version: int
    batch: GenerationBatch
    bf16: bool


@final
class ReplicaWriter:
    """Writes batches on replicas of the student; they start with the first batch.

    Args:
        replicas: at most so many.
        trains_all: whether all weights are trained; else those that have gradients.
        bf16: whether to compute in bfloat16.
    """

    def __init__(self, replicas: int, *, trains_all: bool, bf16: bool) -> None:
        self._replicas, self._trains_all, self._bf16 = replicas, trains_all, bf16
        self._ray = connect("training.rollout_replicas")
        threads = torch.get_num_threads()
        gpus = 1.0 if torch.cuda.is_available() else 0.0
        self._pool: ReplicaPool[Part, list[GeneratedRow]] = ReplicaPool(
            partial(_PartWriter, threads),
            replicas=replicas,
            resources=Resources(cpus=float(threads), gpus=gpus),
            name="student's replica",
        )
        self._student: Any = None
        self._weights: Any = None
        self._version = 0

    def use_weights(self, model: Any) -> None:
        """Have what is written from now on be written with the weights that the model has now."""
        trained: dict[str, Tensor] = {}
        frozen: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            is_trained = self._trains_all or parameter.requires_grad
            weights = trained if is_trained else frozen
            weights[name] = parameter.detach().cpu()
        if self._student is None:
            self._student = self._ray.put((WholeStudent(model), frozen))
        # The weights of before are freed once no replica reads them.
        self._weights = self._ray.put(trained)
        self._version += 1

    def write(self, batch: GenerationBatch) -> list[GeneratedRow]:
        """The rows of a batch, in order."""
        parts = []
        for part in split_batch(batch, self._replicas):
            parts.append(Part(self._student, self._weights, self._version, part, self._bf16))
        rows_of_parts: list[list[GeneratedRow]] = [[] for _ in parts]
        for place, rows in self._pool.map(parts):
            rows_of_parts[place] = rows
        return [row for rows in rows_of_parts for row in rows]

    def close(self) -> None:
        """End the replicas."""
        self._pool.release()


class _PartWriter:
    """In a replica: the student, with the weights of the last part."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)  # another number changes the last bits
        self._student: WholeStudent | None = None
        self._frozen: Mapping[str, Tensor] = {}
        self._weights: Mapping[str, Tensor] = {}
        self._version = 0

    def __call__(self, part: Part) -> list[GeneratedRow]:
        import ray

        if self._student is None:
            self._student, frozen = ray.get(part.student)
            self._frozen = _copy(frozen)
            if torch.cuda.is_available():
                self._student.to("cuda")
        if part.version != self._version:
            self._weights = _copy(ray.get(part.weights))
            self._version = part.version
        device = "cuda" if torch.cuda.is_available() else "cpu"
        autocast = torch.autocast(device, torch.bfloat16, enabled=part.bf16)
        with self._student.filled_with({**self._frozen, **self._weights}) as model, autocast:
            return generate_batch(model, part.batch)


def _copy(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in memory of their own: Ray's is read only, and may be aligned in a way that changes the last bits."""
    return {name: weight.clone() for name, weight in weights.items()}


def split_batch(batch: GenerationBatch, count: int) -> list[GenerationBatch]:
    """A batch's rows in at most `count` parts of about equal size, each with the prompts of its rows."""
    row_count = len(batch.prompt_of_row)
    count = min(count, row_count)
    parts = []
    for number in range(count):
        rows = range(number * row_count // count, (number + 1) * row_count // count)
        parts.append(_select_rows(batch, rows))
    return parts


def _select_rows(batch: GenerationBatch, rows: Sequence[int]) -> GenerationBatch:
    index_of: dict[int, int] = {}  # of each prompt in the part
    for row in rows:
        index_of.setdefault(batch.prompt_of_row[row], len(index_of))
    return replace(
        batch,
        prompts=[batch.prompts[prompt] for prompt in index_of],
        prompt_of_row=[index_of[batch.prompt_of_row[row]] for row in rows],
        seeds=[batch.seeds[row] for row in rows],
        max_new_tokens=[batch.max_new_tokens[row] for row in rows],
    )
