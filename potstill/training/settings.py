"""What a training loop can be told, and what it tells afterwards. No torch in here: recipes read this file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from potstill.errors import ConfigError
from potstill.objectives import TABLE


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters (Hu et al., arXiv:2106.09685), merged into the stored student: it is a plain checkpoint.

    Args:
        r: rank.
        alpha: scale of the update is alpha / r.
        dropout: share of the adapter's inputs dropped.
        targets: names of the linear layers that get an adapter; "all-linear" is every one but the output head.
        keep_adapter: store the adapter itself too, in `adapter/` of the student's folder.
        dora: learn each column's length and its direction apart (DoRA, Liu et al., arXiv:2402.09353).
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    keep_adapter: bool = False
    dora: bool = False


@dataclass(frozen=True, slots=True)
class Training:
    """All settings of a supervised training loop.

    Args:
        epochs: passes over the rows; ignored where `max_steps` is given.
        max_steps: optimiser steps; 0 means that `epochs` decides.
        lr: peak learning rate; for "muon" that of the layers' matrices.
        lr_rest: "muon" only: AdamW's rate for embeddings, head and norms; 0 means half of `lr`.
        scheduler: "constant", "linear" or "cosine" decay to 0 after the warm-up.
        warmup: steps of linear warm-up; below 1, a share of all steps.
        weight_decay: decoupled, on matrices only.
        clip: gradients are scaled down to this norm; 0 switches it off.
        optimiser: "adamw", or "muon" (momentum, orthogonalised), which learns faster on tiny models.
        batch_tokens: tokens in a micro-batch at most, padding included; 0 means that `batch_rows` decides.
        batch_rows: rows in a micro-batch; 0 means that `batch_tokens` decides.
        accumulate: micro-batches in an optimiser step.
        sort: rows of similar length share a micro-batch (less padding); the order of batches is random either way.
        max_tokens: rows with more tokens, prompt included, are left out, never truncated; 0 is the model's context.
        drop_long: share of rows that may be left out so, before training refuses to start.
        seed: of the order of rows, of adapters and dropout.
        lora: adapter settings; None trains all weights.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        bf16: autocast to bfloat16; None means on a GPU that has it.
        dtype: of the stored weights: "start" keeps the starting checkpoint's.
        threads: CPU threads of the training; 0 leaves torch's setting. Another number changes the last bits.
        chat: what the chat template is told, as in a model's `?chat=`; a run takes its student's.
        save_every: steps between the checkpoints that a killed training resumes from; 0 switches them off.
        packing: rows of a micro-batch lie one after another instead of side by side, without padding and without
            seeing each other; the result is the same to rounding. Pays where lengths differ much within a batch.
        report: where the steps' records go too: "wandb", "trackio", or "tensorboard" (`runs/` of the student's folder).
        task: over the stage's own: its `objective`, constants and keywords of the loop (`training.task.LOOP`).
    """

    epochs: int = 3
    max_steps: int = 0
    lr: float = 2e-5
    lr_rest: float = 0.0
    scheduler: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    optimiser: Literal["adamw", "muon"] = "adamw"
    batch_tokens: int = 0
    batch_rows: int = 16
    accumulate: int = 1
    sort: bool = True
    max_tokens: int = 0
    drop_long: float = 0.0
    seed: int = 0
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    bf16: bool | None = None
    dtype: Literal["start", "float32", "bfloat16"] = "start"
    threads: int = 0
    chat: Literal["auto", "thinking", "no-thinking"] = "auto"
    save_every: int = 500
    packing: bool = False
    report: Literal["", "tensorboard", "wandb", "trackio"] = ""
    task: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other, all at once."""
        wrong = [text for bad, text in self._complaints() if bad]
        if wrong:
            raise ConfigError(
                f"training settings: {'; '.join(wrong)}", fix="change the recipe's `training:` part"
            )

    def _complaints(self) -> list[tuple[bool, str]]:
        lora, positive = self.lora, (self.lr, self.accumulate)
        return [
            (self.epochs < 1 and self.max_steps < 1, "neither epochs nor max_steps is positive"),
            (
                (self.batch_tokens > 0) == (self.batch_rows > 0),
                "give either batch_tokens or batch_rows, the other 0",
            ),
            (min(positive) <= 0, "lr and accumulate must be positive"),
            (
                min(self.lr_rest, self.warmup, self.weight_decay) < 0,
                "lr_rest, warmup or weight_decay is negative",
            ),
            (min(self.epochs, self.max_steps) < 0, "epochs or max_steps is negative"),
            (
                min(self.clip, self.save_every, self.threads, self.max_tokens) < 0,
                "a limit is negative",
            ),
            (min(self.batch_tokens, self.batch_rows) < 0, "batch_tokens or batch_rows is negative"),
            (self.threads > 1024, "more than 1024 threads"),
            (not 0 <= self.drop_long <= 1, "drop_long is a share between 0 and 1"),
            (
                self.optimiser not in ("adamw", "muon"),
                f"optimiser {self.optimiser!r} is not adamw or muon",
            ),
            (
                self.scheduler not in ("constant", "linear", "cosine"),
                f"no scheduler {self.scheduler!r}",
            ),
            (self.dtype not in ("start", "float32", "bfloat16"), f"no dtype {self.dtype!r}"),
            (
                self.report not in ("", "tensorboard", "wandb", "trackio"),
                f"no report {self.report!r}",
            ),
            (
                lora is not None and self.optimiser == "muon",
                "muon is for full matrices, not for LoRA: use adamw",
            ),
            (lora is not None and lora.r < 1, "lora.r must be at least 1"),
            (lora is not None and not 0 <= lora.dropout < 1, "lora.dropout must be in [0, 1)"),
            (
                self.task.get("objective", "likelihood") not in TABLE,
                f"no objective {self.task.get('objective')!r}",
            ),
        ]

    def told(self) -> dict[str, Any]:
        """As plain data; what came later than the first runs only where it says something, so their ids stay."""
        values = dataclasses.asdict(self)
        for name in ("packing", "report", "task"):
            if not values[name]:
                del values[name]
        if self.lora and not self.lora.dora:
            del values["lora"]["dora"]
        return values

    def identity(self) -> dict[str, Any]:
        """The settings that can change the trained weights, for keys; a task has its own."""
        return {
            name: value
            for name, value in self.told().items()
            if name not in ("save_every", "report", "task")
        }


SETTINGS = tuple(f.name for f in dataclasses.fields(Training) if f.name != "task")


@dataclass(frozen=True, slots=True)
class Fit:
    """What a training did; `fit.json` in the student's folder, written last, is its completion mark.

    Args:
        key: content id of rows and settings.
        rows: rows trained on.
        refused: rows left out, counted by reason.
        steps: optimiser steps.
        tokens: tokens that went through the model, prompts included, padding not, summed over the steps.
        counted: tokens with a loss, summed over the steps.
        seconds: wall time in steps, a resumed training's earlier part included.
        losses: mean weighted loss of each step, in nats a token.
        threads: CPU threads used.
        stats: what the objective tells (margins, divergences, rewards): at the first and at the last step.
    """

    key: str
    rows: int
    refused: Mapping[str, int]
    steps: int
    tokens: int
    counted: int
    seconds: float
    losses: tuple[float, ...] = field(repr=False)
    threads: int = 1
    stats: Mapping[str, tuple[float, float]] = field(default_factory=dict)
