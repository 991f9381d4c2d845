"""Distillation across tokenizers: distances between distributions over different vocabularies.

Positions are compared group by group of bytes (`alignment.py`), never by index. With `merge="initial"`, the default, a
group's first positions are compared: only there have both models read the same text. With `merge="bayesian"` (GOLD's
name) it is the last positions, each distribution times the probability of the group's earlier tokens, by the chain rule
and with row k predicting token k: `Q(v) = q(v | earlier) prod_k q(token_k)`. The mass that a merged distribution lacks
to 1 is that of all texts that begin otherwise.

A group's loss stands at the position whose distribution is compared; other positions have the cross-entropy alone. All
are losses per token: nothing is divided by counts of a micro-batch, so that accumulation can't change anything. The
papers' mean over aligned positions is the sum over `compared(x)` divided by how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from potstill.errors import ConfigError
from potstill.objectives import ranges
from potstill.objectives.chunked import Kernel, full, losses, rows_at_once, teacher_logits
from potstill.objectives.inputs import Inputs, Loss, OtherVocabulary, Sum, summed
from potstill.objectives.likelihood import nll, token_logp
from potstill.objectives.numerics import LEAST, finite
from potstill.objectives.shared import Scaled, Shared, Two, sorted_gap, within
from potstill.objectives.sinkhorn import transport

Merge: TypeAlias = Literal["initial", "bayesian"]
Rest: TypeAlias = Literal["bucket", "renormalise", "uld"]
MERGES, RESTS = ("initial", "bayesian"), ("bucket", "renormalise", "uld")
STEADY = 1e-4  # added to a standard deviation that divides


class Pairs(NamedTuple):
    """What is compared: for each student position the teacher's partner (-1: none), and the earlier tokens' log P."""

    teacher: OtherVocabulary
    partner_N: Tensor
    before_N: Tensor | None = None  # student's, in its graph
    before_M: Tensor | None = None


def uld(
    x: Inputs,
    *,
    weight: float = 1.5,
    ce: float = 1.0,
    merge: Merge = "initial",
    top: int = 0,
    temperature: float = 1.0,
    chunk: int = 0,
) -> Loss:
    """`ce NLL + weight sum_i |sort(q)_i - sort(p)_i|` (Boizard et al., arXiv:2402.12030, eq. 4 and 5).

    Sorted decreasingly, the shorter vocabulary padded with zeros afterwards: the Wasserstein distance where every two
    different tokens are equally far. It knows no identities, so entropies alone can match: never without `ce`.

    Departures: byte groups where the paper compares position t with position t. TRL's ULDLoss gives the same at equal
    groups only with merge strategy "bayesian": its default reads probabilities one position off (0.5967 for 0.4554).

    Args:
        top: compare only so many of the largest entries and what is left as one; 0 is all, which sorts the vocabulary.
    """
    ranges.not_negative("uld", weight=weight, ce=ce, top=top)
    ranges.positive("uld", temperature=temperature)
    pairs = _pairs(x, "uld", merge, temperature, chunk)

    def gap(two: Two, gradient: bool) -> Scaled:
        plain = sorted_gap(two, top, gradient)
        slope, scale = _times(plain.slope, weight), _times(plain.scale, weight)
        return Scaled(weight * plain.value, slope, scale)

    return _compared(x, pairs, gap, ce=ce, temperature=temperature, chunk=chunk)


def gold(
    x: Inputs,
    *,
    beta: float = 0.5,
    rest: Rest = "bucket",
    unmatched: float = 1.0,
    ce: float = 0.0,
    merge: Merge = "initial",
    temperature: float = 1.0,
    chunk: int = 0,
) -> Loss:
    """`ce NLL + JSD_beta` over the tokens that both vocabularies spell with the same bytes (GOLD: TRL, experimental).

    beta as in `divergence.jsd`: 0 is the forward and 1 the reverse KL. Both sides are distributions: what lies outside
    the shared tokens is one class (`bucket`), or is left out of both (`renormalise`); `uld` is the bucket plus
    `unmatched` times ULD's distance of the entries outside (GOLD's hybrid, whose weights may also follow the share of
    the vocabulary that is matched; here they are constants).

    Departures from TRL 1.16, whose hybrid compares sub-distributions that do not sum to 1, clamped at 1e-8: equal to
    `uld` only in its unmatched part. Its loss is divided by counts of the micro-batch (and its gradients drift apart by
    the square of the accumulation), its merging is one position off by default, its offsets fail for SentencePiece.
    """
    ranges.share("gold", beta=beta)
    ranges.not_negative("gold", unmatched=unmatched, ce=ce)
    ranges.positive("gold", temperature=temperature)
    if rest not in RESTS:
        raise ConfigError(
            f"unknown rest={rest!r} of gold", available=RESTS, wanted=str(rest), fix="rest=bucket"
        )
    pairs = _pairs(x, "gold", merge, temperature, chunk)
    if pairs.teacher.matched_U2 is None:
        raise ConfigError(
            "gold needs the tokens that both vocabularies have", expected="matched_U2", fix="uld"
        )
    shared = partial(within, Shared(pairs.teacher.matched_U2, beta, rest, unmatched))
    return _compared(x, pairs, shared, ce=ce, temperature=temperature, chunk=chunk)


def multilevel_ot(
    x: Inputs,
    *,
    top: int = 50,
    weight: float = 1.5,
    log: float = 0.1,
    sequence: float = 1e-4,
    epsilon: float = 0.1,
    ce: float = 1.0,
    chunk: int = 0,
) -> Loss:
    """`ce NLL + weight (HAD + log CE + sequence SD)`, tokens ordered by the sequence (Cui et al., arXiv:2412.14528).

    z / std(z) makes scales alike; of each side the `top` tokens with the largest sums over the *sequence* are kept and
    numbered by them, so a token keeps its partner throughout. HAD is `sum_i |q_i - p_i|`, CE `-sum_i p_i log q_i`, SD
    the Sinkhorn distance of the two sequences of these vectors under the L1 cost.

    A banned token is not counted in a deviation.

    Departures from the repository, which is not what the paper says: no second softmax over probabilities, the teacher
    is CE's target (there it is inside the logarithm), and the plan has mass 1, not the number of positions, so that SD
    does not grow with length.
    """
    ranges.positive("multilevel_ot", top=top, epsilon=epsilon)
    ranges.not_negative("multilevel_ot", weight=weight, log=log, sequence=sequence, ce=ce)
    pairs = _pairs(x, "multilevel_ot", "initial", 1.0, chunk)
    values = losses(x, _scaled(nll(x.targets_N), ce), chunk=chunk)
    compared_N = (pairs.partner_N >= 0).nonzero().squeeze(1)
    parts: dict[str, list[Tensor]] = {"had": [], "log": [], "sequence": []}
    for number in x.groups[compared_N].unique():
        # n positions of this sequence that have a partner.
        at_n = compared_N[x.groups[compared_N] == number]
        partner_n = pairs.partner_N[at_n]
        lq = _leading(x.head, x.hidden_ND[at_n], top, chunk)  # [n, student's top]
        with torch.no_grad():
            teacher_hidden = pairs.teacher.hidden_MDt[partner_n]  # [n, Dt]
            lp = _leading(pairs.teacher.head, teacher_hidden, top, chunk)  # [n, teacher's top]
            p = lp.exp()

        # Both sides as vectors of one length, [n, width]: the shorter vocabulary has zeros behind.
        student_top, teacher_top = lq.shape[1], p.shape[1]
        width = max(student_top, teacher_top)
        q = pad(lq.exp(), (0, width - student_top))
        p = pad(p.to(lq.dtype), (0, width - teacher_top))

        # The three terms of each position, [n].
        had = (q - p).abs().sum(1)
        cross_entropy = -(p[:, :student_top] * lq).sum(1)
        cost_nn = torch.cdist(q, p, p=1)
        moved = transport(cost_nn, epsilon=epsilon)
        parts["had"].append(had)
        parts["log"].append(cross_entropy)
        parts["sequence"].append(moved)
        loss = had + log * cross_entropy + sequence * moved
        values = values.index_add(0, at_n, weight * loss)
    stats = {}
    for name, part in parts.items():
        if part:
            stats[name] = summed(torch.cat(part))
    return Loss(values, stats)


def group_logp(logp: Tensor, numbers: Tensor, groups: int) -> Tensor:
    """log P of each group's text: the sum of its tokens' log-probabilities.

    Teacher's minus student's is the advantage of a group, where tokens can't be compared (on-policy distillation
    across tokenizers); `numbers` are `aligned_N` or `aligned_M`.
    """
    inside = numbers >= 0
    zeros = logp.new_zeros(groups)
    return zeros.index_add(0, numbers[inside], logp[inside])  # [N] -> [groups]


def compared(x: Inputs, *, merge: Merge = "initial") -> Tensor:
    """Whether a position carries the loss of a group, [N]."""
    return _pairs(x, "compared", merge, 1.0, 0, scalars=False).partner_N >= 0


def _pairs(
    x: Inputs, name: str, merge: str, temperature: float, chunk: int, *, scalars: bool = True
) -> Pairs:
    """The positions to be compared, of groups that both sides have."""
    if merge not in MERGES:
        raise ConfigError(
            f"unknown merge={merge!r} of {name}",
            available=MERGES,
            wanted=merge,
            fix="merge=initial",
        )
    teacher = x.teacher
    if (
        not isinstance(teacher, OtherVocabulary)
        or teacher.aligned_N is None
        or teacher.aligned_M is None
    ):
        raise ConfigError(
            f"{name} needs a teacher of another vocabulary whose tokens are aligned with the student's",
            expected="OtherVocabulary with aligned_N and aligned_M (alignment.columns)",
            fix="forward_kl and its kin compare one vocabulary",
        )
    # Groups are numbered from 0 on both sides alike; either side may lack the last ones.
    largest_numbers = []
    for side in (teacher.aligned_N, teacher.aligned_M):
        if len(side):
            largest_numbers.append(int(side.max()))
    group_count = 1 + max(largest_numbers, default=-1)

    # Of each group, where it is compared on either side.
    at_last = merge == "bayesian"
    student_G = _edges(teacher.aligned_N, group_count, at_last)
    teacher_G = _edges(teacher.aligned_M, group_count, at_last)
    has_student_G = student_G >= 0
    partner_N = torch.full_like(teacher.aligned_N, -1)
    partner_N[student_G[has_student_G]] = teacher_G[has_student_G]
    if not at_last or not scalars:
        return Pairs(teacher, partner_N)

    # What each side said before in the group scales its whole distribution.
    before_N = _log_probs_before(x, teacher.aligned_N, student_G, temperature, chunk)
    with torch.no_grad():
        of_teacher = Inputs(teacher.hidden_MDt, teacher.head, teacher.targets_M)
        before_M = _log_probs_before(of_teacher, teacher.aligned_M, teacher_G, temperature, chunk)
    return Pairs(teacher, partner_N, before_N, before_M)


def _edges(group_N: Tensor, group_count: int, at_last: bool) -> Tensor:
    """The first or last position of each group, [G], -1 where a side has none of it."""
    position_N = torch.arange(len(group_N), device=group_N.device)
    inside = group_N >= 0
    edges_G = torch.full((group_count,), -1, dtype=position_N.dtype, device=position_N.device)
    reduction = "amax" if at_last else "amin"
    return edges_G.scatter_reduce(
        0, group_N[inside], position_N[inside], reduction, include_self=False
    )


def _log_probs_before(
    x: Inputs, group_N: Tensor, last_G: Tensor, temperature: float, chunk: int
) -> Tensor:
    """At each group's last position the sum of the log-probabilities of its earlier tokens, [N]; 0 elsewhere."""
    position_N = torch.arange(len(group_N), device=last_G.device)
    last_of_group_N = last_G[group_N.clamp_min(0)]
    is_earlier_N = (group_N >= 0).logical_and(last_of_group_N != position_N)
    at = is_earlier_N.nonzero().squeeze(1)  # the earlier tokens of all groups
    earlier = Inputs(x.hidden_ND[at], x.head, x.targets_N[at])
    if temperature != 1:
        earlier = Inputs(
            x.hidden_ND[at], lambda hidden: x.head(hidden) / temperature, x.targets_N[at]
        )
    log_probs = token_logp(earlier, chunk=chunk)

    # Summed where the last token of their group stands.
    zeros_N = log_probs.new_zeros(len(group_N))
    return zeros_N.index_add(0, last_of_group_N[at], log_probs)


def _compared(
    x: Inputs,
    pairs: Pairs,
    distance: Callable[[Two, bool], Scaled],
    *,
    ce: float,
    temperature: float,
    chunk: int,
) -> Loss:
    """The cross-entropy of every position plus the distance of those compared, in one pass over the vocabulary.

    A merged distribution's factor has a graph of its own: the kernel notes what the distance would gain by it, and a
    term of value 0 carries that on.
    """
    before = pairs.before_N
    gain = None if before is None else torch.zeros_like(before)
    apart = full(x.hidden_ND.new_zeros(len(x.targets_N)))

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        # The rows of this chunk that have a partner, and the partners.
        at = (pairs.partner_N[rows] >= 0).nonzero().squeeze(1)
        partner = pairs.partner_N[rows][at]
        # Before the cross-entropy, which overwrites the logits.
        lq = finite((logits[at] / temperature).log_softmax(-1))  # [c, V]
        value, slope = _scaled(nll(x.targets_N), ce)(logits, rows, gradient)
        if not len(at):
            return value, slope
        logits_cW = teacher_logits(pairs.teacher.head, pairs.teacher.hidden_MDt[partner])
        lp = finite((logits_cW / temperature).log_softmax(-1))  # [c, W]

        # The factors of merged groups, [c].
        s = None if before is None else before.detach()[rows][at]
        u = None if pairs.before_M is None else pairs.before_M[partner].to(lp.dtype)
        both = Two(lq, lp.to(lq.dtype), s, u)
        needs_slopes = gradient or gain is not None
        # Products of probabilities are no work for bfloat16.
        with torch.autocast(lq.device.type, enabled=False):
            scaled = distance(both, needs_slopes)
        apart[rows.start + at] = scaled.value
        if gain is not None:
            gain[rows.start + at] = scaled.scale
        if slope is not None and scaled.slope is not None:
            slope.index_add_(0, at, scaled.slope / temperature)
        return value.index_add(0, at, scaled.value), slope

    values = losses(x, kernel, chunk=chunk)
    if gain is not None and before is not None:
        # A copy: backwards the kernel may run and note the gain once more.
        values = values + gain.clone() * (before - before.detach())
    return Loss(values, {"across": Sum(apart.sum(), (pairs.partner_N >= 0).sum())})


def _scaled(kernel: Kernel, factor: float) -> Kernel:
    """A kernel times a constant; none of its work where that is 0."""

    def times(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        if not factor:
            return logits.new_zeros(len(logits)), logits.zero_() if gradient else None
        value, slope = kernel(logits, rows, gradient)
        return factor * value, _times(slope, factor)

    return times


def _times(slope: Any, factor: float) -> Any:
    return slope if slope is None or factor == 1 else slope.mul_(factor)


def _leading(head: Any, hidden: Tensor, top: int, chunk: int) -> Tensor:
    """Log-probabilities (logits over their deviation) of the tokens most probable in all rows together, best first."""
    vocabulary = int(head(hidden[:1].detach()).shape[-1])
    chunk = chunk or rows_at_once(vocabulary, hidden)

    # First which tokens have the most probability in all rows together.
    sums: Tensor | None = None  # [V]
    with torch.no_grad():
        for start in range(0, len(hidden), chunk):
            log_probs = _standardised(head, hidden[start : start + chunk])  # [c, V]
            part = log_probs.exp().sum(0)
            sums = part if sums is None else sums + part
    assert sums is not None
    ids = sums.topk(min(top, len(sums))).indices

    # Then these alone, a chunk of rows at a time, recomputed backwards.
    pieces = []
    for start in range(0, len(hidden), chunk):
        part = hidden[start : start + chunk]
        pieces.append(
            checkpoint(lambda part: _standardised(head, part)[:, ids], part, use_reentrant=False)
        )
    return torch.cat(pieces)  # [n, top]


def _standardised(head: Any, hidden: Tensor) -> Tensor:
    """log softmax of the logits over their deviation, [n, V]."""
    logits = full(head(hidden))
    banned = logits.isneginf()
    count = (~banned).sum(-1, keepdim=True)
    mean = logits.masked_fill(banned, 0).sum(-1, keepdim=True) / count
    # A banned token stands at the mean, adding nothing to the squares, and is not counted.
    correction = (logits.shape[-1] - 1) / (count - 1).clamp_min(1)
    deviation = logits.where(~banned, mean).std(-1, keepdim=True) * correction.sqrt()  # [n, 1]
    scaled = logits.masked_fill(banned, 0) / (deviation + STEADY)
    scaled = scaled.masked_fill(banned, LEAST)
    return scaled.log_softmax(-1).clamp_min(LEAST)
