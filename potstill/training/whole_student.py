"""The student as one whole model, where FSDP has shared out its weights: to write, to be scored, to be evaluated.

A sharded model gathers its weights in every forward pass, so all processes would have to make equally many, and what
they write ends at different lengths. Therefore each process fills a model of its own with the present weights instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class WholeStudent:
    """A model that has weights only while it is used: then each process has all of them in memory.

    Args:
        model: the student, before its weights are shared out.
    """

    def __init__(self, model: Any) -> None:
        # The copy takes an empty parameter in the place of each of the model's, so that no weight is copied here.
        empty_parameters: dict[int, Any] = {}
        for parameter in model.parameters():
            empty = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
            empty_parameters[id(parameter)] = torch.nn.Parameter(empty, requires_grad=False)
        self._model = copy.deepcopy(model, empty_parameters)

    @contextmanager
    def filled(self, sharded: Any) -> Iterator[Any]:
        """The whole model with the weights that a sharded one has now; all processes enter this together."""
        own_parameters = dict(self._model.named_parameters())
        for name, parameter in sharded.named_parameters():
            own = own_parameters[name]
            own.data = _gather(parameter).to(own.device)
        try:
            yield self._model
        finally:
            for own in own_parameters.values():
                own.data = torch.empty(0, dtype=own.dtype, device=own.device)


def _gather(parameter: Any) -> Tensor:
    """A parameter with what all processes hold of it."""
    gather = getattr(parameter.detach(), "full_tensor", None)
    whole: Tensor = gather() if gather is not None else parameter.detach()
    return whole
