"""Two models that write one text, token by token.

What `generate_batch` takes for a model is here the pair; what it takes for logits are the logs of the distribution
that the next token is drawn from. Both keep a cache of their own, so rows of any acceptance run side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias, final

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from potstill.models.local.generate import filter_probabilities
from potstill.models.model import Sampling
from potstill.objectives import joint_sampling

# Student's and teacher's logits [R, V] to the probabilities [R, V] of the next token.
JointDistribution: TypeAlias = Callable[[Tensor, Tensor], Tensor]

TEACHER_SAMPLING = Sampling(
    temperature=joint_sampling.TEACHER_TEMPERATURE, top_p=joint_sampling.TEACHER_TOP_P
)


@final
class ModelPair:
    """Student and teacher behind one call, as `generate_batch` makes it.

    Args:
        distribution: what the next token is drawn from. Draw at temperature 1: it has the temperatures already.
    """

    def __init__(self, student: Any, teacher: Any, distribution: JointDistribution) -> None:
        self._models, self._distribution = (student, teacher), distribution
        depths = [model.config.get_text_config().num_hidden_layers for model in self._models]
        self._student_layers = depths[0]
        text_config = SimpleNamespace(num_hidden_layers=sum(depths))
        self.config = SimpleNamespace(get_text_config=lambda: text_config)
        self.device = student.device

    def __call__(self, *, past_key_values: Cache, **inputs: Any) -> Any:
        """Logs of the joint distribution at the last position, as `.logits` [R, 1, V]."""
        layers = past_key_values.layers
        caches = layers[: self._student_layers], layers[self._student_layers :]
        logits = []
        for model, cache in zip(self._models, caches, strict=True):
            output = model(past_key_values=Cache(layers=cache), **inputs)
            logits.append(output.logits[:, -1].float())  # [R, V]
        student_RV, teacher_RV = _same_width(*logits)
        return SimpleNamespace(logits=self._distribution(student_RV, teacher_RV).log()[:, None])


def mixed(share: float, temperature: float = 1.0) -> JointDistribution:
    """`objectives.joint_sampling.mixed` of both models at one temperature."""
    sampling = Sampling(temperature=temperature)

    def distribution(student_RV: Tensor, teacher_RV: Tensor) -> Tensor:
        return joint_sampling.mixed(
            probabilities(student_RV, sampling), probabilities(teacher_RV, sampling), share
        )

    return distribution


def interleaved(
    student: Sampling,
    teacher: Sampling = TEACHER_SAMPLING,
    *,
    best: int = joint_sampling.TEACHER_BEST,
) -> JointDistribution:
    """`objectives.joint_sampling.interleaved` of two models that draw by these settings."""

    def distribution(student_RV: Tensor, teacher_RV: Tensor) -> Tensor:
        return joint_sampling.interleaved(
            probabilities(student_RV, student),
            probabilities(teacher_RV, teacher),
            teacher_RV,
            best=best,
        )

    return distribution


def probabilities(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """What a model draws from, [R, V] float64, summing to 1."""
    if sampling.temperature == 0:
        best_R1 = logits_RV.argmax(-1, keepdim=True)
        return torch.zeros_like(logits_RV, dtype=torch.float64).scatter_(1, best_R1, 1.0)
    weights_RV = filter_probabilities(logits_RV, sampling)
    return weights_RV / weights_RV.sum(-1, keepdim=True)


def _same_width(student_RV: Tensor, teacher_RV: Tensor) -> tuple[Tensor, Tensor]:
    """Both over the student's vocabulary: padding is nothing that the other would say."""
    width = student_RV.shape[1]
    missing = width - teacher_RV.shape[1]
    if missing > 0:
        teacher_RV = torch.nn.functional.pad(teacher_RV, (0, missing), value=-torch.inf)
    return student_RV, teacher_RV[:, :width]
