"""Distances between distributions over two vocabularies, with their gradients in closed form.

A distance gives its value, its slope with respect to the student's *logits*, and with respect to the student's factor.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from potstill.objectives import divergence
from potstill.objectives.numerics import log1mexp
from potstill.objectives.truncated import MOST, Distance


class Scaled(NamedTuple):
    """A distance of some rows and its slopes."""

    value: Tensor
    slope: Tensor | None = None
    scale: Tensor | None = None


class Two(NamedTuple):
    """Log-probabilities over both vocabularies, [C, V] and [C, W], and where a group is merged the logs of the factors
    that scale a whole distribution, [C]: the probability of what was said before.
    """

    lq: Tensor
    lp: Tensor
    s: Tensor | None = None
    u: Tensor | None = None

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Both with their factors."""
        student = self.lq if self.s is None else self.lq + self.s[:, None]
        teacher = self.lp if self.u is None else self.lp + self.u[:, None]
        return student, teacher


class Shared(NamedTuple):
    """How distributions are compared: (student's, teacher's) ids of the shared tokens, the JSD's beta, the rest."""

    ids_U2: Tensor
    beta: float
    rest: str
    unmatched: float


def sorted_gap(two: Two, top: int, gradient: bool) -> Scaled:
    """`sum_i |sort(e^s q)_i - sort(e^u p)_i|`; with `top`, of so many and of the sum of what is left."""
    q, p = (logs.exp() for logs in two.scaled())
    h, value = _gap(q, p, top, gradient)  # [C, V], [C]
    if h is None:
        return Scaled(value)
    # The softmax takes q times the sum of all slopes off every logit.
    total = h.sum(-1)
    slope = h - two.lq.exp() * total[:, None]
    return Scaled(value, slope, total)


def within(how: Shared, two: Two, gradient: bool) -> Scaled:
    """JSD on the shared tokens and the rest as one class, plus the sorted distance of the rest where asked."""
    lq, lp = two.lq, two.lp
    student_ids, teacher_ids = how.ids_U2.T
    student_others, teacher_others = _others(student_ids, lq), _others(teacher_ids, lp)
    others = student_others, teacher_others
    both_have_others = len(student_others) > 0 and len(teacher_others) > 0

    # At its ends the JSD is one of the KLs.
    ends = {0.0: divergence._forward, 1.0: divergence._reverse}
    kind = ends.get(how.beta, partial(divergence._jsd, how.beta))

    # What is left outside the shared tokens is a class of its own, unless nothing can be there.
    student, teacher = two.scaled()
    shared = student[:, student_ids], teacher[:, teacher_ids]  # [C, U] each
    has_bucket = how.rest != "renormalise" and (two.s is not None or both_have_others)
    if not has_bucket:
        scaled = _renormalised(kind, student_ids, lq, shared, gradient)
    elif two.s is None:
        scaled = _bucket(kind, student_ids, two, (shared, others), gradient)
    else:
        scaled = _merged(kind, student_ids, lq, shared, gradient)
    if how.rest == "uld" and how.unmatched and both_have_others:
        outside = student[:, student_others].exp(), teacher[:, teacher_others].exp()
        scaled = _with_rest(scaled, how.unmatched, lq, (outside, student_others), gradient)
    return scaled


def _renormalised(
    kind: Distance, ids: Tensor, lq: Tensor, shared: tuple[Tensor, Tensor], gradient: bool
) -> Scaled:
    """Both sides within the shared tokens alone: factors cancel."""
    student, teacher = (side - side.logsumexp(1, keepdim=True) for side in shared)
    value, slope = kind(student, teacher, gradient)
    if slope is not None:
        slope = torch.zeros_like(lq).scatter_(1, _rows(ids, lq), slope)  # [C, U] -> [C, V]
    return Scaled(value, slope, torch.zeros_like(value))


def _bucket(
    kind: Distance,
    ids: Tensor,
    two: Two,
    cut: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    gradient: bool,
) -> Scaled:
    """The tail's share of the slope goes to the tokens outside in proportion to q."""
    (left, right), (outside, other) = cut
    tail = two.lq[:, outside].logsumexp(1, keepdim=True)  # [C, 1]
    teacher_tail = two.lp[:, other].logsumexp(1, keepdim=True)
    student_classes = torch.cat([left, tail], 1)  # [C, U + 1]
    teacher_classes = torch.cat([right, teacher_tail], 1)
    value, slope = kind(student_classes, teacher_classes, gradient)
    if slope is None:
        return Scaled(value)
    share_of_tail = (two.lq[:, outside] - tail).exp()  # [C, V - U]
    whole = torch.empty_like(two.lq)  # [C, V]
    whole[:, ids] = slope[:, :-1]
    whole[:, outside] = share_of_tail * slope[:, -1:]
    return Scaled(value, whole)


def _merged(
    kind: Distance, ids: Tensor, lq: Tensor, shared: tuple[Tensor, Tensor], gradient: bool
) -> Scaled:
    """Scaled distributions: the tail is 1 minus what is shared, so it also holds the texts that begin otherwise.

    With slopes d of the classes' logits, S the student's shared mass after scaling and t the tail: the slope of the
    factor is -d_t / (1 - S), that of a shared log-probability d_j + (slope of the factor) e^s q_j.
    """
    # Of each side the shared tokens and the tail, as [C, U + 1] classes.
    classes, tails = [], []
    for side in shared:
        mass = side.logsumexp(1, keepdim=True).clamp_max(MOST)
        tail = log1mexp(mass)  # [C, 1]
        tails.append(tail)
        classes.append(torch.cat([side, tail], 1))
    value, slope = kind(classes[0], classes[1], gradient)
    if slope is None:
        return Scaled(value)
    factor = -slope[:, -1:] / tails[0].exp()  # [C, 1]
    pulled = slope[:, :-1] + factor * shared[0].exp()  # [C, U]
    # h_j sums to the factor's slope, and the softmax takes q times that sum off every logit.
    whole = (-factor * lq.exp()).scatter_add_(1, _rows(ids, lq), pulled)  # [C, V]
    return Scaled(value, whole, factor.squeeze(1))


def _with_rest(
    scaled: Scaled,
    weight: float,
    lq: Tensor,
    outside: tuple[tuple[Tensor, Tensor], Tensor],
    gradient: bool,
) -> Scaled:
    """Plus the sorted distance of the tokens outside, whose ids come last in `outside`."""
    (q, p), ids = outside
    h, gap = _gap(q, p, 0, gradient)  # [C, V - U], [C]
    value = scaled.value + weight * gap
    if h is None or scaled.slope is None:
        return Scaled(value)
    total = weight * h.sum(-1)
    slope = scaled.slope - lq.exp() * total[:, None]
    slope.index_add_(1, ids, weight * h)
    scale = total
    if scaled.scale is not None:
        scale = scaled.scale + total
    return Scaled(value, slope, scale)


def _gap(q: Tensor, p: Tensor, top: int, gradient: bool) -> tuple[Tensor | None, Tensor]:
    """Sorted entries' distance, and its slope with respect to log q of each entry (the order held constant)."""
    k = min(top or q.shape[1], q.shape[1])
    w = min(top or p.shape[1], p.shape[1])
    student_best, order = q.topk(k, 1)  # [C, k]
    teacher_best, _ = p.topk(w, 1)  # [C, w]
    # The shorter side is padded with zeros.
    width = max(k, w)
    student_padded = pad(student_best, (0, width - k))
    teacher_padded = pad(teacher_best, (0, width - w))
    gap = student_padded - teacher_padded  # [C, width]
    value = gap.abs().sum(1)
    sign = torch.zeros_like(q)
    if top:
        # What is left of both counts as one entry.
        student_left = q.sum(1) - student_best.sum(1)
        teacher_left = p.sum(1) - teacher_best.sum(1)
        left = student_left - teacher_left  # [C]
        value = value + left.abs()
        sign = left.sign()[:, None].expand_as(q).clone()
    if not gradient:
        return None, value
    return sign.scatter_(1, order, gap[:, :k].sign()).mul_(q), value


def _others(ids: Tensor, logs: Tensor) -> Tensor:
    """The vocabulary's tokens that are not among these."""
    is_other = torch.ones(logs.shape[1], dtype=torch.bool, device=logs.device)
    is_other[ids] = False
    return is_other.nonzero().squeeze(1)


def _rows(ids: Tensor, like: Tensor) -> Tensor:
    return ids[None].expand(len(like), -1)
