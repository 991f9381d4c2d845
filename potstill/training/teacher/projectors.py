"""Trained projections between a student's space and its teacher's, and the inner layers that some of them compare.

They are made once, from the training's seed, learn beside the student at a learning rate of their own, lie in the
checkpoints of a training, and are no part of the student that is stored. Where nothing else is trained they are stored
in a folder beside the student, for a later training to begin with.
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
from potstill.objectives.hooks import ModelShape
from potstill.objectives.inputs import Hidden, Inputs, Layers
from potstill.training import distributed
from potstill.training.dataset.batching import Batch
from potstill.training.logprobs import causal, head
from potstill.training.objective_config import PROJECTORS, ObjectiveConfig, projectors_file


@final
class TrainedProjectors:
    """The projections of an objective.

    Args:
        module: the objective's.
        learning_rate: the schedule of the training moves it as it moves the student's.
        layer_pairs: (student's, teacher's) inner layers that the objective compares.
        trains_student: False where nothing else learns.
    """

    def __init__(
        self,
        module: nn.Module,
        learning_rate: float,
        layer_pairs: Sequence[tuple[int, int]] = (),
        *,
        trains_student: bool = True,
    ) -> None:
        self.module, self.learning_rate = module, learning_rate
        self.layer_pairs, self.trains_student = tuple(layer_pairs), trains_student

    def add_to(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer with the projections as a parameter group; of a joined optimizer, in its last part."""
        last_part: Any = getattr(optimizer, "parts", [optimizer])[-1]
        parameters = list(self.module.parameters())
        last_part.add_param_group(
            {"params": parameters, "lr": self.learning_rate, "weight_decay": 0.0}
        )
        return optimizer

    def zero_grad(self) -> None:
        """Forget the gradients of the last step: the Trainer forgets only its model's."""
        self.module.zero_grad(set_to_none=True)

    def share_gradients(self) -> None:
        """Average the gradients over all processes; each is its share times as many (`StudentTrainer.compute_loss`)."""
        for parameter in self.module.parameters():
            if distributed.process_count() > 1:
                gradient = parameter.grad
                if gradient is None:
                    gradient = torch.zeros_like(parameter)
                parameter.grad = (
                    distributed.sum_over_processes(gradient) / distributed.process_count()
                )

    def state(self) -> dict[str, Any]:
        """The weights."""
        return {name: tensor.detach().cpu() for name, tensor in self.module.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self.module.load_state_dict(dict(state))

    def save(self, folder: Path) -> None:
        """Store them beside the student, where nothing else was trained."""
        if self.trains_student:
            return
        file = folder / PROJECTORS
        file.parent.mkdir(exist_ok=True)
        save_file(self.state(), file, {"layers": json.dumps(self.layer_pairs)})

    def start_from(self, folder: Path) -> None:
        """Become what an earlier training stored, which must be of the same layers and widths."""
        with safe_open(projectors_file(folder), "pt") as file:
            stored_layers = json.loads(file.metadata()["layers"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        own_layers = [list(pair) for pair in self.layer_pairs]
        own_shapes = {name: tuple(tensor.shape) for name, tensor in self.state().items()}
        stored_shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
        if stored_layers != own_layers or stored_shapes != own_shapes:
            raise StageError(
                f"the projections in {folder} are of other layers or widths: "
                f"{stored_layers}, {sorted(set(stored_shapes.values()))}",
                expected=f"{own_layers}, {sorted(set(own_shapes.values()))}",
                fix="the same student, teacher and layers= in both stages",
            )
        self.restore(stored)


def make_projectors(
    config: ObjectiveConfig, student: Any, teacher: Any, *, seed: int = 0
) -> TrainedProjectors:
    """The projections that an objective wants, fp32, on the student's device."""
    options = config.option_values
    with torch.random.fork_rng([]):  # they are made on the CPU
        torch.manual_seed(seed)
        new = config.hooks.projectors(model_shape(student), model_shape(teacher), options)
    assert new is not None, f"{config.objective} needs projectors and makes none"
    projectors = TrainedProjectors(
        new.module.to(student.device),
        options.projector_lr,
        new.layer_pairs,
        trains_student=config.hooks.trains_student,
    )
    initial = config.hooks.initial_projectors(options)
    if initial:
        projectors.start_from(initial)
    return projectors


def model_shape(model: Any) -> ModelShape:
    """Width and depth of a model."""
    config = causal(model).config.get_text_config()
    return ModelShape(config.hidden_size, config.num_hidden_layers)


class LayerStates(NamedTuple):
    """A model's last states at the counted positions, and those of some of its layers."""

    last_ND: Tensor
    layers: tuple[Tensor, ...]


def layer_states(model: Any, batch: Batch, layers: Sequence[int]) -> LayerStates:
    """One pass that keeps the states of some layers: 0 is the embeddings, n what the n-th layer puts out."""
    counted_BT = batch["loss_weights"][:, 1:] > 0  # [B, T - 1]: a state predicts the next token
    output = causal(model).base_model(
        input_ids=batch["input_ids"][:, :-1], use_cache=False, output_hidden_states=True
    )
    inner_layers = [output.hidden_states[layer][counted_BT] for layer in layers]  # each [N, D]
    return LayerStates(output.last_hidden_state[counted_BT], tuple(inner_layers))


def with_layers(x: Inputs, student: LayerStates, teacher: LayerStates, model: Any) -> Inputs:
    """The inputs with the layers of both models, and the teacher's distribution.

    Args:
        model: the teacher.
    """
    layers = Layers(student.layers, teacher.layers)
    return dataclasses.replace(x, layers=layers, teacher=Hidden(teacher.last_ND, head(model)))
