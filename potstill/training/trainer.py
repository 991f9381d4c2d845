"""transformers.Trainer with our batches, our objectives and our normaliser, without what costs time at 20 ms a step."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from potstill.errors import StageError
from potstill.models.model import Completion
from potstill.objectives.inputs import Loss, Sum, reduce
from potstill.records import Progress, Tokens
from potstill.training import distributed, metrics
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.teacher_view import teacher_view
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.eval_callback import Evaluator
from potstill.training.host import NO_HOST, TrainingHost, reading_request
from potstill.training.logprobs import build_inputs, head, states
from potstill.training.objective_inputs import SUPERVISED, ObjectiveInputs
from potstill.training.optimizer import make_optimizer, reset_optimizer
from potstill.training.rollout_log import ROLLOUTS_FILE, RolloutLog
from potstill.training.schedules import Stateful, When
from potstill.training.settings import TrainingSettings
from potstill.training.step_log import STEPS_FILE, StepLog
from potstill.training.whole_student import WholeStudent

FIRST_STEP = When(0, 1)
STATE_FILE = "live.pt"  # in a checkpoint: schedules, buffers, what rewards remember
COMPLETE_FILE = "complete"  # written into a checkpoint after everything else
KEPT_CHECKPOINTS = 2
DEEPSPEED_STATE = (
    "global_step"  # in a checkpoint: its folder of weights and optimizers, by the step
)


class StudentTrainer(Trainer):  # type: ignore[misc]
    """Trains an objective on tokenized rows; logits are made only where they predict a token with a loss."""

    optimizer: Any
    loss_is_scaled_for_ga = True  # `compute_loss` divides by what the whole step counts

    def __init__(
        self,
        model: nn.Module,
        dataset: TrainingDataset,
        settings: TrainingSettings,
        work_folder: Path,
        progress: Progress | None,
        *,
        objective_inputs: ObjectiveInputs = SUPERVISED,
        evaluation: Evaluator | None = None,
        decode: Callable[[list[int]], str] = str,
        host: TrainingHost = NO_HOST,
    ) -> None:
        """Plan every batch of the training and set the Trainer up without evaluation and logging of its own.

        Args:
            work_folder: for checkpoints.
            evaluation: evaluates the student from time to time.
            decode: text of tokens, for the batch that a stopped training leaves behind.
            host: the run around the training.
        """
        self.settings, self.objective_inputs = settings, objective_inputs
        self.evaluation, self.decode, self.host = evaluation, decode, host
        self.batches = batching.plan_batches(dataset.item_lengths, settings)
        self.newest_batches: list[Batch] = []
        self.newest_reported_step = 0
        self.bf16 = use_bf16(settings)
        self.step_record = StepRecord()
        step_count = batching.count_steps(self.batches, settings)
        self.whole_student: WholeStudent | None = None
        if distributed.uses_fsdp() and (evaluation or objective_inputs.asks_student_before_steps):
            self.whole_student = WholeStudent(
                model
            )  # made here: the Trainer shares the weights out
        super().__init__(
            model,
            _training_arguments(settings, work_folder, step_count),
            train_dataset=objective_inputs.with_reference_values(model, dataset),
            callbacks=[
                _ProgressAndSaving(settings, step_count, progress),
                _StepLogging(
                    StepLog(work_folder / STEPS_FILE), RolloutLog(work_folder / ROLLOUTS_FILE)
                ),
            ],
        )
        # Set here because FSDP takes no optimizer as an argument.
        self.optimizer = objective_inputs.add_projectors(make_optimizer(model, settings))
        self.remove_callback(PrinterCallback)
        self.args._n_gpu = min(1, self.args.n_gpu)  # else the Trainer wraps it in DataParallel

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's share of the planned micro-batches in their order, padded on the right."""
        dataset: Any = self.train_dataset
        own_batches: Any = distributed.split_batches(
            self.batches, self.args.process_index, self.args.world_size
        )
        return DataLoader(dataset, batch_sampler=own_batches, collate_fn=batching.collate)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one step, and what the loss is divided by: counted after the student has written."""
        planned = [batch for _, batch in zip(range(num_batches), epoch_iterator)]
        if self.evaluation and self.evaluation.is_due(self.when):
            self.step_record.values |= self._evaluate_student()
        if self.objective_inputs.resets_optimizer(self.when):
            reset_optimizer(self.optimizer)
        with self._student_to_ask() as student:
            batches = self.objective_inputs.step_batches(student, planned, self.when)
        self.newest_batches = batches
        self.step_record.values |= self.objective_inputs.rollout_statistics(self.when)

        # An idle micro-batch has no rows of this process: it counts nothing.
        with_rows = [batch for batch in batches if not batching.is_idle(batch)]
        self.step_record.add_stats(metrics.rollout_statistics(with_rows))
        counts = [torch.zeros(())]
        read_by_teacher = 0
        for batch in with_rows:
            self.step_record.tokens += int(batch["lengths"].sum())
            self.step_record.loss_tokens += int((batch["loss_weights"] > 0).sum())
            counts.append(self.objective_inputs.normaliser_count(batch).cpu())
            read_by_teacher += self.objective_inputs.teacher_readings(teacher_view(batch))
        if self.objective_inputs.local_teacher is not None:
            self._count_teacher(read_by_teacher)
        normaliser = distributed.sum_over_processes(torch.stack(counts).sum())
        return batches, normaliser.to(device)

    def _count_teacher(self, tokens: int) -> None:
        """Count what the teacher reads in this step: the student's tokens, behind a prompt of its own if it has one."""
        step = self.state.global_step
        request = reading_request(f"{step}/teacher", tokens, self.settings.seed)
        with self.host.asking([request], "teacher") as answers:
            answers.append(Completion("", tokens=Tokens(prompt=tokens)))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The objective on a micro-batch, divided by what the whole step counts."""
        causal = self.accelerator.unwrap_model(model)
        input_ids = inputs["input_ids"]  # [B, T]

        def scaled_loss() -> Tensor:
            with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.bf16):
                has_loss = bool((inputs["loss_weights"][:, 1:] > 0).any())
                if self.args.world_size > 1 and not has_loss:
                    return zero_loss(causal, input_ids)
                loss, parts = batch_loss(
                    causal, inputs, num_items_in_batch, self.objective_inputs, when=self.when
                )
            self.step_record.add_loss(loss, parts)
            return loss * self.args.world_size  # gradients are averaged over the processes

        if causal is model and not distributed.is_sharded(model):
            return scaled_loss()
        return distributed.run_as_forward(model, input_ids, scaled_loss)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The last moment before the optimizer's step: refuse to make it with a loss or gradient that is no number."""
        step = self.state.global_step + 1
        if self.args.world_size > 1:
            self.step_record.sum_over_processes()
            if self.objective_inputs.projectors:
                self.objective_inputs.projectors.share_gradients()
        if hasattr(grad_norm, "full_tensor"):  # of weights that are shared out
            grad_norm = grad_norm.full_tensor()
        loss = float(self.step_record.loss)
        norm = 0.0 if grad_norm is None else float(grad_norm)
        values = {"loss": loss, "gradient's norm": norm}
        for name, value in values.items():
            if not math.isfinite(value):
                self._stop(
                    f"the {name} is {value:g}", {"step": step, **values}, expected="a finite number"
                )

        record = self.step_record.finish(step)
        self.step_record = StepRecord()
        self.state.log_history.append(record)
        problem = metrics.find_alarm(step_records(self.state))
        if problem:
            self._stop(problem, record, expected="a training that gets somewhere")
        if self.objective_inputs.schedules:
            self.objective_inputs.schedules.advance(self.when, record)
        return grad_norm

    def train(self, resume_from_checkpoint: Any = None, **arguments: Any) -> Any:
        """Train, from a checkpoint's state if one is given, and evaluate once more at the end."""
        if resume_from_checkpoint:
            self._restore_parts(Path(resume_from_checkpoint))
        if distributed.process_rank():
            # Else dropout would drop the same places in every process's rows.
            torch.manual_seed(self.settings.seed + distributed.process_rank())
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **arguments)
        records = [record for record in self.state.log_history if is_step_record(record)]
        if self.evaluation and records:
            records[-1] |= self._evaluate_student()
        return output

    def gather_student(self, load_fresh: Callable[[], Any]) -> Any:
        """The student; where its weights are shared out, a fresh one that has them all, None but in the first process.

        All processes call this, since each holds a part of the weights.
        """
        if not distributed.is_sharded(self.model):
            return self.model
        weights = self.accelerator.get_state_dict(self.model)
        if distributed.process_rank():
            return None
        student = load_fresh()
        student.load_state_dict(weights)
        return student

    @property
    def when(self) -> When:
        """The step that is being made, from 0, of how many."""
        return When(self.state.global_step, self.state.max_steps)

    @contextmanager
    def _student_to_ask(self) -> Iterator[Any]:
        """The student for what is no training pass: rollouts, scores of rows, evaluations."""
        if self.whole_student is None:
            yield self.model
            return
        with self.whole_student.filled(self.model) as student:
            yield student

    def _evaluate_student(self) -> dict[str, float]:
        assert self.evaluation
        autocast = torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bf16)
        with autocast, self._student_to_ask() as student:
            teacher = self.objective_inputs.local_teacher
            return self.evaluation(student, teacher, self.state.global_step)

    def _stateful_parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds beside what the Trainer puts there."""
        parts: dict[str, Any] = {
            "schedules": self.objective_inputs.schedules,
            "step_rows": self.objective_inputs.step_rows,
            "projectors": self.objective_inputs.projectors,
            "self_teacher": self.objective_inputs.self_teacher,
        }
        return {name: part for name, part in parts.items() if hasattr(part, "restore")}

    def _restore_parts(self, folder: Path) -> None:
        _check_same_sharding(folder)
        states = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
        for name, part in self._stateful_parts().items():
            part.restore(states[name])

    def _stop(self, problem: str, record: Mapping[str, float], *, expected: str) -> None:
        """Stop with the step, and leave its batch where it can be looked at."""
        step = int(record["step"])
        suffix = f"-{self.args.process_index}" if self.args.process_index else ""
        folder = Path(self.args.output_dir) / f"stopped-{step}{suffix}"
        saved = metrics.save_batch(folder, self.newest_batches, record, self.decode)
        settings = self.settings
        raise StageError(
            f"{problem} at step {step} of {self.state.max_steps}",
            expected=expected,
            fix=f"lower learning_rate ({settings.learning_rate:g}), raise warmup_steps, "
            f"or lower max_grad_norm ({settings.max_grad_norm:g}); its batch: {saved}",
        )

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """The newest record to whoever reports (TensorBoard, W&B, trackio); then a checkpoint where one is due."""
        step = self.state.global_step
        # The Trainer calls this at the end of an epoch once more.
        if self.settings.report_to and step > self.newest_reported_step:
            self.newest_reported_step = step
            record = dict(self.state.log_history[-1])
            record.pop("step")
            self.callback_handler.on_log(self.args, self.state, self.control, record)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: to count them, the Trainer walks over all modules at every step."""
        return 0

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The Trainer's checkpoint, with a mark that it was written to its end; nothing of one that could not be."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            self._write_checkpoint(model, trial, folder)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _write_checkpoint(self, model: nn.Module, trial: Any, folder: Path) -> None:
        super()._save_checkpoint(model, trial)
        distributed.wait_for_all()  # each process has put its random state there
        if not self.args.should_save:
            return
        states = {name: part.state() for name, part in self._stateful_parts().items()}
        torch.save(states, folder / STATE_FILE)
        (folder / COMPLETE_FILE).touch()


class StepRecord:
    """What is measured during one step; the finished record is kept in the Trainer's state, so in its checkpoints.

    Attributes:
        loss: of the step so far.
        tokens: that went through the model, prompts included, padding not.
        loss_tokens: tokens with a loss.
        sums: a (total, count) by statistic: totals of micro-batches add up, means would not.
        values: of the evaluation before the step.
    """

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.tokens = 0
        self.loss_tokens = 0
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}
        self.values: dict[str, float] = {}
        self._started = time.perf_counter()

    def add_loss(self, loss: Tensor, parts: Loss) -> None:
        """Add a micro-batch's loss and statistics."""
        self.loss = loss.detach() + self.loss
        self.add_stats(parts.stats)

    def add_stats(self, stats: Mapping[str, Sum]) -> None:
        """Add statistics of a micro-batch, or of the whole step."""
        for name, (total, count) in stats.items():
            if name in self.sums:
                total, count = total + self.sums[name][0], count + self.sums[name][1]
            self.sums[name] = (total, count)

    def sum_over_processes(self) -> None:
        """Replace everything by its sum over all processes."""
        own_sums = {}
        for name, (total, count) in self.sums.items():
            own_sums[name] = (float(total), float(count))
        own_part = (float(self.loss), self.tokens, self.loss_tokens, own_sums)
        parts = distributed.gather_objects(own_part)

        # From nothing, the parts of all processes in their order.
        self.loss, self.tokens, self.loss_tokens, self.sums = 0.0, 0, 0, {}
        for loss, tokens, loss_tokens, sums in parts:
            self.loss += loss
            self.tokens += tokens
            self.loss_tokens += loss_tokens
            for name, (total, count) in sums.items():
                self.add_stats({name: Sum(torch.tensor(total), torch.tensor(count))})

    def finish(self, step: int) -> dict[str, float]:
        """The step's loss, tokens, means of the statistics, evaluation and seconds."""
        record: dict[str, float] = {
            "step": step,
            "loss": float(self.loss),
            "tokens": self.tokens,
            "loss_tokens": self.loss_tokens,
        }
        for name, (total, count) in self.sums.items():
            if float(count):
                record[name] = float(total / count)
        record |= self.values
        record["seconds"] = time.perf_counter() - self._started
        return record


class _ProgressAndSaving(TrainerCallback):  # type: ignore[misc]
    """Progress at every step; a checkpoint after every `save_steps` of them, and every `save_minutes`."""

    def __init__(
        self,
        settings: TrainingSettings,
        step_count: int,
        progress: Progress | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.save_steps, self.save_seconds = settings.save_steps, 60 * settings.save_minutes
        self.step_count, self.progress, self.now = step_count, progress, now
        self.saved_at = now()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved_at = self.now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        step = state.global_step
        is_due = False
        if self.save_steps > 0 and step < self.step_count:
            is_due = step % self.save_steps == 0 or self._is_time()
        control.should_save = is_due
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Behind the writing: a checkpoint that takes minutes must not make the next one due.
        self.saved_at = self.now()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress:
            self.progress("training", state.global_step, self.step_count)

    def _is_time(self) -> bool:
        """Whether the last checkpoint is too long ago, by the first process's clock: all of them write or none."""
        if not self.save_seconds:
            return False
        is_time = self.now() - self.saved_at >= self.save_seconds
        own_vote = float(is_time and distributed.process_rank() == 0)
        return bool(distributed.sum_over_processes(torch.tensor(own_vote)))


class _StepLogging(TrainerCallback):  # type: ignore[misc]
    """Each step's record goes into the working folder's `steps.jsonl` as the step ends; the first process writes.

    What is kept of evaluations is cut to the checkpoint that the training goes on from, as the steps are.
    """

    def __init__(self, step_log: StepLog, rollout_log: RolloutLog) -> None:
        self.step_log, self.rollout_log = step_log, rollout_log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.rollout_log.begin(state.global_step)
            records = self.step_log.begin(step_records(state))
            others = [record for record in state.log_history if not is_step_record(record)]
            state.log_history = [*records, *others]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.step_log.append(state.log_history[-1])  # added while the step was made


def batch_loss(
    model: Any,
    batch: Batch,
    normaliser: Tensor | float,
    objective_inputs: ObjectiveInputs = SUPERVISED,
    *,
    when: When = FIRST_STEP,
) -> tuple[Tensor, Loss]:
    """The objective's loss of a micro-batch over what the whole step counts, and its values [N] with statistics.

    Args:
        normaliser: what the step counts, all micro-batches and processes together.
    """
    layers = objective_inputs.compared_layers(model, batch)
    x = build_inputs(
        model,
        batch,
        teacher=None if layers else objective_inputs.local_teacher,
        needs=objective_inputs.needs,
        normaliser=normaliser,
        packing=objective_inputs.packing,
        hidden_ND=layers[0].last_ND if layers else None,
    )
    x = objective_inputs.complete_inputs(x, model, batch, layers)
    x = objective_inputs.with_reduction_weights(x)
    loss = objective_inputs.loss(x, **objective_inputs.constants(when))  # values [N]
    assert x.weights_N is not None
    author = "own" if "stopped" in batch else "rows"
    stats = {**loss.stats, **metrics.position_statistics(x, loss, author)}
    return reduce(loss.values_N, x.weights_N, 1.0), Loss(loss.values_N, stats)


def zero_loss(model: Any, ids_BT: Tensor) -> Tensor:
    """A loss of 0 that every weight has a part in, as the exchange of gradients wants it."""
    states_B1D = states(model, ids_BT[:1, :2])  # before the head: it may gather the head's weights
    loss: Tensor = head(model)(states_B1D).float().sum() * 0
    return loss


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that was written to its end."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE_FILE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _check_same_sharding(folder: Path) -> None:
    """Refuse a checkpoint of shared out weights or optimizers where they are whole, and the other way round."""
    before = ""
    if any(folder.glob(f"{FSDP_MODEL_NAME}*")):
        before = "FSDP"
    elif any(folder.glob(f"{DEEPSPEED_STATE}*")):
        before = "DeepSpeed"
    if before != distributed.sharding():
        way = f"with {before}" if before else f"without {distributed.sharding()}"
        raise StageError(
            f"{folder} was written by a training started {way}",
            expected="the same again",
            fix=f"go on {way}, or delete {folder.parent.parent} to begin anew",
        )


def is_step_record(record: Mapping[str, Any]) -> bool:
    """Whether a record of the Trainer's history is one of ours; its own summary is there too."""
    return "loss_tokens" in record


def step_records(state: Any) -> list[dict[str, float]]:
    """The records of all steps, those before a resume included."""
    history = json.loads(json.dumps(state.log_history))
    return [record for record in history if is_step_record(record)]


def use_bf16(settings: TrainingSettings) -> bool:
    """Whether to compute in bfloat16: as set, or on a GPU that has it."""
    if settings.bf16 is not None:
        return settings.bf16
    return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())


def _training_arguments(
    settings: TrainingSettings, work_folder: Path, step_count: int
) -> TrainingArguments:
    if settings.report_to and not find_spec(settings.report_to):
        raise StageError(
            f"training.report_to is {settings.report_to}, and {settings.report_to} is not installed",
            expected="its package in this environment",
            fix=f"pip install {settings.report_to}, or leave report_to out: steps.jsonl has the same numbers",
        )
    warmup_steps = settings.warmup_steps
    if warmup_steps < 1:  # a share of all steps
        warmup_steps *= step_count
    scheduler: str = settings.lr_scheduler_type
    if scheduler == "constant":
        scheduler = "constant_with_warmup"
    return TrainingArguments(
        output_dir=str(work_folder),
        max_steps=step_count,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=math.ceil(warmup_steps),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=KEPT_CHECKPOINTS,
        report_to=[settings.report_to] if settings.report_to else [],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        use_cpu=distributed.process_count() > 1 and not torch.cuda.is_available(),
    )
