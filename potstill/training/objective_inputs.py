"""An objective made ready: bound to its constants, the teacher loaded, the reference's values in the rows."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from potstill import objectives
from potstill.errors import StageError
from potstill.objectives.inputs import Inputs, Loss
from potstill.objectives.likelihood import sft
from potstill.training import distributed
from potstill.training.dataset import collate
from potstill.training.dataset.collate import Batch
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.logprobs import logp
from potstill.training.objective_config import ACROSS, ObjectiveConfig
from potstill.training.rollout import step_statistics
from potstill.training.schedules import Moving, When
from potstill.training.teacher.cross_tokenizer import Reader, complete, unaligned_texts
from potstill.training.teacher.projectors import Inner, Maps, compared, inner, make
from potstill.training.teacher.remote import Wire

GAMMA = 0.95  # MiniLLM's, where the config does not say
SCORED_TOGETHER = 16  # rows whose reference values are computed at once

Roll = Callable[[Any, list[Batch], When, Any], list[Batch]]


@dataclass(frozen=True, slots=True)
class ObjectiveInputs:
    """What a loop needs to know of its objective.

    Args:
        objective: of inputs alone.
        per: what the normaliser counts.
        mean: for a loss of a token, what it is averaged over.
        longest: the length that the "fixed" mean divides by.
        needs: see `objectives.Entry`.
        teacher: a model without gradients, or one behind a wire.
        reference: a model without gradients; None is the student as it starts.
        roll: replaces a step's micro-batches by what the student writes.
        packing: rows lie one after another in the models' forward passes.
        moving: the objective's constants that change from step to step.
        bf16: whether the training computes in bfloat16; the reference does the same.
        maps: trained projections between the spaces of student and teacher.
        across: how rows that the student writes are read by a teacher of another tokenizer.
    """

    objective: Callable[..., Loss]
    per: objectives.Per = "token"
    mean: Literal["token", "sequence", "fixed"] = "token"
    longest: int = 1
    needs: tuple[str, ...] = ()
    teacher: Any = None
    reference: Any = None
    roll: Roll | None = None
    packing: bool = False
    moving: Moving | None = None
    bf16: bool = False
    maps: Maps | None = None
    across: Reader | None = None

    @property
    def local(self) -> Any:
        """The teacher where it is a model of the student's tokens at hand; one behind a wire has scored the batch."""
        return (
            None
            if isinstance(self.teacher, Wire) or set(ACROSS) & set(self.needs)
            else self.teacher
        )

    def joined(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser with what else is trained."""
        return self.maps.join(optimiser) if self.maps else optimiser

    def inner(self, model: Any, batch: Batch) -> tuple[Inner, Inner] | None:
        """The student's and the teacher's inner layers, where these are compared."""
        if self.maps is None or not self.maps.layers:
            return None
        mine, theirs = zip(*self.maps.layers)
        with torch.no_grad():
            teacher = inner(self.teacher, batch, theirs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.maps.alone):
            return inner(model, batch, mine), teacher

    def completed(
        self, x: Inputs, model: Any, batch: Batch, layers: tuple[Inner, Inner] | None = None
    ) -> Inputs:
        """The inputs with a teacher of another tokenizer, layers, projections, prompts: what the objective needs."""
        if set(ACROSS) & set(self.needs):
            matched = self.across.matched if self.across and "shared" in self.needs else None
            x = complete(x, model, batch, self.teacher, matched=matched, packing=self.packing)
        if layers:
            x = compared(x, *layers, self.teacher)
        if "prompts" in self.needs:
            scores = batch["score"][:, 0] if "score" in batch else None
            x = dataclasses.replace(
                x, labels_S=batch["good"][:, 0] > 0, prompts_S=batch["item"], scores_S=scores
            )
        return dataclasses.replace(x, maps=self.maps.module) if self.maps else x

    def with_reference_values(self, model: Any, dataset: TrainingDataset) -> TrainingDataset:
        """The dataset with what the reference and a remote teacher say of its rows, where it is needed."""
        if "reference" in self.needs:
            dataset = dataset.with_column(
                "reference", self._reference_logprobs(model, dataset.item_rows)
            )
        if "mismatched" in self.needs:
            mismatched = step_statistics.mismatched_rows(dataset)
            values = distributed.shared([[row] for row in mismatched], partial(self._told, model))
            dataset = step_statistics.add_mismatched(dataset, mismatched, [v[0] for v in values])
        any_learnt = any(row.is_learnt.any() for item in dataset for row in item)
        if isinstance(self.teacher, Wire) and "logp" in self.needs and any_learnt:
            columns = distributed.shared(dataset.item_rows, partial(_scored, self.teacher))
            scored = [column for column in columns if column is not None]
            if len(scored) < len(columns):
                raise _unscored(len(columns) - len(scored), len(columns))
            dataset = dataset.with_column("teacher", scored)
        return dataset

    def _reference_logprobs(self, model: Any, rows: Sequence[TokenizedRow]) -> list[Tensor]:
        """The reference's log-probability of each counted token, one tensor [T] a row."""
        by_length = sorted(range(len(rows)), key=lambda place: len(rows[place]))  # less padding
        starts = range(0, len(rows), SCORED_TOGETHER)
        groups = [by_length[start : start + SCORED_TOGETHER] for start in starts]
        parts = [[rows[place] for place in group] for group in groups]
        logprobs: list[Any] = [None] * len(rows)
        for group, values_BT in zip(groups, distributed.shared(parts, partial(self._told, model))):
            for place, values in zip(group, values_BT):
                logprobs[place] = values[: len(rows[place])].clone()
        return logprobs

    def window(self, model: Any, window: list[Batch], when: When) -> list[Batch]:
        """A step's micro-batches, as they are or as the student writes them, with all that the objective needs."""
        if self.maps:
            self.maps.begin()
        if self.roll is not None:
            rolled = self.roll(model, window, when, self.teacher)
            window = [
                batch if collate.is_idle(batch) else self._completed(model, batch)
                for batch in rolled
            ]
            self._refuse_unread(window)
        if "mismatched" in self.needs:
            return step_statistics.with_kl(window, partial(self._valued, model))
        if "returns" in self.needs:
            gamma = (
                {"gamma": GAMMA} | getattr(self.objective, "keywords", {}) | self.constants(when)
            )["gamma"]
            return step_statistics.with_returns(
                window, partial(self._valued, model), partial(self._valued, self.teacher), gamma
            )
        return window

    def constants(self, when: When) -> dict[str, Any]:
        """The constants that move, as they are at this step."""
        return self.moving.constants(when) if self.moving else {}

    def anew(self, when: When) -> bool:
        """Whether the optimiser forgets its moments before this step; to be asked before `window`."""
        return bool(getattr(self.roll, "anew", lambda when: False)(when))

    def _completed(self, model: Any, batch: Batch) -> Batch:
        """A micro-batch of new text with the columns that rows have from the start."""
        if self.across and "theirs" not in batch:
            batch = self.across(batch)
        if "reference" in self.needs and "reference" not in batch:
            batch = {**batch, "reference": self._referred(model, batch)}
        if not isinstance(self.teacher, Wire) or "logp" not in self.needs or "teacher" in batch:
            return batch
        columns = _scored(self.teacher, collate.rows_of(batch))
        lost = torch.tensor(
            [column is None for column in columns], device=batch["input_ids"].device
        )
        told = torch.zeros_like(batch["loss_weights"])
        for at, column in enumerate(columns):
            if column is not None:
                told[at, : len(column)] = column.to(told)
        weights = batch["loss_weights"] * ~lost[:, None]
        return {
            **batch,
            "teacher": told,
            "loss_weights": weights,
            "unscored": lost[:, None].expand_as(weights).float(),
        }

    def _refuse_unread(self, window: Sequence[Batch]) -> None:
        """Refuse a step of which the teacher can read nothing: of a few texts it may not."""
        if not self.across and not isinstance(self.teacher, Wire):
            return
        marks = [batch["unscored"][:, 0] for batch in window if "unscored" in batch]
        told = distributed.gathered(
            (sum(int(mark.sum()) for mark in marks), sum(len(mark) for mark in marks))
        )
        lost, of = (sum(part) for part in zip(*told))
        if of and lost == of:
            raise unaligned_texts(of) if self.across else _unscored(lost, of)

    def _told(self, model: Any, parts: Sequence[Sequence[TokenizedRow]]) -> list[Tensor]:
        """What the reference says of rows that are computed together."""
        return [self._referred(model, collate.collate_rows(part)).cpu() for part in parts]

    def _referred(self, model: Any, batch: Batch) -> Tensor:
        """What the reference says of each counted token, [B, T]: of a student with adapters, the student without."""
        reference = self.reference or model
        with (
            reference.disable_adapter() if hasattr(reference, "disable_adapter") else nullcontext()
        ):
            return self._valued(reference, batch)

    def _valued(self, model: Any, batch: Batch) -> Tensor:
        """A model's log-probability of each counted token, [B, T], without dropout."""
        was = model.training
        model.eval()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
            made = logp(model, collate.to_device(batch, model.device))
        model.train(was)
        return made

    def counts(self, batch: Batch) -> Tensor:
        """What a micro-batch adds to the normaliser."""
        weights = batch["loss_weights"]
        if self.per == "pair":
            return torch.tensor(float(len(batch["pairs"])), device=weights.device)
        if self.per == "prompt":
            return (batch["item"].max() + 1).float()
        if self.per == "sequence" or self.mean != "token":
            sequences = (weights[:, 1:] > 0).any(1).sum().float()
            return sequences * self.longest if self.mean == "fixed" else sequences
        return weights.sum()

    def weighted(self, x: Inputs) -> Inputs:
        """The inputs with the weights of the mean."""
        if self.per != "token" or self.mean != "sequence" or x.weights_N is None:
            return x
        return dataclasses.replace(x, weights_N=x.weights_N / x.lengths()[x.groups])


SUPERVISED = ObjectiveInputs(sft)


def prepare_objective(
    config: ObjectiveConfig,
    model: Any,
    *,
    roll: Roll | None = None,
    wire: Wire | None = None,
    packing: bool = False,
    bf16: bool = False,
    across: Reader | None = None,
    seed: int = 0,
) -> ObjectiveInputs:
    """An objective made ready for a student.

    Args:
        roll: writes; None where nothing is written.
        wire: the teacher, where it is no local checkpoint.
        bf16: whether the training computes in bfloat16.
        across: of a teacher of another tokenizer.
        seed: of trained projections.
    """
    found = objectives.entry(config.objective)
    reference = frozen(config.reference, model) if config.reference else None
    if (
        reference is None
        and "reference" in config.needs
        and roll
        and not hasattr(model, "disable_adapter")
    ):
        reference = (
            copy.deepcopy(model).eval().requires_grad_(False)
        )  # new text is compared with how it began
    teacher = wire or (frozen(config.teacher, model) if config.teacher else None)
    maps = None
    if "maps" in config.needs:
        maps = make(
            config.objective,
            model,
            teacher,
            rate=config.projector_lr,
            layers=config.layers,
            filters=config.filters,
            seed=seed,
        )
    return ObjectiveInputs(
        partial(objectives.find(config.objective), **config.constants),
        found.per,
        config.loss_reduction,
        config.max_new_tokens,
        config.needs,
        teacher,
        reference,
        roll,
        packing,
        Moving(config),
        bf16,
        maps,
        across,
    )


def frozen(path: Path, like: Any) -> Any:
    """A checkpoint for forward passes only, on the student's device and in its own dtype (fp32 on a CPU)."""
    from potstill.models.local import weights
    from potstill.training.checkpoint import check_head

    model = weights.load_weights(path, weights.resolve_dtype("auto", like.device.type))
    check_head(model)
    return model.to(like.device).eval().requires_grad_(False)


def _scored(teacher: Wire, rows: Sequence[TokenizedRow]) -> list[Tensor | None]:
    """A teacher's log-probabilities as columns [T]; None for a row that it cuts into other tokens."""
    made: list[Tensor | None] = []
    for row, values in zip(rows, teacher(rows), strict=True):
        counted = row.is_learnt.nonzero()[0]
        column = torch.zeros(len(row))
        if len(counted) and len(values) == len(counted):
            column[counted] = torch.tensor(values)
        made.append(None if len(counted) and len(values) != len(counted) else column)
    return made


def _unscored(lost: int, of: int) -> StageError:
    return StageError(
        f"the teacher gave no log-probability a token for {lost} of {of} rows: it cuts them into other tokens",
        expected="the student's tokenizer and chat template behind the server",
        fix="give the teacher as a local checkpoint, or give its tokenizer: ?weights=PATH",
    )
