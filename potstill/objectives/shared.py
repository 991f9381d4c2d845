"""Distances between distributions over two vocabularies, with their gradients in closed form.

A distance gives its value, its slope with respect to the student's *logits*, and with respect to the student's factor.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

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
        return tuple(  # type: ignore[return-value]
            logs if factor is None else logs + factor[:, None]
            for logs, factor in ((self.lq, self.s), (self.lp, self.u))
        )


class Shared(NamedTuple):
    """How distributions are compared: (student's, teacher's) ids of the shared tokens, the JSD's beta, the rest."""

    ids_U2: Tensor
    beta: float
    rest: str
    unmatched: float


def sorted_gap(two: Two, top: int, gradient: bool) -> Scaled:
    """`sum_i |sort(e^s q)_i - sort(e^u p)_i|`; with `top`, of so many and of the sum of what is left."""
    q, p = (logs.exp() for logs in two.scaled())
    h, value = _gap(q, p, top, gradient)
    if h is None:
        return Scaled(value)
    total = h.sum(-1)
    return Scaled(value, h - two.lq.exp() * total[:, None], total)


def within(how: Shared, two: Two, gradient: bool) -> Scaled:
    """JSD on the shared tokens and the rest as one class, plus the sorted distance of the rest where asked."""
    lq, lp = two.lq, two.lp
    mine, theirs = how.ids_U2.T
    others = _others(mine, lq), _others(theirs, lp)
    kind = {0.0: divergence._forward, 1.0: divergence._reverse}.get(
        how.beta, partial(divergence._jsd, how.beta)
    )
    left, right = two.scaled()
    shared = left[:, mine], right[:, theirs]
    bucket = how.rest != "renormalise" and (two.s is not None or all(len(side) for side in others))
    if not bucket:
        found = _renormalised(kind, mine, lq, shared, gradient)
    elif two.s is None:
        found = _bucket(kind, mine, two, (shared, others), gradient)
    else:
        found = _merged(kind, mine, lq, shared, gradient)
    if how.rest == "uld" and how.unmatched and all(len(side) for side in others):
        rest = left[:, others[0]].exp(), right[:, others[1]].exp()
        found = _with_rest(found, how.unmatched, lq, (rest, others[0]), gradient)
    return found


def _renormalised(
    kind: Distance, ids: Tensor, lq: Tensor, shared: tuple[Tensor, Tensor], gradient: bool
) -> Scaled:
    """Both sides within the shared tokens alone: factors cancel."""
    mine, theirs = (side - side.logsumexp(1, keepdim=True) for side in shared)
    value, slope = kind(mine, theirs, gradient)
    zero = torch.zeros_like(value)
    return Scaled(
        value,
        None if slope is None else torch.zeros_like(lq).scatter_(1, _rows(ids, lq), slope),
        zero,
    )


def _bucket(
    kind: Distance,
    ids: Tensor,
    two: Two,
    cut: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    gradient: bool,
) -> Scaled:
    """The tail's share of the slope goes to the tokens outside in proportion to q."""
    (left, right), (outside, other) = cut
    tail = two.lq[:, outside].logsumexp(1, keepdim=True)
    theirs = two.lp[:, other].logsumexp(1, keepdim=True)
    value, slope = kind(torch.cat([left, tail], 1), torch.cat([right, theirs], 1), gradient)
    if slope is None:
        return Scaled(value)
    whole = torch.empty_like(two.lq)
    whole[:, ids] = slope[:, :-1]
    whole[:, outside] = (two.lq[:, outside] - tail).exp() * slope[:, -1:]
    return Scaled(value, whole)


def _merged(
    kind: Distance, ids: Tensor, lq: Tensor, shared: tuple[Tensor, Tensor], gradient: bool
) -> Scaled:
    """Scaled distributions: the tail is 1 minus what is shared, so it also holds the texts that begin otherwise.

    With slopes d of the classes' logits, S the student's shared mass after scaling and t the tail: the slope of the
    factor is -d_t / (1 - S), that of a shared log-probability d_j + (slope of the factor) e^s q_j.
    """
    masses = [side.logsumexp(1, keepdim=True).clamp_max(MOST) for side in shared]
    classes = [torch.cat([side, log1mexp(mass)], 1) for side, mass in zip(shared, masses)]
    value, slope = kind(classes[0], classes[1], gradient)
    if slope is None:
        return Scaled(value)
    factor = -slope[:, -1:] / log1mexp(masses[0]).exp()
    pulled = slope[:, :-1] + factor * shared[0].exp()
    # h_j sums to the factor's slope, and the softmax takes q times that sum off every logit.
    return Scaled(
        value, (-factor * lq.exp()).scatter_add_(1, _rows(ids, lq), pulled), factor.squeeze(1)
    )


def _with_rest(
    found: Scaled,
    weight: float,
    lq: Tensor,
    rest: tuple[tuple[Tensor, Tensor], Tensor],
    gradient: bool,
) -> Scaled:
    """Plus the sorted distance of the tokens outside, whose ids come last in `rest`."""
    (q, p), ids = rest
    h, value = _gap(q, p, 0, gradient)
    value = found.value + weight * value
    if h is None or found.slope is None:
        return Scaled(value)
    total = weight * h.sum(-1)
    slope = found.slope - lq.exp() * total[:, None]
    slope.index_add_(1, ids, weight * h)
    return Scaled(value, slope, total if found.scale is None else found.scale + total)


def _gap(q: Tensor, p: Tensor, top: int, gradient: bool) -> tuple[Tensor | None, Tensor]:
    """Sorted entries' distance, and its slope with respect to log q of each entry (the order held constant)."""
    k, w = (min(top, side.shape[1]) if top else side.shape[1] for side in (q, p))
    (best, order), (theirs, _) = q.topk(k, 1), p.topk(w, 1)
    width = max(k, w)
    gap = torch.nn.functional.pad(best, (0, width - k)) - torch.nn.functional.pad(
        theirs, (0, width - w)
    )
    left = (q.sum(1) - best.sum(1)) - (p.sum(1) - theirs.sum(1))
    value = gap.abs().sum(1) + (left.abs() if top else 0)
    if not gradient:
        return None, value
    sign = left.sign()[:, None].expand_as(q).clone() if top else torch.zeros_like(q)
    return sign.scatter_(1, order, gap[:, :k].sign()).mul_(q), value


def _others(ids: Tensor, logs: Tensor) -> Tensor:
    """The vocabulary's tokens that are not among these."""
    kept = torch.ones(logs.shape[1], dtype=torch.bool, device=logs.device)
    kept[ids] = False
    return kept.nonzero().squeeze(1)


def _rows(ids: Tensor, like: Tensor) -> Tensor:
    return ids[None].expand(len(like), -1)
