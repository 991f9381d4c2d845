"""Two models that write one text: teacher-mixed sampling (MiniLLM) and interleaved sampling (SKD), token by token.

What `generate_batch` takes for a model is here the pair; what it takes for logits are the logs of the distribution that
the next token is drawn from. Both keep a cache of their own, so rows of any acceptance run side by side.
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

Rule: TypeAlias = Callable[
    [Tensor, Tensor], Tensor
]  # student's and teacher's logits [R, V] to probabilities [R, V]

BLOCK, BEST = 5, 25  # SKD's draft and the teacher's set
TEACHER = Sampling(temperature=0.2, top_p=0.5)  # how SKD's teacher draws what it puts in


@final
class Pair:
    """Student and teacher behind one call, as `generate_batch` makes it.

    Args:
        rule: what the next token is drawn from. Draw at temperature 1: the rule has the temperatures already.
    """

    def __init__(self, student: Any, teacher: Any, rule: Rule) -> None:
        self._models, self._rule = (student, teacher), rule
        self._layers = [model.config.get_text_config().num_hidden_layers for model in self._models]
        text = SimpleNamespace(num_hidden_layers=sum(self._layers))
        self.config = SimpleNamespace(get_text_config=lambda: text)
        self.device = student.device

    def __call__(self, *, past_key_values: Cache, **told: Any) -> Any:
        """Logs of the joint distribution at the last position, as `.logits` [R, 1, V]."""
        mine = self._layers[0]
        parts = past_key_values.layers[:mine], past_key_values.layers[mine:]
        made = [
            model(past_key_values=Cache(layers=layers), **told).logits[:, -1].float()
            for model, layers in zip(self._models, parts, strict=True)
        ]
        return SimpleNamespace(logits=self._rule(*_same_width(*made)).log()[:, None])


def mixed(share: float, temperature: float = 1.0) -> Rule:
    """`share p + (1 - share) q` (MiniLLM, arXiv:2306.08543, sec. 2.2), both at the temperature."""
    how = Sampling(temperature=temperature)

    def rule(student: Tensor, teacher: Tensor) -> Tensor:
        return share * _shares(teacher, how) + (1 - share) * _shares(student, how)

    return rule


def interleaved(student: Sampling, teacher: Sampling = TEACHER, *, best: int = BEST) -> Rule:
    """SKD's next token (arXiv:2410.11325): the student's where it is among the teacher's `best`, else the teacher's.

    Drafting in blocks of five and dropping what follows a rejection gives the same texts with the same probabilities:
    whether a token is kept depends on what stands before it alone. So there is no block here, and nothing is dropped:
    `P(y) = q(y) [y in K] + q(not K) p(y)`. A block saves calls of a teacher that is far away; this one is at hand.
    """

    def rule(mine: Tensor, theirs: Tensor) -> Tensor:
        q = _shares(mine, student)
        least = theirs.topk(min(best, theirs.shape[-1]), -1).values[:, -1:]
        kept = q * (theirs >= least)
        return kept + (1 - kept.sum(-1, keepdim=True)).clamp_min(0) * _shares(theirs, teacher)

    return rule


def _shares(logits: Tensor, how: Sampling) -> Tensor:
    """What a model draws from, [R, V] float64, summing to 1."""
    if how.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(
            1, logits.argmax(-1, keepdim=True), 1.0
        )
    found = filter_probabilities(logits, how)
    return found / found.sum(-1, keepdim=True)


def _same_width(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both over the student's vocabulary: padding is nothing that the other would say."""
    width = student.shape[1]
    if teacher.shape[1] < width:
        teacher = torch.nn.functional.pad(teacher, (0, width - teacher.shape[1]), value=-torch.inf)
    return student, teacher[:, :width]
