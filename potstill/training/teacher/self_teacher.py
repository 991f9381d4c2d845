"""The student as its own teacher: as it started, as it is now, or a moving average of its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor

TeacherKind: TypeAlias = Literal["base", "live", "ema"]


@final
class SelfTeacher:
    """The student's own weights, read without gradients and without dropout.

    A student with adapters needs no second model: its base is read with the adapters off, and a moving average is one
    of the adapters alone, since a copy shares all weights that are not trained.

    Args:
        model: the student, before the first step.
        kind: "base" is the student as it started, "live" as it is, "ema" `(1 - rate) teacher + rate student`.
        update_rate: the student's share in an update of "ema".
        sync_steps: steps between two updates of "ema".
    """

    def __init__(
        self, model: Any, kind: TeacherKind, *, update_rate: float = 0.05, sync_steps: int = 1
    ) -> None:
        self._model, self._kind = model, kind
        self._update_rate, self._sync_steps = update_rate, sync_steps
        self._copy: Any = None
        if kind == "ema" or (kind == "base" and not self._has_adapters):
            self._copy = copy_trained(model)

    @property
    def _has_adapters(self) -> bool:
        return hasattr(self._model, "disable_adapter")

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The model to be read within the block."""
        model = self._model if self._copy is None else self._copy
        without_adapters: Callable[[], Any] = nullcontext
        if self._kind == "base" and self._copy is None:
            without_adapters = model.disable_adapter
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), without_adapters():
                yield model
        finally:
            model.train(was_training)

    @property
    def head(self) -> Callable[[Tensor], Tensor]:
        """The output projection; its adapters, where it has some, are on or off as while reading."""
        model = self._model if self._copy is None else self._copy
        projection: Callable[[Tensor], Tensor] = model.get_output_embeddings()
        return self._through_head if hasattr(projection, "base_layer") else projection

    def _through_head(self, hidden_ND: Tensor) -> Tensor:
        with self.reading() as model:
            logits_NV: Tensor = model.get_output_embeddings()(hidden_ND)
        return logits_NV

    def update(self, step: int) -> None:
        """Move the average towards the student; to be called before each step, and once only.

        Args:
            step: that is about to be made, from 0.
        """
        if self._kind != "ema" or step == 0 or step % self._sync_steps:
            return
        with torch.no_grad():
            for average, parameter in trained_pairs(self._copy, self._model):
                average.lerp_(parameter.detach(), self._update_rate)

    def state(self) -> dict[str, Any]:
        """The average's weights; nothing of a teacher that the start or the student gives back."""
        if self._kind != "ema":
            return {}
        weights = {}
        for name, parameter in self._trained_weights().items():
            weights[name] = parameter.detach().cpu().clone()
        return {"weights": weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        if self._kind != "ema":
            return
        with torch.no_grad():
            for name, parameter in self._trained_weights().items():
                parameter.copy_(state["weights"][name])

    def _trained_weights(self) -> dict[str, Any]:
        trained = {name for name, p in self._model.named_parameters() if p.requires_grad}
        return {name: p for name, p in self._copy.named_parameters() if name in trained}


def copy_trained(model: Any) -> Any:
    """A frozen copy of a model that shares the weights that are not trained."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    copied = copy.deepcopy(model, shared)
    for average, _ in trained_pairs(copied, model):
        average.requires_grad_(False)
    return copied.eval()


def trained_pairs(copied: Any, model: Any) -> Iterator[tuple[Any, Any]]:
    """Each trained parameter of a model, behind its counterpart in the copy."""
    counterparts = dict(copied.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield counterparts[name], parameter
