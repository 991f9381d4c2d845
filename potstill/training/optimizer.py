"""AdamW, or Muon on the layers' matrices with AdamW on the rest, as one optimizer that saves and resumes as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from potstill.errors import ConfigError
from potstill.training.settings import TrainingSettings

ADAMW_BETAS = (0.9, 0.999)
# Beside Muon: what the world's models were trained with; short runs forget the noisy first steps sooner.
BESIDE_MUON_BETAS = (0.9, 0.95)


class JoinedOptimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Several optimizers over disjoint parameters, behind one interface: groups, step, state."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        """Take the parts as they are; the groups stay theirs, so a scheduler that sets a rate sets it in the part."""
        self.parts = parts
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all parts."""
        groups = []
        for part in self.parts:
            groups.extend(part.param_groups)
        return groups

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """The states of all parts, by parameter."""
        states = {}
        for part in self.parts:
            states.update(part.state)
        return states

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every part."""
        if closure is not None:
            raise TypeError("a closure would be evaluated once a part")
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parts."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The parts' states in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each part its own state back."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Make the optimizer that the settings ask for, over the parameters that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    if settings.optimizer == "adamw":
        groups = _decay_groups(matrices, vectors, settings.weight_decay)
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=ADAMW_BETAS, fused=True)
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"torch {torch.__version__} has no Muon",
            expected="2.9 or later",
            fix="optimizer: adamw",
        )

    # Muon orthogonalises updates: that is for the matrices inside the layers, not for embeddings and head.
    outside_layers = _embedding_and_head_ids(model)
    muon_matrices, other_matrices = [], []
    for matrix in matrices:
        if matrix.ndim == 2 and id(matrix) not in outside_layers:
            muon_matrices.append(matrix)
        else:
            other_matrices.append(matrix)
    muon = torch.optim.Muon(
        muon_matrices, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    adamw = torch.optim.AdamW(
        _decay_groups(other_matrices, vectors, settings.weight_decay),
        lr=settings.adamw_learning_rate or settings.learning_rate / 2,
        betas=BESIDE_MUON_BETAS,
        fused=True,
    )
    return JoinedOptimizer([muon, adamw])


def reset_optimizer(optimizer: Any) -> None:
    """Put an optimizer back before its first step: no moments, no count of steps; rates stay."""
    inner = getattr(optimizer, "optimizer", optimizer)  # out of accelerate's wrapper
    for part in getattr(inner, "parts", [inner]):
        part.state.clear()


def _embedding_and_head_ids(model: nn.Module) -> set[int]:
    """`id` of every parameter of embeddings and of the output head."""
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    modules.append(model.get_output_embeddings())  # type: ignore[operator]
    ids: set[int] = set()
    for module in modules:
        ids.update(id(parameter) for parameter in module.parameters())
    return ids


def _decay_groups(
    matrices: Sequence[nn.Parameter], vectors: Sequence[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices only; a group without parameters is left out."""
    groups: list[dict[str, Any]] = []
    if matrices:
        groups.append({"params": list(matrices), "weight_decay": weight_decay})
    if vectors:
        groups.append({"params": list(vectors), "weight_decay": 0.0})
    return groups
