"""Rows in which tokens of the student's own stand in the place of the text's, as the objective says how many.

It stands where rollouts stand, between the planned micro-batches and the loss. One pass over the rows says what the
student would write at every learnt token; at a share of them, drawn by the step and the seed, that takes the token's
place, so a resumed training replaces the same ones. The first learnt token of a row and its last stay: an answer begins
and ends as the text does.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any, final

import torch
from torch import Tensor

from potstill.training import distributed
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.logprobs import counted_states, head
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings

HEAD_ROWS = 64  # positions whose logits exist at the same time


@final
class TokenReplacer:
    """Puts the student's tokens into the rows of a step (a `StepRows` of `objective_inputs`).

    Args:
        config: its objective says how many.
        settings: of the training; the seed draws the positions.
        bf16: whether the training computes in bfloat16; the pass over the rows does the same.
    """

    def __init__(self, config: ObjectiveConfig, settings: TrainingSettings, *, bf16: bool) -> None:
        self._share = config.replaced_share
        self._settings = settings
        self._bf16 = bf16

    def __call__(
        self, model: Any, window: list[Batch], when: When, teacher: Any = None
    ) -> list[Batch]:
        """The micro-batches with the student's tokens in them; the column `replaced` marks them."""
        batches = []
        for index, batch in enumerate(window):
            if not batching.is_idle(batch):
                batch = self._replace(model, batch, f"{when.step}/{index}")
            batches.append(batch)
        return batches

    def _replace(self, model: Any, batch: Batch, place: str) -> Batch:
        chosen_BT = self._choose(batch, place)
        own_BT = self._likeliest_tokens(model, batch)
        input_ids_BT = torch.where(chosen_BT, own_BT, batch["input_ids"])
        # What the student would write may be what stands there: that is the text's own token.
        replaced_BT = chosen_BT & (input_ids_BT != batch["input_ids"])
        return {**batch, "input_ids": input_ids_BT, "replaced": replaced_BT.float()}

    def _choose(self, batch: Batch, place: str) -> Tensor:
        """Which tokens are to be replaced, [B, T]: the share of each row's learnt ones, to the nearest."""
        chosen_BT = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        for row in range(len(chosen_BT)):
            learnt = batch["loss_weights"][row].nonzero().squeeze(1).tolist()[1:-1]
            name = f"{self._settings.seed}/replaced/{place}/{distributed.place_in_batch(row)}"
            random = Random(hashlib.sha256(name.encode()).digest())
            chosen_BT[row, random.sample(learnt, round(self._share * len(learnt)))] = True
        return chosen_BT

    def _likeliest_tokens(self, model: Any, batch: Batch) -> Tensor:
        """The student's likeliest token at every learnt place, the text before it given, [B, T]; 0 elsewhere."""
        was_training = model.training
        model.eval()
        counted_BT = batch["loss_weights"][:, 1:] > 0  # [B, T - 1]
        autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=self._bf16)
        with torch.no_grad(), autocast:
            states_ND = counted_states(
                model,
                batching.to_device(batch, model.device),
                counted_BT.to(model.device),
                packing=self._settings.packing,
            )
            output = head(model)
            tokens = [output(part).argmax(-1) for part in states_ND.split(HEAD_ROWS)]  # each [C]
        model.train(was_training)
        own_BT = torch.zeros_like(batch["input_ids"])
        if tokens:
            own_BT[:, 1:][counted_BT] = torch.cat(tokens).to(own_BT)
        return own_BT
