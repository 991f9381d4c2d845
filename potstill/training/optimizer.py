"""AdamW, or Muon on the layers' matrices with AdamW on the rest, as one optimizer that saves and resumes as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from potstill.errors import ConfigError
from potstill.training.settings import TrainingSettings

ADAM_BETAS = (0.9, 0.999)
REST_BETAS = (
    0.9,
    0.95,
)  # what the world's models were trained with; short runs forget the noisy first steps sooner


class Joined(torch.optim.Optimizer):  # type: ignore[misc]
    """Several optimizers over disjoint parameters, behind one interface: groups, step, state."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        """Take the parts as they are; the groups stay theirs, so a scheduler that sets a rate sets it in the part."""
        self.parts = parts
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """The states of all parts, by parameter."""
        return {parameter: state for part in self.parts for parameter, state in part.state.items()}

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every part."""
        if closure is not None:
            raise TypeError("a closure would be evaluated once a part")
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parts."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The parts' states in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each part its own state back."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def make(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings ask for, over the parameters that are trained."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for _, p in named if p.ndim < 2]
    if settings.optimizer == "adamw":
        groups = _groups(matrices, vectors, settings.weight_decay)
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=ADAM_BETAS, fused=True)
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"torch {torch.__version__} has no Muon",
            expected="2.9 or later",
            fix="optimizer: adamw",
        )
    outer = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for p in module.parameters()
    }
    head = model.get_output_embeddings()  # type: ignore[operator]
    outer |= {id(p) for p in head.parameters()}
    inner = [p for p in matrices if p.ndim == 2 and id(p) not in outer]
    chosen = {id(p) for p in inner}
    rest = _groups([p for p in matrices if id(p) not in chosen], vectors, settings.weight_decay)
    adam = torch.optim.AdamW(
        rest,
        lr=settings.adamw_learning_rate or settings.learning_rate / 2,
        betas=REST_BETAS,
        fused=True,
    )
    return Joined(
        [
            torch.optim.Muon(inner, lr=settings.learning_rate, weight_decay=settings.weight_decay),
            adam,
        ]
    )


def forget(optimizer: Any) -> None:
    """An optimizer as it was before its first step: no moments, no count of steps; rates stay."""
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
    for part in getattr(inner, "parts", [inner]):
        part.state.clear()


def _groups(
    matrices: list[nn.Parameter], vectors: list[nn.Parameter], decay: float
) -> list[dict[str, Any]]:
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
