"""Settings of a training loop and the report of a finished training. No torch in here: recipes read this file."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from potstill.errors import ConfigError
from potstill.objectives import TABLE

MAX_THREADS = 1024
NOT_NEGATIVE = (
    "num_train_epochs",
    "max_steps",
    "adamw_learning_rate",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "batch_tokens",
    "batch_size",
    "max_length",
    "max_train_samples",
    "threads",
    "save_steps",
    "save_minutes",
    "rollout_replicas",
)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adapters (Hu et al., arXiv:2106.09685), by PEFT's names; merged into the student, a plain checkpoint.

    Args:
        r: rank.
        lora_alpha: scale of the update is lora_alpha / r.
        lora_dropout: share of the adapter's inputs dropped.
        target_modules: names of the linear layers that get an adapter; "all-linear" is every one but the output head.
        save_adapter: store the adapter itself too, in `adapter/` of the student's folder.
        use_dora: learn each column's length and its direction apart (DoRA, Liu et al., arXiv:2402.09353).
    """

    r: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    save_adapter: bool = False
    use_dora: bool = False


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """All settings of a training loop, by the names of transformers' `TrainingArguments` where it has them.

    A field's `alias` is a short name that recipes and the command line accept too.

    Args:
        num_train_epochs: passes over the rows; ignored where `max_steps` is given. Short: `epochs`.
        max_steps: optimizer steps; 0 means that `num_train_epochs` decides.
        learning_rate: peak learning rate; for "muon" that of the layers' matrices. Short: `lr`.
        adamw_learning_rate: "muon" only: AdamW's rate for embeddings, head and norms; 0 means half of `learning_rate`.
        lr_scheduler_type: "constant", "linear" or "cosine" decay to 0 after the warm-up.
        warmup_steps: steps of linear warm-up; below 1, a share of all steps.
        weight_decay: decoupled, on matrices only.
        max_grad_norm: gradients are scaled down to this norm; 0 switches it off.
        optimizer: "adamw", or "muon" (momentum, orthogonalised), which learns faster on tiny models.
        batch_tokens: tokens in a micro-batch at most, padding included; 0 means that `batch_size` decides.
        batch_size: rows in a micro-batch, of all processes together; 0 means that `batch_tokens` decides.
        gradient_accumulation_steps: micro-batches in an optimizer step.
        group_by_length: rows of similar length share a micro-batch (less padding); batches come in random order
            either way.
        max_length: rows with more tokens, prompt included, are left out, never truncated; 0 is the model's context.
        max_dropped_share: share of rows that may be left out as too long before training refuses to start.
        max_train_samples: rows to train on at most, a seeded sample that has as many problems as possible; 0 is all.
        seed: of the order of rows, of adapters and dropout.
        lora: adapter settings; None trains all weights.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        bf16: autocast to bfloat16; None means on a GPU that has it.
        dtype: of the stored weights: "start" keeps the starting checkpoint's.
        threads: CPU threads of the training; 0 leaves torch's setting. Another number changes the last bits.
        chat: whether the chat template is asked for thinking, as in a model's `?chat=`; a run takes its student's.
        save_steps: steps between the checkpoints that a killed training resumes from at most; 0 switches all of them
            off.
        save_minutes: minutes between two checkpoints at most, so that a kill costs no more on a slow machine; 0 leaves
            it to `save_steps`. A step is never broken off for it.
        rollout_replicas: replicas of the student on the Ray cluster of RAY_ADDRESS (or of this machine) that write its
            rollouts, at most so many; 0 writes in this process. docs/scale.md.
        packing: rows of a micro-batch lie one after another instead of side by side, without padding and without
            seeing each other; the result is the same to rounding. Pays where lengths differ much within a batch.
        report_to: where each step's record goes too: "wandb", "trackio", or "tensorboard" (`runs/` of the output_dir).
        objective_config: `objective`, its constants and keywords of the loop; overrides what the method's stage says.
    """

    num_train_epochs: int = field(default=3, metadata={"alias": "epochs"})
    max_steps: int = 0
    learning_rate: float = field(default=2e-5, metadata={"alias": "lr"})
    adamw_learning_rate: float = 0.0
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    batch_tokens: int = 0
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    group_by_length: bool = True
    max_length: int = 0
    max_dropped_share: float = 0.0
    max_train_samples: int = 0
    seed: int = 0
    lora: LoraSettings | None = None
    gradient_checkpointing: bool = False
    bf16: bool | None = None
    dtype: Literal["start", "float32", "bfloat16"] = "start"
    threads: int = 0
    chat: Literal["auto", "thinking", "no-thinking"] = "auto"
    save_steps: int = 500
    save_minutes: float = 10.0
    rollout_replicas: int = 0
    packing: bool = False
    report_to: Literal["", "tensorboard", "wandb", "trackio"] = ""
    objective_config: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other, all at once."""
        mistakes = [*self._number_mistakes(), *self._choice_mistakes(), *self._lora_mistakes()]
        if mistakes:
            raise ConfigError(
                f"training settings: {'; '.join(mistakes)}",
                fix="change the recipe's `training:` part",
            )

    def _number_mistakes(self) -> Iterator[str]:
        if self.num_train_epochs < 1 and self.max_steps < 1:
            yield "neither num_train_epochs nor max_steps is positive"
        if (self.batch_tokens > 0) == (self.batch_size > 0):
            yield "give either batch_tokens or batch_size, the other 0"
        for name in ("learning_rate", "gradient_accumulation_steps"):
            if getattr(self, name) <= 0:
                yield f"{name} must be positive"
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                yield f"{name} is negative"
        if self.threads > MAX_THREADS:
            yield f"more than {MAX_THREADS} threads"
        if not 0 <= self.max_dropped_share <= 1:
            yield "max_dropped_share is a share between 0 and 1"

    def _choice_mistakes(self) -> Iterator[str]:
        hints = typing.get_type_hints(TrainingSettings)
        for name in ("optimizer", "lr_scheduler_type", "dtype", "report_to"):
            choices = typing.get_args(hints[name])
            if getattr(self, name) not in choices:
                available = ", ".join(choice for choice in choices if choice)
                yield f"{name} {getattr(self, name)!r} is not one of {available}"
        objective = self.objective_config.get("objective", "sft")
        if objective not in TABLE:
            yield f"no objective {objective!r}"

    def _lora_mistakes(self) -> Iterator[str]:
        if self.lora is None:
            return
        if self.optimizer == "muon":
            yield "muon is for full matrices, not for LoRA: use adamw"
        if self.lora.r < 1:
            yield "lora.r must be at least 1"
        if not 0 <= self.lora.lora_dropout < 1:
            yield "lora.lora_dropout must be in [0, 1)"

    def to_json(self) -> dict[str, Any]:
        """As plain data; what came later than the first runs only where it says something, so their ids stay."""
        values = dataclasses.asdict(self)
        # When checkpoints and where rollouts are written decides nothing: another run of the recipe may say otherwise.
        del values["save_minutes"], values["rollout_replicas"]
        for name in ("packing", "report_to", "objective_config", "max_train_samples"):
            if not values[name]:
                del values[name]
        if self.lora and not self.lora.use_dora:
            del values["lora"]["use_dora"]
        return values

    def identity(self) -> dict[str, Any]:
        """The settings that can change the trained weights, for keys; the objective config has its own."""
        values = self.to_json()
        # Which rows were chosen is part of the id of the rows.
        for name in ("save_steps", "report_to", "objective_config", "max_train_samples"):
            values.pop(name, None)
        return values


TOKENS_FILE = "tokens.parquet"  # in a student's folder: its rows as tokens (dataset.trained_tokens)
FIT_FILE = "fit.json"  # in a student's folder, written last: the mark that its training is complete
SETTINGS = tuple(
    field.name for field in dataclasses.fields(TrainingSettings) if field.name != "objective_config"
)
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        field.metadata["alias"]: field.name
        for field in dataclasses.fields(TrainingSettings)
        if "alias" in field.metadata
    }
)  # short names that are accepted wherever a person types: {"epochs": "num_train_epochs", …}


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training did; `fit.json` in the student's folder, written last, is its completion mark.

    Args:
        key: content id of rows and settings.
        rows: rows trained on.
        skipped: rows left out, by reason.
        steps: optimizer steps.
        tokens: tokens that went through the model, prompts included, padding not, summed over the steps.
        loss_tokens: tokens with a loss, summed over the steps.
        seconds: wall time in steps, a resumed training's earlier part included.
        losses: mean weighted loss of each step, in nats a token.
        threads: CPU threads used.
        stats: what the objective tells (margins, divergences, rewards): at the first and at the last step.
        prompts: what the student was asked: the templates of the rows' prompts.
        chat: what the chat template was told.
    """

    key: str
    rows: int
    skipped: Mapping[str, int]
    steps: int
    tokens: int
    loss_tokens: int
    seconds: float
    losses: tuple[float, ...] = field(repr=False)
    threads: int = 1
    stats: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    chat: str = ""
