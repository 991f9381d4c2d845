"""An objective made ready: bound to its constants, its teacher loaded, the reference's values in the rows."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
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
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.teacher_view import teacher_row, teacher_view, to_student_places
from potstill.training.dataset.training_dataset import TokenizedRow, TrainingDataset
from potstill.training.logprobs import batch_log_probs
from potstill.training.objective_config import OTHER_TOKENIZER_NEEDS, ObjectiveConfig
from potstill.training.rollout import step_statistics
from potstill.training.schedules import ConstantSchedules, When
from potstill.training.teacher.cross_tokenizer import (
    CrossTokenizerReader,
    unaligned_texts,
    with_other_tokenizer,
)
from potstill.training.teacher.projectors import (
    LayerStates,
    TrainedProjectors,
    layer_states,
    make_projectors,
    with_layers,
)
from potstill.training.teacher.remote import ServedTeacher
from potstill.training.teacher.row_teachers import RowTeachers
from potstill.training.teacher.self_teacher import SelfTeacher
from potstill.training.teacher.several import SeveralTeachers
from potstill.training.teacher.top_k_columns import (
    TOP_K_COLUMNS,
    TopKTeacher,
    batch_with_entries,
    rows_with_entries,
)

SCORING_BATCH = 16  # rows whose reference values are computed at once

# Replaces a step's micro-batches: (student, micro-batches, step, teacher) to micro-batches.
StepRows = Callable[[Any, list[Batch], When, Any], list[Batch]]


@dataclass(frozen=True, slots=True)
class ObjectiveInputs:
    """What a training loop needs to know of its objective, and the inputs that it makes for it.

    Args:
        loss: of inputs alone.
        normaliser: what the loss is averaged over.
        loss_reduction: for a loss of a token, which mean.
        max_new_tokens: the length that the "fixed" mean divides by.
        needs: see `objectives.Objective`.
        teacher: a model without gradients, or one on a server.
        reference: a model without gradients; None is the student as it starts.
        step_rows: replaces a step's micro-batches, by rollouts for instance.
        packing: rows lie one after another in the models' forward passes.
        schedules: the constants that change from step to step.
        bf16: whether the training computes in bfloat16; the reference does the same.
        projectors: trained projections between the spaces of student and teacher.
        cross_tokenizer: how rows that the student writes are read by a teacher of another tokenizer.
        returns: the objective's returns of a step's rewards (`Hooks.step_returns`).
        base_constants: the constants where no schedule moves them.
    """

    loss: Callable[..., Loss]
    normaliser: objectives.Normaliser = "token"
    loss_reduction: Literal["token", "sequence", "fixed"] = "token"
    max_new_tokens: int = 1
    needs: tuple[str, ...] = ()
    teacher: Any = None
    reference: Any = None
    step_rows: StepRows | None = None
    packing: bool = False
    schedules: ConstantSchedules | None = None
    bf16: bool = False
    projectors: TrainedProjectors | None = None
    cross_tokenizer: CrossTokenizerReader | None = None
    returns: Callable[..., Tensor] | None = None
    base_constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _teacher_has_other_tokens(self) -> bool:
        return bool(set(OTHER_TOKENIZER_NEEDS) & set(self.needs))

    @property
    def self_teacher(self) -> SelfTeacher | None:
        """The student as its own teacher."""
        return self.teacher if isinstance(self.teacher, SelfTeacher) else None

    @property
    def local_teacher(self) -> Any:
        """The teacher where it is a model of the student's tokens at hand; a server has scored the batch before."""
        if isinstance(self.teacher, ServedTeacher) or self._teacher_has_other_tokens:
            return None
        return self.teacher

    @property
    def asks_student_before_steps(self) -> bool:
        """Whether `step_batches` asks the student something: what it writes, or how likely a text is."""
        return self.step_rows is not None or bool({"mismatched", "returns"} & set(self.needs))

    def teacher_readings(self, view: Batch) -> int:
        """How many tokens of a micro-batch the teacher reads; several teachers may read the same."""
        if isinstance(self.teacher, SeveralTeachers):
            return self.teacher.readings(view)
        return int(view["lengths"].sum())

    def add_projectors(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer with the trained projections."""
        return self.projectors.add_to(optimizer) if self.projectors else optimizer

    def constants(self, when: When) -> dict[str, Any]:
        """The constants that move, as they are at this step."""
        return self.schedules.constants(when) if self.schedules else {}

    def resets_optimizer(self, when: When) -> bool:
        """Whether the optimizer forgets its moments before this step; to be asked before `step_batches`."""
        ask = getattr(self.step_rows, "resets_optimizer", None)
        return ask is not None and ask(when)

    def rollout_statistics(self, when: When) -> dict[str, float]:
        """What the rollouts say of a step as a whole, such as how many prompts a difficulty pool has."""
        ask = getattr(self.step_rows, "statistics", None)
        values: dict[str, float] = {} if ask is None else ask(when)
        return values

    # Before the training: rows as tensors.

    def with_reference_values(self, model: Any, dataset: TrainingDataset) -> TrainingDataset:
        """The dataset with what the reference and a remote teacher say of its rows, where it is needed."""
        if "reference" in self.needs:
            log_probs = self._reference_of_rows(model, dataset.item_rows)
            dataset = dataset.with_column("reference", log_probs)
        if "mismatched" in self.needs:
            mismatched = step_statistics.mismatched_rows(dataset)
            parts = [[row] for row in mismatched]  # each is scored alone
            columns = distributed.map_in_shares(parts, partial(self._score_parts, model))
            of_rows = [column_BT[0] for column_BT in columns]
            dataset = step_statistics.add_mismatched(dataset, mismatched, of_rows)
        if isinstance(self.teacher, ServedTeacher):
            # Prompts alone, of which nothing is learnt, are scored once the student has written.
            rows = dataset.item_rows
            if any(row.is_learnt.any() for row in rows):
                dataset = self._with_served_teacher(dataset, rows)
        return dataset

    def _with_served_teacher(
        self, dataset: TrainingDataset, rows: Sequence[TokenizedRow]
    ) -> TrainingDataset:
        """The dataset with what a server's teacher says of its rows: of each token, or its likeliest tokens."""
        if "logp" in self.needs:
            dataset = dataset.with_column("teacher", self._remote_scores(rows))
        if "distribution" in self.needs:
            with_top_k = distributed.map_in_shares(rows, partial(rows_with_entries, self.teacher))
            unscored = sum(not row.columns for row in with_top_k)
            if unscored:
                raise _unscored(unscored, len(with_top_k))
            for name in TOP_K_COLUMNS:
                dataset = dataset.with_column(name, [row.columns[name] for row in with_top_k])
        return dataset

    def _reference_of_rows(self, model: Any, rows: Sequence[TokenizedRow]) -> list[Tensor]:
        """The reference's log-probability of each counted token, one tensor [T] a row."""
        # Rows of about one length are computed together, for less padding.
        by_length = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        groups, parts = [], []
        for start in range(0, len(rows), SCORING_BATCH):
            group = by_length[start : start + SCORING_BATCH]
            groups.append(group)
            parts.append([rows[number] for number in group])
        columns = distributed.map_in_shares(parts, partial(self._score_parts, model))

        # Back to the order of the rows, without the padding.
        log_probs: list[Any] = [None] * len(rows)
        for group, column_BT in zip(groups, columns):
            for number, values in zip(group, column_BT):
                log_probs[number] = values[: len(rows[number])].clone()
        return log_probs

    def _remote_scores(self, rows: Sequence[TokenizedRow]) -> list[Tensor]:
        read_rows = [teacher_row(row) for row in rows]
        columns = distributed.map_in_shares(read_rows, partial(_remote_columns, self.teacher))
        scored = []
        for row, read_row, column in zip(rows, read_rows, columns, strict=True):
            if column is not None:
                of_row = torch.zeros(len(row))
                of_row[row.is_learnt.nonzero()[0]] = column[read_row.is_learnt.nonzero()[0]]
                scored.append(of_row)
        if len(scored) < len(columns):
            raise _unscored(len(columns) - len(scored), len(columns))
        return scored

    def _score_parts(self, model: Any, parts: Sequence[Sequence[TokenizedRow]]) -> list[Tensor]:
        """The reference's log-probabilities of rows that are computed together, a column [B, T] a part."""
        return [
            self._reference_log_probs(model, batching.collate_rows(part)).cpu() for part in parts
        ]

    # At each step: the micro-batches.

    def step_batches(self, model: Any, window: list[Batch], when: When) -> list[Batch]:
        """A step's micro-batches, as they are or as the student writes them, with all that the objective needs."""
        if self.self_teacher is not None:
            self.self_teacher.update(when.step)
        if self.projectors:
            self.projectors.zero_grad()
        if self.step_rows is not None:
            rolled = self.step_rows(model, window, when, self.teacher)
            window = []
            for batch in rolled:
                if not batching.is_idle(batch):
                    batch = self._complete_batch(model, batch)
                window.append(batch)
            self._refuse_unread(window)

        # What is a mean over the whole step is made here, before it is cut.
        student = partial(self._log_probs, model)
        if "mismatched" in self.needs:
            return step_statistics.with_mismatched_kl(window, student)
        if "returns" in self.needs:
            assert self.returns is not None
            constants = {**self.base_constants, **self.constants(when)}
            returns = partial(self.returns, constants=constants)
            teacher = self._teacher_log_probs
            return step_statistics.with_whitened_returns(window, student, teacher, returns)
        return window

    def _complete_batch(self, model: Any, batch: Batch) -> Batch:
        """A micro-batch of new text with the columns that rows have from the start."""
        if self.cross_tokenizer and "theirs" not in batch:
            batch = self.cross_tokenizer(batch)
        if "reference" in self.needs and "reference" not in batch:
            batch = {**batch, "reference": self._reference_log_probs(model, batch)}
        if not isinstance(self.teacher, ServedTeacher):
            return batch
        if "distribution" in self.needs and "cached_ids" not in batch:
            assert isinstance(self.teacher, TopKTeacher)
            batch = batch_with_entries(self.teacher, batch)
        if "logp" in self.needs and "teacher" not in batch:
            batch = self._with_remote_scores(batch)
        return batch

    def _with_remote_scores(self, batch: Batch) -> Batch:
        """The micro-batch with the remote teacher's log-probabilities; a row without any is not learnt."""
        view = teacher_view(batch)
        columns = _remote_columns(self.teacher, batching.rows_of(view))
        is_unscored_B = torch.tensor(
            [column is None for column in columns], device=batch["input_ids"].device
        )
        log_probs_BW = torch.zeros_like(view["loss_weights"])
        for index, column in enumerate(columns):
            if column is not None:
                log_probs_BW[index, : len(column)] = column.to(log_probs_BW)
        log_probs_BT = (
            log_probs_BW if view is batch else to_student_places(log_probs_BW, view, batch)
        )
        return {
            **batch,
            "teacher": log_probs_BT,
            "loss_weights": batch["loss_weights"] * ~is_unscored_B[:, None],
            "unscored": is_unscored_B[:, None].expand_as(log_probs_BT).float(),
        }

    def _refuse_unread(self, window: Sequence[Batch]) -> None:
        """Refuse a step of which the teacher can read nothing: of a few texts it may not."""
        if not self.cross_tokenizer and not isinstance(self.teacher, ServedTeacher):
            return
        marks = [batch["unscored"][:, 0] for batch in window if "unscored" in batch]
        own_counts = sum(int(mark.sum()) for mark in marks), sum(len(mark) for mark in marks)
        lost, total = (sum(part) for part in zip(*distributed.gather_objects(own_counts)))
        if total and lost == total:
            raise unaligned_texts(total) if self.cross_tokenizer else _unscored(lost, total)

    def _teacher_log_probs(self, batch: Batch) -> Tensor:
        """The teacher's log-probability of each counted token, [B, T], behind its own prompt where it has one."""
        view = teacher_view(batch)
        if self.self_teacher is None:
            column_BW = self._log_probs(self.teacher, view)
        else:
            with self.self_teacher.reading() as teacher:
                column_BW = self._log_probs(teacher, view)
        return column_BW if view is batch else to_student_places(column_BW, view, batch)

    def _reference_log_probs(self, model: Any, batch: Batch) -> Tensor:
        """The reference's log-probability of each counted token, [B, T]: a student with adapters switches them off."""
        reference = self.reference or model
        without_adapters = getattr(reference, "disable_adapter", nullcontext)
        with without_adapters():
            return self._log_probs(reference, batch)

    def _log_probs(self, model: Any, batch: Batch) -> Tensor:
        """A model's log-probability of each counted token, [B, T], without dropout."""
        was_training = model.training
        model.eval()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
            log_probs_BT = batch_log_probs(model, batching.to_device(batch, model.device))
        model.train(was_training)
        return log_probs_BT

    # At each micro-batch: the inputs of the loss.

    def compared_layers(self, model: Any, batch: Batch) -> tuple[LayerStates, LayerStates] | None:
        """The student's and the teacher's inner layers, where these are compared."""
        projectors = self.projectors
        if projectors is None or not projectors.layer_pairs:
            return None
        student_layers, teacher_layers = zip(*projectors.layer_pairs)
        with torch.no_grad():
            teacher = layer_states(self.teacher, batch, teacher_layers)
        with torch.set_grad_enabled(torch.is_grad_enabled() and projectors.trains_student):
            return layer_states(model, batch, student_layers), teacher

    def complete_inputs(
        self,
        x: Inputs,
        model: Any,
        batch: Batch,
        layers: tuple[LayerStates, LayerStates] | None = None,
    ) -> Inputs:
        """The inputs with a teacher of another tokenizer, layers, projections, prompts: what the objective needs."""
        if self._teacher_has_other_tokens:
            matched = None
            if self.cross_tokenizer and "shared" in self.needs:
                matched = self.cross_tokenizer.matched
            x = with_other_tokenizer(
                x, model, batch, self.teacher, matched=matched, packing=self.packing
            )
        if layers:
            x = with_layers(x, *layers, self.teacher)
        if "prompts" in self.needs:
            x = dataclasses.replace(
                x,
                labels_S=batch["good"][:, 0] > 0,
                prompts_S=batch["item"],
                scores_S=batch["score"][:, 0] if "score" in batch else None,
            )
        if self.projectors:
            x = dataclasses.replace(x, projectors=self.projectors.module)
        return x

    def normaliser_count(self, batch: Batch) -> Tensor:
        """What a micro-batch adds to the normaliser."""
        weights_BT = batch["loss_weights"]
        if self.normaliser == "pair":
            return torch.tensor(float(len(batch["pairs"])), device=weights_BT.device)
        if self.normaliser == "prompt":
            return (batch["item"].max() + 1).float()
        if self.normaliser == "sequence" or self.loss_reduction != "token":
            has_loss_B = (weights_BT[:, 1:] > 0).any(1)
            sequences = has_loss_B.sum().float()
            if self.loss_reduction == "fixed":
                return sequences * self.max_new_tokens
            return sequences
        return weights_BT.sum()

    def with_reduction_weights(self, x: Inputs) -> Inputs:
        """The inputs with the weights of the mean over sequences, where that is the reduction."""
        is_sequence_mean = self.normaliser == "token" and self.loss_reduction == "sequence"
        if not is_sequence_mean or x.weights_N is None:
            return x
        return dataclasses.replace(x, weights_N=x.weights_N / x.lengths()[x.groups])


SUPERVISED = ObjectiveInputs(sft)


def prepare_objective(
    config: ObjectiveConfig,
    model: Any,
    *,
    step_rows: StepRows | None = None,
    served_teacher: ServedTeacher | None = None,
    row_teachers: RowTeachers | None = None,
    packing: bool = False,
    bf16: bool = False,
    cross_tokenizer: CrossTokenizerReader | None = None,
    seed: int = 0,
) -> ObjectiveInputs:
    """An objective made ready for a student.

    Args:
        step_rows: replaces a step's rows; None where they stay as they are.
        served_teacher: the teacher, where it is no local checkpoint, or tells its likeliest tokens alone.
        row_teachers: whose rows are whose, of several teachers.
        bf16: whether the training computes in bfloat16.
        cross_tokenizer: of a teacher of another tokenizer.
        seed: of trained projections.
    """
    reference = load_frozen(config.reference, model) if config.reference else None
    has_adapters = hasattr(model, "disable_adapter")
    if reference is None and "reference" in config.needs and step_rows and not has_adapters:
        # New text is compared with the student as it began, so a copy of that stays at hand.
        reference = copy.deepcopy(model).eval().requires_grad_(False)
    teacher: Any = served_teacher
    if teacher is None and config.teacher:
        teacher = load_frozen(config.teacher, model)
    if teacher is None and config.teachers:
        assert row_teachers is not None
        loaded = {name: load_frozen(path, model) for name, path in config.teachers.items()}
        teacher = SeveralTeachers(loaded, row_teachers)
    if config.teacher_model_kind:
        teacher = SelfTeacher(
            model,
            config.teacher_model_kind,
            update_rate=config.teacher_update_rate,
            sync_steps=config.teacher_sync_steps,
        )
    projectors = None
    if "projectors" in config.needs:
        projectors = make_projectors(config, model, teacher, seed=seed)
    return ObjectiveInputs(
        partial(objectives.find(config.objective), **config.constants),
        normaliser=objectives.entry(config.objective).normaliser,
        loss_reduction=config.loss_reduction,
        max_new_tokens=config.max_new_tokens,
        needs=config.needs,
        teacher=teacher,
        reference=reference,
        step_rows=step_rows,
        packing=packing,
        schedules=ConstantSchedules(config),
        bf16=bf16,
        projectors=projectors,
        cross_tokenizer=cross_tokenizer,
        returns=config.hooks.step_returns,
        base_constants={**objectives.constants(config.objective), **config.constants},
    )


def load_frozen(path: Path, like: Any) -> Any:
    """A checkpoint for forward passes only, on the student's device and in its own dtype (fp32 on a CPU)."""
    from potstill.models.local import weights
    from potstill.training.checkpoint import check_output_head

    model = weights.load_weights(path, weights.resolve_dtype("auto", like.device.type))
    check_output_head(model)
    return weights.move_to_device(model, like.device).eval().requires_grad_(False)


def _remote_columns(teacher: ServedTeacher, rows: Sequence[TokenizedRow]) -> list[Tensor | None]:
    """A teacher's log-probabilities as columns [T]; None for a row that it cuts into other tokens."""
    columns: list[Tensor | None] = []
    for row, log_probs in zip(rows, teacher(rows), strict=True):
        counted = row.is_learnt.nonzero()[0]
        if len(counted) and len(log_probs) != len(counted):
            columns.append(None)
            continue
        column = torch.zeros(len(row))
        if len(counted):
            column[counted] = torch.tensor(log_probs)
        columns.append(column)
    return columns


def _unscored(lost: int, total: int) -> StageError:
    return StageError(
        f"the teacher gave no log-probability a token for {lost} of {total} rows: it cuts them into other tokens",
        expected="the student's tokenizer and chat template on the server",
        fix="give the teacher as a local checkpoint, or give its tokenizer: ?weights=PATH",
    )
