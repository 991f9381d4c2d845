"""A student without weights of its own, which is filled with those that the training has at that moment.

Under FSDP: a sharded model gathers its weights in every forward pass, so all processes would have to make equally many,
and what they write ends at different lengths. Therefore each process fills a model of its own with the present weights.
On a cluster: replicas that write are filled with weights from the object store (`rollout/replicas.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class WholeStudent:
    """A model that has weights only while it is used.

    Args:
        model: the student; under FSDP before its weights are shared out.
    """

    def __init__(self, model: Any) -> None:
        # The copy takes an empty parameter in the place of each of the model's, so that no weight is copied here.
        # Whether it has gradients stays: on a CPU other kernels compute without, and the last bits differ.
        empty_parameters: dict[int, Any] = {}
        for parameter in model.parameters():
            empty = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
            has_gradient = parameter.requires_grad
            empty_parameters[id(parameter)] = torch.nn.Parameter(empty, requires_grad=has_gradient)
        self._model = copy.deepcopy(model, empty_parameters)

    def to(self, device: str) -> None:
        """Move the model to a device; the weights that it is filled with follow."""
        self._model.to(device)

    @contextmanager
    def filled(self, sharded: Any) -> Iterator[Any]:
        """The whole model with the weights that a sharded one has now; all processes enter this together."""
        weights = {}
        for name, parameter in sharded.named_parameters():
            weights[name] = _gather(parameter)
        with self.filled_with(weights) as model:
            yield model

    @contextmanager
    def filled_with(self, weights: Mapping[str, Tensor]) -> Iterator[Any]:
        """The whole model with weights by name, which it shares where they are on its device."""
        own_parameters = dict(self._model.named_parameters())
        for name, parameter in own_parameters.items():
            parameter.data = weights[name].to(parameter.device)
        try:
            yield self._model
        finally:
            for parameter in own_parameters.values():
                parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)


def _gather(parameter: Any) -> Tensor:
    """A parameter with what all processes hold of it."""
    gather = getattr(parameter.detach(), "full_tensor", None)
    whole: Tensor = gather() if gather is not None else parameter.detach()
    return whole
