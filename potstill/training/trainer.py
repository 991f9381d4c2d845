"""transformers.Trainer with our batches, our objectives and our normaliser, without what costs time at 20 ms a step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from potstill.errors import StageError
from potstill.objectives.inputs import Loss, Sum, reduce
from potstill.records import Progress
from potstill.training import distributed, metrics, optimizer
from potstill.training.dataset import collate, sampler
from potstill.training.dataset.collate import Batch
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.eval_callback import Evaluator
from potstill.training.logprobs import build_inputs, head, states
from potstill.training.objective_inputs import SUPERVISED, ObjectiveInputs
from potstill.training.schedules import Stateful, When
from potstill.training.settings import TrainingSettings

FIRST = When(0, 1)
LIVE = "live.pt"  # in a checkpoint: schedules, buffers, what rewards remember
COMPLETE = "complete"  # written into a checkpoint after everything else


class Loop(Trainer):  # type: ignore[misc]
    """An objective on pre-tokenised rows; logits only at positions that predict a counted token."""

    optimizer: Any
    loss_is_scaled_for_ga = (
        True  # `compute_loss` divides by what the whole accumulation window counts
    )

    def __init__(
        self,
        model: nn.Module,
        dataset: TrainingDataset,
        settings: TrainingSettings,
        folder: Path,
        progress: Progress | None,
        *,
        objective_inputs: ObjectiveInputs = SUPERVISED,
        watch: Evaluator | None = None,
        text: Callable[[list[int]], str] = str,
    ) -> None:
        """Plan every batch of the training and set the Trainer up without evaluation and without logging of its own.

        Args:
            watch: looks at the student from time to time.
            text: of tokens, for the batch that a stopped training leaves behind.
        """
        self.batches = sampler.plan_batches(dataset.item_lengths, settings)
        self.settings, self.objective_inputs, self.watch, self.text = (
            settings,
            objective_inputs,
            watch,
            text,
        )
        self.newest: list[Batch] = []
        self.reported = 0
        self.bf16 = use_bf16(settings)
        self.seen = Seen()
        total = sampler.count_steps(self.batches, settings)
        super().__init__(
            model,
            _arguments(settings, folder, total),
            train_dataset=objective_inputs.with_reference_values(model, dataset),
            callbacks=[_Steps(settings.save_steps, total, progress)],
        )
        self.optimizer = objective_inputs.add_projectors(
            optimizer.make_optimizer(model, settings)
        )  # FSDP takes none as an argument
        self.remove_callback(PrinterCallback)
        self.args._n_gpu = min(
            1, self.args.n_gpu
        )  # else the Trainer wraps the model in DataParallel

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's rows of the planned micro-batches in their order, padded on the right."""
        data: Any = self.train_dataset
        mine: Any = distributed.shares(self.batches, self.args.process_index, self.args.world_size)
        return DataLoader(data, batch_sampler=mine, collate_fn=collate.collate)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one step, and what the loss is divided by: counted after the student has written."""
        window = [batch for _, batch in zip(range(num_batches), epoch_iterator)]
        if self.watch and self.watch.is_due(self.when):
            self.seen.more |= self._look()
        if self.objective_inputs.resets_optimizer(self.when):
            optimizer.reset_optimizer(self.optimizer)
        window = self.newest = self.objective_inputs.step_batches(self.model, window, self.when)
        mine = [batch for batch in window if not collate.is_idle(batch)]
        self.seen.put(metrics.rollout_statistics(mine))
        self.seen.tokens += sum(int(batch["lengths"].sum()) for batch in mine)
        self.seen.counted += sum(int((batch["loss_weights"] > 0).sum()) for batch in mine)
        counts = [
            torch.zeros(()),
            *(self.objective_inputs.normaliser_count(batch).cpu() for batch in mine),
        ]
        return window, distributed.summed(torch.stack(counts).sum()).to(device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The objective on a micro-batch, over what the whole window counts."""
        causal = self.accelerator.unwrap_model(model)

        def made() -> Tensor:
            with torch.autocast(inputs["input_ids"].device.type, torch.bfloat16, enabled=self.bf16):
                if self.args.world_size > 1 and not bool((inputs["loss_weights"][:, 1:] > 0).any()):
                    return nothing(causal, inputs["input_ids"])
                loss, found = window_loss(
                    causal, inputs, num_items_in_batch, self.objective_inputs, when=self.when
                )
            self.seen.add(loss, found)
            return loss * self.args.world_size  # gradients are averaged over the processes

        alone = causal is model and not distributed.sharded(model)
        return made() if alone else distributed.through(model, inputs["input_ids"], made)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The last moment before the optimizer's step: refuse to make it with a loss or gradient that is no number."""
        step = self.state.global_step + 1
        if self.args.world_size > 1:
            self.seen.join()
            if self.objective_inputs.projectors:
                self.objective_inputs.projectors.share_gradients()
        grad_norm = getattr(grad_norm, "full_tensor", lambda: grad_norm)()
        found = {
            "loss": float(self.seen.loss),
            "gradient's norm": 0.0 if grad_norm is None else float(grad_norm),
        }
        for what, value in found.items():
            if not math.isfinite(value):
                self._stop(f"the {what} is {value:g}", {"step": step, **found}, "a finite number")
        self.state.log_history.append(self.seen.record(step, found["loss"]))
        wrong = metrics.find_alarm(history(self.state))
        if wrong:
            self._stop(wrong, self.state.log_history[-1], "a training that gets somewhere")
        if self.objective_inputs.schedules:
            self.objective_inputs.schedules.advance(self.when, self.state.log_history[-1])
        return grad_norm

    def train(self, resume_from_checkpoint: Any = None, **more: Any) -> Any:
        """Train, from a checkpoint's state if one is given, and look once more at the end."""
        if resume_from_checkpoint:
            _as_begun(Path(resume_from_checkpoint))
            kept = torch.load(
                Path(resume_from_checkpoint) / LIVE, map_location="cpu", weights_only=True
            )
            for name, part in self._live().items():
                part.restore(kept[name])
        if distributed.rank():
            torch.manual_seed(
                self.settings.seed + distributed.rank()
            )  # else dropout drops the same in every share
        done = super().train(resume_from_checkpoint=resume_from_checkpoint, **more)
        records = [record for record in self.state.log_history if "counted" in record]
        if self.watch and records:
            records[-1] |= self._look()
        return done

    def whole(self, fresh: Callable[[], Any]) -> Any:
        """The student; where its weights are shared out, a fresh one that has them all, None but in the first process.

        All processes ask, since all have a part of it.
        """
        if not distributed.sharded(self.model):
            return self.model
        found = self.accelerator.get_state_dict(self.model)
        if distributed.rank():
            return None
        model = fresh()
        model.load_state_dict(found)
        return model

    @property
    def when(self) -> When:
        """The step that is being made, from 0, of how many."""
        return When(self.state.global_step, self.state.max_steps)

    def _look(self) -> dict[str, float]:
        assert self.watch
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bf16):
            return self.watch(self.model, self.objective_inputs.local_teacher)

    def _live(self) -> dict[str, Stateful]:
        """What a checkpoint holds beside what the Trainer puts there."""
        parts: dict[str, Any] = {
            "schedules": self.objective_inputs.schedules,
            "step_rows": self.objective_inputs.step_rows,
            "projectors": self.objective_inputs.projectors,
        }
        return {name: part for name, part in parts.items() if hasattr(part, "restore")}

    def _stop(self, what: str, record: Mapping[str, float], expected: str) -> None:
        """Stop with the step, and leave its batch where it can be looked at."""
        step = int(record["step"])
        rank = f"-{self.args.process_index}" if self.args.process_index else ""
        place = metrics.save_batch(
            Path(self.args.output_dir) / f"stopped-{step}{rank}", self.newest, record, self.text
        )
        settings = self.settings
        raise StageError(
            f"{what} at step {step} of {self.state.max_steps}",
            expected=expected,
            fix=f"lower learning_rate ({settings.learning_rate:g}), raise warmup_steps, "
            f"or lower max_grad_norm ({settings.max_grad_norm:g}); its batch: {place}",
        )

    def _maybe_log_save_evaluate(self, *args: Any, **more: Any) -> None:
        """The newest record to whoever reports (TensorBoard, W&B, trackio); then a checkpoint where one is due."""
        newest = self.state.global_step
        if (
            self.settings.report_to and newest > self.reported
        ):  # it is called at the end of an epoch once more
            self.reported = newest
            record = {
                name: value for name, value in self.state.log_history[-1].items() if name != "step"
            }
            self.callback_handler.on_log(self.args, self.state, self.control, record)
        super()._maybe_log_save_evaluate(*args, **more)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: it walks over all modules at every step."""
        return 0

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The Trainer's checkpoint, with a mark that it was written to its end."""
        super()._save_checkpoint(model, trial)
        distributed.wait()  # each has put its random state there
        if not self.args.should_save:
            return
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        torch.save({name: part.state() for name, part in self._live().items()}, folder / LIVE)
        (folder / COMPLETE).touch()


class Seen:
    """What has passed since the last step; one record a step is kept in the Trainer's state, so in its checkpoints."""

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.tokens = self.counted = 0
        self.stats: dict[str, list[Tensor]] = {}
        self.more: dict[str, float] = {}
        self.clock = time.perf_counter()

    def add(self, loss: Tensor, found: Loss) -> None:
        """A micro-batch's loss and statistics: sums and counts add up, means would not."""
        self.loss = loss.detach() + self.loss
        self.put(found.stats)

    def put(self, stats: Mapping[str, Sum]) -> None:
        """Statistics of a micro-batch, or of the whole step."""
        for name, (total, count) in stats.items():
            before = self.stats.get(name)
            self.stats[name] = [total + before[0], count + before[1]] if before else [total, count]

    def join(self) -> None:
        """Add up what all processes have seen."""
        stats = {name: (float(total), float(count)) for name, (total, count) in self.stats.items()}
        parts = distributed.gathered((float(self.loss), self.tokens, self.counted, stats))
        losses, tokens, counted, every = zip(*parts)
        self.loss, self.tokens, self.counted = sum(losses), sum(tokens), sum(counted)
        self.stats = {}
        for stats in every:
            self.put({name: Sum(*map(torch.tensor, ends)) for name, ends in stats.items()})

    def record(self, step: int, loss: float) -> dict[str, float]:
        """The step's loss, means of the statistics, tokens, counted tokens and seconds; starts anew."""
        record = {"step": step, "loss": loss, "tokens": self.tokens, "counted": self.counted}
        record |= {
            name: float(total / count)
            for name, (total, count) in self.stats.items()
            if float(count)
        }
        record |= self.more
        record["seconds"] = time.perf_counter() - self.clock
        Seen.__init__(self)
        return record


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Progress after every step, a checkpoint after every `save_steps` of them."""

    def __init__(self, save_steps: int, total: int, progress: Progress | None) -> None:
        self.save_steps, self.total, self.progress = save_steps, total, progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        step = state.global_step
        control.should_save = (
            bool(self.save_steps) and step % self.save_steps == 0 and step < self.total
        )
        return control

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress:
            self.progress("training", state.global_step, self.total)


def window_loss(
    model: Any,
    batch: Batch,
    normaliser: Tensor | float,
    objective_inputs: ObjectiveInputs = SUPERVISED,
    *,
    when: When = FIRST,
) -> tuple[Tensor, Loss]:
    """An objective of a micro-batch of right-padded rows, reduced over what the whole window counts."""
    teacher, packing = objective_inputs.local_teacher, objective_inputs.packing
    inner = objective_inputs.compared_layers(model, batch)
    x = build_inputs(
        model,
        batch,
        teacher=None if inner else teacher,
        needs=objective_inputs.needs,
        normaliser=normaliser,
        packing=packing,
        hidden_ND=inner[0].last_ND if inner else None,
    )
    x = objective_inputs.with_reduction_weights(
        objective_inputs.complete_inputs(x, model, batch, inner)
    )
    found = objective_inputs.loss(x, **objective_inputs.constants(when))
    assert x.weights_N is not None
    seen = metrics.position_statistics(x, found, "own" if "stopped" in batch else "rows")
    return reduce(found.values_N, x.weights_N, 1.0), Loss(found.values_N, {**found.stats, **seen})


def nothing(model: Any, ids_BT: Tensor) -> Tensor:
    """A loss of 0 that every weight has a part in, as the exchange of gradients wants it."""
    found = states(model, ids_BT[:1, :2])  # before the head: its weights may be gathered by it
    made: Tensor = head(model)(found).float().sum() * 0
    return made


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that was written to its end."""
    done = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(done, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _as_begun(folder: Path) -> None:
    """Refuse a checkpoint of shared out weights where they are whole, and the other way round."""
    way = "with" if any(folder.glob(f"{FSDP_MODEL_NAME}*")) else "without"
    if (way == "with") != distributed.shards():
        raise StageError(
            f"{folder} was written by a training started {way} FSDP",
            expected="the same again",
            fix=f"go on {way} FSDP, or delete {folder.parent.parent} to begin anew",
        )


def history(state: Any) -> list[dict[str, float]]:
    """The records of all steps, those before a resume included."""
    return [record for record in json.loads(json.dumps(state.log_history)) if "counted" in record]


def use_bf16(settings: TrainingSettings) -> bool:
    """Whether to compute in bfloat16: as set, or on a GPU that has it."""
    if settings.bf16 is not None:
        return settings.bf16
    return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())


def _arguments(settings: TrainingSettings, folder: Path, total: int) -> TrainingArguments:
    if settings.report_to and not find_spec(settings.report_to):
        raise StageError(
            f"training.report_to is {settings.report_to}, and {settings.report_to} is not installed",
            expected="its package in this environment",
            fix=f"pip install {settings.report_to}, or leave report_to out: steps.jsonl has the same numbers",
        )
    warmup = settings.warmup_steps * total if settings.warmup_steps < 1 else settings.warmup_steps
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=total,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup"
        if settings.lr_scheduler_type == "constant"
        else settings.lr_scheduler_type,
        warmup_steps=math.ceil(warmup),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=2,
        report_to=[settings.report_to] if settings.report_to else [],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        use_cpu=distributed.count() > 1 and not torch.cuda.is_available(),
    )
