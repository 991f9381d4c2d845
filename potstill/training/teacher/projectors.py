"""Trained projections between a student's space and its teacher's, and the inner layers that some of them compare.

They are made once, from the training's seed, learn beside the student at a rate of their own, lie in the checkpoints of
a training, and are no part of the student that is stored. TED's filters, whose first stage trains nothing else, are
stored in a folder beside its student, for the second stage to begin with.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from potstill.errors import StageError
from potstill.objectives.dskd import Across, CrossMaps
from potstill.objectives.inputs import Hidden, Inputs, Layers
from potstill.objectives.representation import Filters, same_depth
from potstill.training import distributed
from potstill.training.dataset.collate import Batch
from potstill.training.logprobs import causal, head
from potstill.training.objective_config import ALONE, FILTERS, filters_of


@final
class Maps:
    """The projections of a config.

    Args:
        module: the objective's.
        rate: of learning; the schedule of the training moves it as it moves the student's.
        layers: pairs of inner layers (student's, teacher's) that the objective compares.
        alone: whether nothing else learns.
    """

    def __init__(
        self,
        module: nn.Module,
        rate: float,
        layers: Sequence[tuple[int, int]] = (),
        *,
        alone: bool = False,
    ) -> None:
        self.module, self.rate, self.layers, self.alone = module, rate, tuple(layers), alone

    def join(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser with the projections as a group of its own; of a joined one, in its last part."""
        at: Any = getattr(optimiser, "parts", [optimiser])[-1]
        at.add_param_group(
            {"params": list(self.module.parameters()), "lr": self.rate, "weight_decay": 0.0}
        )
        return optimiser

    def begin(self) -> None:
        """Forget the gradients of the last step: the Trainer forgets its model's alone."""
        self.module.zero_grad(set_to_none=True)

    def share(self) -> None:
        """Add up the gradients of all processes, each of which is that many times its share's (`Loop.compute_loss`)."""
        for parameter in self.module.parameters():
            if distributed.count() > 1:
                mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = distributed.summed(mine) / distributed.count()

    def state(self) -> dict[str, Any]:
        """The weights."""
        return {name: tensor.detach().cpu() for name, tensor in self.module.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self.module.load_state_dict(dict(state))

    def keep(self, folder: Path) -> None:
        """Store what was all that learnt beside the student."""
        if self.alone:
            file = folder / FILTERS
            file.parent.mkdir(exist_ok=True)
            save_file(self.state(), file, {"layers": json.dumps(self.layers)})

    def begin_with(self, folder: Path) -> None:
        """Become what an earlier training stored, which must be of the same layers and widths."""
        with safe_open(filters_of(folder), "pt") as file:
            layers = json.loads(file.metadata()["layers"])
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        own = {name: tuple(tensor.shape) for name, tensor in self.state().items()}
        there = {name: tuple(tensor.shape) for name, tensor in kept.items()}
        if layers != [list(pair) for pair in self.layers] or own != there:
            raise StageError(
                f"the filters in {folder} are of other layers or widths: {layers}, {sorted(set(there.values()))}",
                expected=f"{[list(pair) for pair in self.layers]}, {sorted(set(own.values()))}",
                fix="the same student, teacher and layers= in both stages",
            )
        self.restore(kept)


def make(
    objective: str,
    student: Any,
    teacher: Any,
    *,
    rate: float,
    layers: int = 0,
    filters: Path | None = None,
    seed: int = 0,
) -> Maps:
    """The projections that an objective wants, fp32, on the student's device.

    Args:
        layers: pairs of layers that TED compares, evenly over both depths; 0 is as many as the shallower model has.
        filters: the student of TED's first stage, beside which its filters lie.
    """
    mine, theirs = (causal(model).config.get_text_config() for model in (student, teacher))
    widths = mine.hidden_size, theirs.hidden_size
    depths = mine.num_hidden_layers, theirs.num_hidden_layers
    pairs = same_depth(*depths, layers or min(depths)) if objective in ("ted", ALONE) else []
    with torch.random.fork_rng([]):  # they are made on the CPU
        torch.manual_seed(seed)
        module: nn.Module
        if objective == "dskd":
            module = CrossMaps(*widths)
        else:
            module = Filters(*widths, layers=len(pairs)) if pairs else Across(*widths)
    made = Maps(module.to(student.device), rate, pairs, alone=objective == ALONE)
    if filters:
        made.begin_with(filters)
    return made


class Inner(NamedTuple):
    """A model's last states at the counted positions, and those of some of its layers."""

    last_ND: Tensor
    layers: tuple[Tensor, ...]


def inner(model: Any, batch: Batch, numbers: Sequence[int]) -> Inner:
    """One pass that keeps the states of some layers: 0 is the embeddings, n what the n-th layer puts out."""
    counted_BT = batch["loss_weights"][:, 1:] > 0
    found = causal(model).base_model(
        input_ids=batch["input_ids"][:, :-1], use_cache=False, output_hidden_states=True
    )
    return Inner(
        found.last_hidden_state[counted_BT],
        tuple(found.hidden_states[at][counted_BT] for at in numbers),
    )


def compared(x: Inputs, student: Inner, teacher: Inner, model: Any) -> Inputs:
    """The inputs with the layers of both, and the teacher's distribution."""
    layers = Layers(student.layers, teacher.layers)
    return dataclasses.replace(x, layers=layers, teacher=Hidden(teacher.last_ND, head(model)))
