"""Trained projections between a student's space and its teacher's, and the inner layers that some of them compare.

They are made once, from the training's seed, learn beside the student at a rate of their own, lie in the checkpoints of
a training, and are no part of the student that is stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from potstill.objectives.dskd import Across, CrossMaps
from potstill.objectives.inputs import Hidden, Inputs, Layers
from potstill.objectives.representation import Filters, same_depth
from potstill.training import processes
from potstill.training.items import Batch
from potstill.training.positions import causal, head


@final
class Maps:
    """The projections of a task.

    Args:
        module: the objective's.
        rate: of learning; the schedule of the training moves it as it moves the student's.
        layers: pairs of inner layers (student's, teacher's) that the objective compares.
    """

    def __init__(self, module: nn.Module, rate: float, layers: Sequence[tuple[int, int]] = ()) -> None:
        self.module, self.rate, self.layers = module, rate, tuple(layers)

    def join(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser with the projections as a group of its own; of a joined one, in its last part."""
        at: Any = getattr(optimiser, "parts", [optimiser])[-1]
        at.add_param_group({"params": list(self.module.parameters()), "lr": self.rate, "weight_decay": 0.0})
        return optimiser

    def begin(self) -> None:
        """Forget the gradients of the last step: the Trainer forgets its model's alone."""
        self.module.zero_grad(set_to_none=True)

    def share(self) -> None:
        """Add up the gradients of all processes, each of which is that many times its share's (`Loop.compute_loss`)."""
        for parameter in self.module.parameters():
            if processes.count() > 1:
                mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = processes.summed(mine) / processes.count()

    def state(self) -> dict[str, Any]:
        """The weights."""
        return {name: tensor.detach().cpu() for name, tensor in self.module.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self.module.load_state_dict(dict(state))


def make(objective: str, student: Any, teacher: Any, *, rate: float, layers: int = 0, seed: int = 0) -> Maps:
    """The projections that an objective wants, fp32, on the student's device.

    Args:
        layers: pairs of layers that TED compares, evenly over both depths; 0 is as many as the shallower model has.
    """
    mine, theirs = (causal(model).config.get_text_config() for model in (student, teacher))
    widths = mine.hidden_size, theirs.hidden_size
    depths = mine.num_hidden_layers, theirs.num_hidden_layers
    pairs = same_depth(*depths, layers or min(depths)) if objective == "ted" else []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: nn.Module
        if objective == "dskd":
            module = CrossMaps(*widths)
        else:
            module = Filters(*widths, layers=len(pairs)) if pairs else Across(*widths)
    return Maps(module.to(student.device), rate, pairs)


class Inner(NamedTuple):
    """A model's last states at the counted positions, and those of some of its layers."""

    last_ND: Tensor
    layers: tuple[Tensor, ...]


def inner(model: Any, batch: Batch, numbers: Sequence[int]) -> Inner:
    """One pass that keeps the states of some layers: 0 is the embeddings, n what the n-th layer puts out."""
    counted_BT = batch["weights"][:, 1:] > 0
    found = causal(model).base_model(input_ids=batch["ids"][:, :-1], use_cache=False, output_hidden_states=True)
    return Inner(found.last_hidden_state[counted_BT], tuple(found.hidden_states[at][counted_BT] for at in numbers))


def compared(x: Inputs, student: Inner, teacher: Inner, model: Any) -> Inputs:
    """The inputs with the layers of both, and the teacher's distribution."""
    layers = Layers(student.layers, teacher.layers)
    return dataclasses.replace(x, layers=layers, teacher=Hidden(teacher.last_ND, head(model)))
