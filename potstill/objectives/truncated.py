"""Distances to a teacher of whom only the top-k entries are known (cached logits, or the answer of a server).

The student's classes outside them become one class, the tail. As logits: u = (z on K, logsumexp of the rest),
so every distance and its closed-form gradient holds as it is on k + 1 classes, and the tail's share of the gradient is
spread over the rest in proportion to q. Nothing but the student's own logits is [C, V].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill.errors import ConfigError
from potstill.objectives.chunked import Kernel, full, pieced
from potstill.objectives.inputs import TopK
from potstill.objectives.numerics import LEAST, finite, log1mexp

Tail: TypeAlias = Literal["bucket", "renormalise", "teacher", "none"]
TAILS = ("bucket", "renormalise", "teacher", "none")
Distance: TypeAlias = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor | None]]
# The log of the mass inside is at most this: a tail of nothing would be infinitely surprising.
MOST = -1e-7


def truncated(teacher: TopK, distance: Distance, *, temperature: float, tail: Tail) -> Kernel:
    """A distance between top-k entries as a kernel of the student's logits.

    Args:
        teacher: ids and log-probabilities *at this temperature*: mass outside can't be re-tempered.
        distance: of (lq, lp) over classes that sum to 1.
        temperature: divides the student's logits.
        tail: "bucket" compares the mass outside as one class, never above the full distance, the default everywhere;
            "renormalise" compares inside K only; "teacher" renormalises the teacher alone, which also pulls the
            student's mass into K (DistillKit's "zero"); "none" renormalises nothing (verl's top-k form). Both are
            forward KLs alone: with no teacher's mass outside K the others are infinite or nothing.
    """
    if tail not in TAILS:
        raise ConfigError(
            f"unknown tail={tail!r}", available=TAILS, wanted=str(tail), fix="tail=bucket"
        )

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        # Log-probabilities at the top-k entries, teacher's and student's [C, K], and the logs of their masses [C, 1].
        ids = teacher.ids_NK[rows]
        lp = full(teacher.logp_NK[rows]).to(logits.dtype).clamp_min(LEAST)
        if temperature != 1:
            logits = logits.div_(temperature)
        lq_all = logits.sub_(logits.logsumexp(-1, keepdim=True))  # [C, V], in the logits' place
        lq = finite(lq_all.gather(1, ids))
        teacher_mass = lp.logsumexp(-1, keepdim=True).clamp_max(MOST)
        student_mass = lq.logsumexp(-1, keepdim=True).clamp_max(MOST)

        outside = None  # factor of q in the slope of the tokens outside
        if tail == "renormalise":
            value, slope = distance(lq - student_mass, lp - teacher_mass, gradient)
        else:
            if tail == "bucket":
                teacher_classes = torch.cat([lp, log1mexp(teacher_mass)], 1)  # [C, K + 1]
            else:
                nothing = torch.full_like(teacher_mass, LEAST)
                teacher_classes = torch.cat([lp - teacher_mass, nothing], 1)
            student_classes = torch.cat([lq, log1mexp(student_mass)], 1)
            value, slope = distance(student_classes, teacher_classes, gradient)
            if tail == "none":
                # sum_K p log(p / q) = P_K (KL of the renormalised teacher + log P_K)
                value = teacher_mass.exp().squeeze(1) * (value + teacher_mass.squeeze(1))
                slope = None if slope is None else slope * teacher_mass.exp()
            if slope is not None:
                outside = slope[:, -1:] / log1mexp(student_mass).exp()
                slope = slope[:, :-1]
        if slope is None:
            return value, None
        whole = lq_all.zero_() if outside is None else lq_all.exp_().mul_(outside)  # [C, V]
        return value, whole.scatter_(1, ids, slope).div_(temperature)

    return pieced(kernel)


def top_k(logits_NV: Tensor, k: int, *, temperature: float = 1.0) -> TopK:
    """A teacher's k best entries of every position, best first."""
    log_probs_NV = (full(logits_NV) / temperature).log_softmax(-1)
    best = log_probs_NV.topk(min(k, logits_NV.shape[-1]), -1)  # [N, K]
    return TopK(best.indices, best.values)


def top_p_k(probabilities: Tensor, p: float, k: int) -> tuple[Tensor, Tensor]:
    """The smallest best-first prefix with a mass of at least p, at most k, renormalised; one row's ids and shares.

    (Pre-training distillation, arXiv:2410.16215.)
    """
    shares, ids = probabilities.sort(descending=True)
    short_count = int((shares.cumsum(-1) < p).sum())  # prefixes that have not p yet
    count = min(short_count + 1, k, len(shares))
    chosen = shares[:count]
    return ids[:count], chosen / chosen.sum()
