"""Distances between the teacher's and the student's next-token distributions, for one vocabulary.

p is the teacher's distribution, q the student's, both at the temperature; lp, lq their logs. Forward is KL(p || q),
reverse KL(q || p). Each objective takes the teacher's full logits, its states and head, or its cached top-k logits with
a tail bucket; gradients are closed forms (`_forward` … below, after the reference's table 2.4), checked against
autograd.

Temperature divides both logits; `squared` multiplies by its square, as classical distillation does and TRL does not.
`kd` below 1 mixes: (1 - kd) times the likelihood of the target plus kd times the distance.

Heads of different widths, as two checkpoints of a family may be padded, are compared on the tokens that both have, each
side renormalised there. A banned token (minus infinity) has a log-probability of -1e5, so that no value is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor

from potstill.errors import ConfigError
from potstill.objectives import ranges
from potstill.objectives.chunked import Kernel, full, losses, pieced, teacher_logits
from potstill.objectives.hooks import ConstantSchedule, Hooks, Mistake
from potstill.objectives.inputs import (
    Hidden,
    Inputs,
    Logits,
    Loss,
    Several,
    Sum,
    TopK,
    per_sequence,
    summed,
)
from potstill.objectives.likelihood import nll, token_logp
from potstill.objectives.numerics import LEAST, finite, vecdot
from potstill.objectives.schedules import FIRST, FirstStepAnchors, TaidSchedule, distillm2_skew
from potstill.objectives.truncated import Tail, truncated

# Of which a teacher's likeliest tokens are compared with its weights (`potstill check teacher`).
COMPARED_BY_ENTRIES = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl")


def forward_kl(x: Inputs, **how: Any) -> Loss:
    """`sum p (lp - lq)`: covers all that the teacher does (Hinton et al., arXiv:1503.02531, sec. 2). Gradient `q - p`.

    Departure: the KL and not the cross-entropy `-sum p lq` of the paper (and of DistiLLM's, MiniLLM's and TAID's code),
    whose gradient is the same and whose value is larger by the teacher's entropy.
    """
    return _divergence(x, "forward_kl", _forward, **how)


def reverse_kl(x: Inputs, **how: Any) -> Loss:
    """`sum q (lq - lp)`: seeks the teacher's modes (MiniLLM's single-step term, arXiv:2306.08543)."""
    return _divergence(x, "reverse_kl", _reverse, **how)


def jsd(x: Inputs, *, beta: float = 0.5, **how: Any) -> Loss:
    """`beta KL(p || m) + (1 - beta) KL(q || m)`, m = beta p + (1 - beta) q (GKD, arXiv:2306.13649, eq. 1).

    At 0 it is the forward and at 1 the reverse KL, as everywhere; the formula itself tends to 0 there, so values near
    the ends are on another scale.

    GKD's lambda is the stage's `on_policy_fraction`: the share of steps whose texts the student writes. The other
    steps have the stage's rows, so TRL's `seq_kd=True` is a method that yields what it sampled from the teacher,
    `Stage(student, sample(teacher, problems), "jsd", teacher=teacher, on_policy_fraction=0.5)`, and `seq_kd=False`
    one that yields the data set's solutions. Departure: the teacher's texts are sampled once, TRL's anew in every
    epoch; `n` of `sample` gives as many as there are epochs.
    """
    _check_share(beta, "beta of jsd")
    kind = {0.0: _forward, 1.0: _reverse}.get(float(beta), partial(_jsd, beta))
    return _divergence(x, "jsd", kind, **how)


def tvd(x: Inputs, **how: Any) -> Loss:
    """Total variation, `sum |p - q| / 2` (Wen et al., arXiv:2307.15190); gradient `P[sign(q - p)] / 2`."""
    return _divergence(x, "tvd", _tvd, **how)


def skew_kl(x: Inputs, *, skew: float = 0.1, **how: Any) -> Loss:
    """`KL(p || skew p + (1 - skew) q)`, at most -ln(skew) (DistiLLM, arXiv:2402.03898, eq. 5)."""
    _check_share(skew, "skew", below=1)
    return _divergence(x, "skew_kl", partial(_skew, skew) if skew else _forward, **how)


def skew_reverse_kl(x: Inputs, *, skew: float = 0.1, detach: bool = False, **how: Any) -> Loss:
    """`KL(q || (1 - skew) p + skew q)` (DistiLLM, arXiv:2402.03898).

    `detach` holds the mixture's student part constant (DistiLLM-2's code).
    """
    _check_share(skew, "skew", below=1)
    return _divergence(
        x, "skew_reverse_kl", partial(_skew_reverse, skew, detach) if skew else _reverse, **how
    )


def adaptive_kl(x: Inputs, *, mu: float = 0.5, **how: Any) -> Loss:
    """`w KL(p || q) + (1 - w) KL(q || p)`, w the head's share of the gap |p - q| (Wu et al., arXiv:2404.02657).

    The tail are the teacher's smallest classes while their cumulative mass is below mu, the head the rest. w is held
    constant.
    """
    _check_share(mu, "mu")
    return _divergence(x, "adaptive_kl", partial(_adaptive, mu), **how)


def taid(x: Inputs, *, t: float = 1.0, **how: Any) -> Loss:
    """`KL(p_t || q)`, p_t = softmax((1 - t) sg(z_student) + t z_teacher) (TAID, arXiv:2501.16937, eq. 4).

    Departure: the repository's cross-entropy form has the same gradient and a value larger by p_t's entropy. t comes
    from `schedules.Taid`.
    """
    _check_share(t, "t of taid")
    _refuse_top_k(x, "taid")
    return _divergence(x, "taid", partial(_taid, t), raw=True, **how)


def self_evolution(
    x: Inputs, *, prior: float = 0.5, gold: float = 0.5, threshold: float = 1.0, **how: Any
) -> Loss:
    """`KL(p || a g + (1 - a) q)`, g = gold onehot(y) + (1 - gold) p; a = prior where KL(g || q) > threshold, else 0.

    Hard tokens, those of which the student is far from gold and teacher, are given a part of the answer: prior
    knowledge in the student's own distribution. Easy ones are compared as the forward KL does, which is all of them at
    prior 0 (Self-Evolution KD, arXiv:2412.15303, known from its abstract and a description of its two stages).

    (inferred: all three constants, one threshold for all tokens, and the teacher alone as the target.)
    """
    _check_share(prior, "prior of self_evolution", below=1)
    _check_share(gold, "gold of self_evolution")
    ranges.not_negative("self_evolution", threshold=threshold)
    _refuse_top_k(x, "self_evolution")
    distance = partial(_self_evolution, prior=prior, gold=gold, threshold=threshold)
    return _divergence(x, "self_evolution", distance, targets_N=x.targets_N, **how)


def kid(x: Inputs, *, mle: float = 1.0, temperature: float = 1.0, chunk: int = 0) -> Loss:
    """`KL(q || p) + mle 1[y is the reference's] (-log q(y))`, on texts with tokens of the student's own in them.

    The training loop puts them there (`Hooks.replaced_share`): at a share of the positions the student's likeliest
    token, from one pass over the reference, stands in its place, and student and teacher both read what came of it. So
    the student learns to go on from its own slips, without writing a text. Where a target is such a token
    (`x.replaced_N`), its likelihood is not learnt (KID, arXiv:2410.11371, known from its abstract and descriptions:
    masking, predicting, rewriting).

    (inferred: which positions, the likeliest token and not a drawn one, the weight of the likelihood.)
    """
    ranges.not_negative("kid", mle=mle)
    ranges.positive("kid", temperature=temperature)
    _refuse_top_k(x, "kid")
    distance = _whole(_teacher(x, "kid"), _reverse, temperature, raw=False)
    is_reference = torch.ones_like(x.targets_N, dtype=torch.bool)
    if x.replaced_N is not None:
        is_reference = ~x.replaced_N
    likelihood = nll(x.targets_N)

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        weight_C = mle * is_reference[rows].to(logits.dtype)
        value, slope = likelihood(logits.clone(), rows, gradient)
        apart, pull = distance(logits, rows, gradient)
        if slope is None or pull is None:
            return apart + weight_C * value, None
        return apart + weight_C * value, pull.addcmul_(slope, weight_C[:, None])

    values = losses(x, kernel, chunk=chunk)
    return Loss(
        values, {"kid": summed(values), "replaced": summed((~is_reference).to(values.dtype))}
    )


def cwtm(x: Inputs, *, chunk: int = 0) -> Loss:
    """`max p (-log q(y))`: labels weighted by the teacher's confidence.

    What is left of a teacher where nothing of what it says but how sure it is of its best token is learnt: a control of
    born-again networks (CWTM, Furlanello et al., arXiv:1805.04770, eq. 9). Departure: the paper divides by the sum of
    the batch's confidences; here it is a factor of the whole loss that is left out (the statistic `confidence` has it),
    so that micro-batches add up.
    """
    with torch.no_grad():
        confidence = _largest_shares(x, "cwtm", chunk)  # [N]
    values = losses(x, nll(x.targets_N), chunk=chunk) * confidence
    return Loss(values, {"cwtm": summed(values), "confidence": summed(confidence)})


def dkpp(x: Inputs, **how: Any) -> Loss:
    """`KL(p' || q)`, p' the teacher's with all shares but the largest given to other tokens: no dark knowledge is left.

    A control of born-again networks (DKPP, Furlanello et al., arXiv:1805.04770). Departure: each share goes to the next
    token of the vocabulary but the best one; the paper permutes them at random.
    """
    _refuse_top_k(x, "dkpp")
    return _divergence(x, "dkpp", _permuted, **how)


def distillm2(
    x: Inputs,
    *,
    skew: float = 0.1,
    student: float = 1.0,
    anchor: float | Sequence[float] | Literal["first"] = 0.0,
    **how: Any,
) -> Loss:
    """`(2 - b) KL(p || skew p + ..)` on the teacher's response plus `b KL(q || ..)` on the student's, b = `student`.

    Means over each sequence; a loss of a pair (DistiLLM-2, arXiv:2503.07067, eq. 8). The reverse mixture's student part
    is held constant, as in the authors' code.

    Args:
        anchor: what `skew` was chosen for: the mean gap of the first step, for the teacher's responses e^lp - e^lq and
            for the student's e^lq - e^lp (the statistics `gap` and `gap_student`), a number for each side or one for
            both. Each response then has a skew of its own, `schedules.distillm2_skew`. "first" asks the trainer for the
            two numbers: its first step has `skew` itself. 0 is off. (In the authors' code it is off unless switched on,
            and then what is taken for the anchor is no number, which an `except` turns into `skew`; this is what it
            says it does.)
    """
    if x.pairs_P2 is None:
        raise ConfigError(
            "distillm2 needs pairs", expected="(teacher's, student's) responses of each prompt"
        )
    better, worse = x.pairs_P2.T
    precise = full(x.hidden_ND[:0]).dtype
    values = x.hidden_ND.new_zeros(len(x.targets_N), dtype=precise)
    stats: dict[str, Sum] = {}
    lengths = x.lengths()
    skews: tuple[Tensor | None, Tensor | None] = (None, None)
    if anchor:
        skews, gap = _skews(x, skew, anchor, how.get("chunk", 0))
        stats = {"gap": summed(gap[better]), "gap_student": summed(-gap[worse])}

    # Each side of the pairs: its sequences, its share of the loss, its divergence, the skews of its responses.
    parts: tuple[tuple[Tensor, float, Any, dict[str, Any], Tensor | None], ...] = (
        (better, 2 - student, skew_kl, {"skew": skew}, skews[0]),
        (worse, student, skew_reverse_kl, {"skew": skew, "detach": True}, skews[1]),
    )
    for sequences, share, distance, constants, skew_S in parts:
        # A response may stand in several pairs.
        times_S = torch.bincount(sequences, minlength=len(lengths))
        # One pass over all responses of this side, or one for each where each has a skew of its own.
        passes = sequences[None] if skew_S is None else sequences.unique()[:, None]
        for some in passes:
            at = torch.isin(x.groups, some).nonzero().squeeze(1)
            if skew_S is not None:
                constants = {**constants, "skew": float(skew_S[some[0]])}
            loss = distance(_at(x, at), **constants, **how)
            group = x.groups[at]
            weighted = share * loss.values_N * times_S[group] / lengths[group]
            values = values.index_add(0, at, weighted)
            # Statistics of all passes are one sum.
            for name, (total, count) in loss.stats.items():
                before = stats.get(name)
                if before:
                    total, count = total + before.total, count + before.count
                stats[name] = Sum(total, count)
    return Loss(values, stats)


def _skews(
    x: Inputs, skew: float, anchor: float | Sequence[float] | str, chunk: int
) -> tuple[tuple[Tensor | None, Tensor | None], Tensor]:
    """The skews that a response has on the teacher's and on the student's side, [S] each, and its gap e^lp - e^lq."""
    teacher = x.teacher
    if isinstance(teacher, Logits):
        of_teacher = Inputs(teacher.logits_NV, lambda logits: logits, x.targets_N)
    elif isinstance(teacher, Hidden):
        of_teacher = Inputs(teacher.hidden_NDt, teacher.head, x.targets_N)
    else:
        raise ConfigError(
            "anchor needs the teacher's full logits", expected="a teacher at hand", fix="anchor=0"
        )
    if isinstance(anchor, str) and anchor != FIRST:
        raise ConfigError(
            f"distillm2: anchor={anchor!r} is no number",
            expected="numbers, or first",
            fix="anchor=0",
        )
    with torch.no_grad():
        lengths = x.lengths().clamp_min(1)
        lp = per_sequence(token_logp(of_teacher, chunk=chunk), x) / lengths  # [S]
        lq = per_sequence(token_logp(x, chunk=chunk), x) / lengths
    gap = lp.exp() - lq.exp()
    if isinstance(anchor, str):
        return (None, None), gap
    up, down = (anchor, anchor) if isinstance(anchor, int | float) else anchor
    return (distillm2_skew(lp, lq, up, base=skew), distillm2_skew(lq, lp, down, base=skew)), gap


def _at(x: Inputs, at: Tensor) -> Inputs:
    """Some of the positions, with their teacher."""
    teacher = x.teacher
    if isinstance(teacher, Hidden):
        teacher = Hidden(teacher.hidden_NDt[at], teacher.head)
    elif isinstance(teacher, Several):
        parts = tuple(Hidden(part.hidden_NDt[at], part.head) for part in teacher.parts)
        teacher = Several(parts, teacher.shares_NM[at])
    elif isinstance(teacher, Logits | TopK):
        teacher = type(teacher)(*(part[at] for part in teacher))
    return Inputs(x.hidden_ND[at], x.head, x.targets_N[at], teacher=teacher)


def _check_share(value: float, name: str, *, below: float = 2) -> None:
    if not 0 <= value <= 1 or value >= below:
        raise ConfigError(
            f"{name} is {value}", expected="a share of 1" + (", below 1" if below == 1 else "")
        )


def _largest_shares(x: Inputs, name: str, chunk: int) -> Tensor:
    """The probability of the teacher's best token at each position, [N]."""
    if isinstance(x.teacher, TopK):
        return full(x.teacher.logp_NK).max(-1).values.exp()
    teacher = _teacher(x, name)
    rows_at_once = chunk or 64
    shares = [x.hidden_ND.new_zeros(0, dtype=full(x.hidden_ND[:0]).dtype)]
    for start in range(0, len(x.targets_N), rows_at_once):
        logits = teacher(slice(start, min(start + rows_at_once, len(x.targets_N))))  # [C, V]
        shares.append((logits.max(-1).values - logits.logsumexp(-1)).exp())
    return torch.cat(shares)


def _refuse_top_k(x: Inputs, name: str) -> None:
    if isinstance(x.teacher, TopK):
        raise ConfigError(
            f"{name} needs the teacher's full logits",
            expected="a teacher at hand",
            fix="use forward_kl",
        )


def _divergence(
    x: Inputs,
    name: str,
    distance: Callable[..., tuple[Tensor, Tensor | None]],
    *,
    temperature: float = 1.0,
    squared: bool = False,
    kd: float = 1.0,
    tail: Tail = "bucket",
    **more: Any,
) -> Loss:
    chunk, raw, targets_N = (
        more.pop("chunk", 0),
        more.pop("raw", False),
        more.pop("targets_N", None),
    )
    if more:
        raise ConfigError(
            f"{name} has no constant {min(more)!r}",
            available=("temperature", "squared", "kd", "tail"),
        )
    _check_share(kd, f"kd of {name}")
    if temperature <= 0:
        raise ConfigError(
            f"temperature={temperature} of {name}", expected="above 0", fix="temperature=1"
        )
    scale = temperature**2 if squared else 1.0
    if isinstance(x.teacher, TopK):
        if tail in ("teacher", "none") and distance is not _forward:
            raise ConfigError(
                f"tail={tail!r} of {name}: without a teacher's mass outside K only the forward KL is a number",
                available=("bucket", "renormalise"),
                fix="tail=bucket",
            )
        kernel = truncated(x.teacher, distance, temperature=temperature, tail=tail)
    else:
        kernel = _whole(_teacher(x, name), distance, temperature, raw=raw, targets_N=targets_N)
    values = losses(x, mixed(kernel, x.targets_N, kd, scale), chunk=chunk)
    return Loss(values, {name: summed(values)})


def mixed(kernel: Kernel, targets_N: Tensor, kd: float, scale: float = 1.0) -> Kernel:
    """(1 - kd) times the likelihood plus kd times `scale` times the kernel, on the same logits."""
    if kd == 1 and scale == 1:
        return kernel

    def both(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        value, slope = logits.new_zeros(()), None
        if kd != 1:
            value, slope = nll(targets_N)(logits.clone(), rows, gradient)
        distance, pull = kernel(logits, rows, gradient)
        value = (1 - kd) * value + kd * scale * distance
        if pull is None:
            return value, None
        pull.mul_(kd * scale)
        return value, pull if slope is None else pull.add_(slope, alpha=1 - kd)

    return both


def _teacher(x: Inputs, name: str) -> Callable[[slice], Tensor]:
    """The teacher's logits of a chunk, as wide as its own head."""
    teacher = x.teacher
    if isinstance(teacher, Logits):
        return lambda rows: full(teacher.logits_NV[rows])
    if isinstance(teacher, Hidden):
        return lambda rows: teacher_logits(teacher.head, teacher.hidden_NDt[rows])
    if isinstance(teacher, Several):
        return lambda rows: several_log_probs(teacher, rows)
    raise ConfigError(
        f"{name} needs the teacher's distribution, and only {type(teacher).__name__} is there",
        expected="full logits, states with a head, or cached logits of a file",
        fix="give a local teacher (transformers:PATH), or store its logits first",
    )


def several_log_probs(teacher: Several, rows: slice) -> Tensor:
    """log sum_m w_m p_m of a chunk, [C, V]; heads of different widths are compared on the tokens that all have."""
    shares_CM = teacher.shares_NM[rows]
    logits_of = {}
    for place, part in enumerate(teacher.parts):
        is_taught_C = shares_CM[:, place] > 0
        if is_taught_C.any():
            logits_of[place] = teacher_logits(part.head, part.hidden_NDt[rows][is_taught_C])
    width = min(logits.shape[1] for logits in logits_of.values())
    [first, *_] = logits_of.values()
    total_CV = first.new_full((len(shares_CM), width), -torch.inf)
    for place, logits in logits_of.items():
        is_taught_C = shares_CM[:, place] > 0
        log_share_C1 = shares_CM[is_taught_C, place].log()[:, None].to(total_CV)
        log_probs = logits[:, :width].log_softmax(-1) + log_share_C1
        total_CV[is_taught_C] = torch.logaddexp(total_CV[is_taught_C], log_probs)
    return total_CV


def _whole(
    teacher: Callable[[slice], Tensor],
    distance: Callable[..., tuple[Tensor, Tensor | None]],
    temperature: float,
    *,
    raw: bool,
    targets_N: Tensor | None = None,
) -> Kernel:
    """A distance over the whole vocabulary as a kernel of student logits.

    Heads of one tokenizer may be padded to different widths: what only one side has is left out of both.

    Args:
        teacher: its logits of some positions.
        distance: a `Distance`; with `targets_N` one that is also told the targets.
        temperature: divides both sides' logits.
        raw: whether the distance is of logits, not of log-probabilities.
        targets_N: the token of each position.
    """

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        # Here and not piece by piece: of few rows the head's product is slow.
        teacher_chunk = teacher(rows)  # [C, teacher's V]

        def piece(logits: Tensor, at: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
            start, stop = at.start - rows.start, at.stop - rows.start
            targets = {} if targets_N is None else {"targets_C": targets_N[at]}
            return compare(logits, teacher_chunk[start:stop], gradient, **targets)

        return pieced(piece)(logits, rows, gradient)

    def compare(
        logits: Tensor, target_logits: Tensor, gradient: bool, **targets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        student_width = logits.shape[1]
        width = min(student_width, target_logits.shape[1])
        if temperature != 1:
            logits = logits.div_(temperature)
        if temperature != 1 or raw:
            # A new tensor: a distance overwrites it, and the teacher's logits may be given.
            target_logits = target_logits / temperature
        logits, target_logits = logits[:, :width], target_logits[:, :width]
        if not raw:
            logits = finite(logits.log_softmax(-1))
            target_logits = finite(target_logits.log_softmax(-1))
        value, slope = distance(logits, target_logits, gradient, **targets)
        if slope is None:
            return value, None
        if temperature != 1:
            slope = slope.div_(temperature)
        if width < student_width:
            slope = torch.nn.functional.pad(slope, (0, student_width - width))
        return value, slope

    return kernel


# Distances: (lq, lp, gradient) -> value [C] and d value / d logits [C, V]. lq and lp, the logs of the student's and the
# teacher's probabilities [C, V], are finite and theirs to overwrite.


def _forward(lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    p = lp.exp()
    value = vecdot(p, lp.sub_(lq))
    return value, lq.exp_().sub_(p) if gradient else None


def _reverse(lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    q = lq.exp()
    gap = lq.sub_(lp)
    value = vecdot(q, gap)
    return value, _pull(q, gap) if gradient else None


def _jsd(beta: float, lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    lm = _mixture(lp, beta, lq)
    value = beta * vecdot(lp.exp(), lp.sub_(lm))
    q = lq.exp()
    gap = lq.sub_(lm)
    value += (1 - beta) * vecdot(q, gap)
    return value, _pull(q, gap).mul_(1 - beta) if gradient else None


def _tvd(lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    q = lq.exp_()
    gap = lp.exp_().sub_(q).neg_()
    value = gap.abs().sum(-1) / 2
    return value, _pull(q, gap.sign_().div_(2)) if gradient else None


def _skew(a: float, lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    lm, p = _mixture(lp, a, lq), lp.exp()
    gap = lp.sub_(lm)
    value = vecdot(p, gap)
    return value, _pull(lq.exp_(), gap.exp_()).mul_(a - 1) if gradient else None


def _skew_reverse(
    a: float, detach: bool, lq: Tensor, lp: Tensor, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    lm, q = _mixture(lq, a, lp), lq.exp()
    gap = lq.sub_(lm)
    value = vecdot(q, gap)
    if not gradient:
        return value, None
    return value, _pull(q, gap if detach else gap.sub(gap.exp(), alpha=a))


def _adaptive(mu: float, lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    p, q = lp.exp(), lq.exp()
    # The tail, as in the authors' code: from the smallest class up, [C, V].
    order = p.argsort(dim=-1)
    cumulative = p.gather(-1, order).cumsum(-1)
    is_small = cumulative < mu  # in the order of size
    is_tail = torch.zeros_like(is_small).scatter(-1, order, is_small)

    # The head's share of the gap between the two, [C].
    gap = (p - q).abs()
    whole_gap = gap.sum(-1).clamp_min(torch.finfo(gap.dtype).tiny)
    w = (gap * ~is_tail).sum(-1) / whole_gap

    forward, first = _forward(lq.clone(), lp.clone(), gradient)
    reverse, second = _reverse(lq, lp, gradient)
    value = w * forward + (1 - w) * reverse
    if first is None or second is None:
        return value, None
    w_C1 = w[:, None]
    return value, first.mul_(w_C1).add_(second.mul_(1 - w_C1))


def _taid(t: float, z: Tensor, zt: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    # The least of logits: minus infinity times a share of 0 would be no number.
    least = torch.finfo(z.dtype).min / 4
    mixed_logits = torch.lerp(z.clamp_min_(least), zt.clamp_min_(least), t)
    target = finite(mixed_logits.log_softmax(-1))
    return _forward(finite(z.log_softmax(-1)), target, gradient)


def _self_evolution(
    lq: Tensor,
    lp: Tensor,
    gradient: bool,
    *,
    targets_C: Tensor,
    prior: float,
    gold: float,
    threshold: float,
) -> tuple[Tensor, Tensor | None]:
    p, q = lp.exp(), lq.exp()
    tiny = torch.finfo(p.dtype).tiny
    # The prior knowledge, gold and teacher mixed, [C, V].
    at_gold = torch.full_like(targets_C[:, None], gold, dtype=p.dtype)
    known = p.mul(1 - gold).scatter_add_(1, targets_C[:, None], at_gold)

    # A token is hard where the student is far from it, [C, 1].
    difficulty = vecdot(known, known.clamp_min(tiny).log_().sub_(lq))
    is_hard = (difficulty > threshold)[:, None]
    given = is_hard.to(p.dtype) * prior

    mixture = (given * known + (1 - given) * q).clamp_min_(tiny)
    value = vecdot(p, lp - torch.where(is_hard, mixture.log(), lq))
    if not gradient:
        return value, None
    pulled = _pull(q, p / mixture).mul_(given - 1)
    return value, torch.where(is_hard, pulled, q - p)


def _permuted(lq: Tensor, lp: Tensor, gradient: bool) -> tuple[Tensor, Tensor | None]:
    # Tokens that may take another's share, [C, V]: neither the best one nor those that the student bans.
    is_movable = (lq > LEAST / 2).scatter(-1, lp.argmax(-1, keepdim=True), False)
    # They come first here, in the order of their ids; each takes the share of the one before it.
    order = (~is_movable).to(torch.int8).argsort(dim=-1, stable=True)
    count = is_movable.sum(-1, keepdim=True)
    place = torch.arange(lp.shape[-1], device=lp.device).expand_as(order)
    source = torch.where(place < count, (place - 1) % count.clamp_min(1), place)
    moved = lp.gather(-1, order.gather(-1, source))
    return _forward(lq, torch.empty_like(lp).scatter_(-1, order, moved), gradient)


def _mixture(first: Tensor, share: float, second: Tensor) -> Tensor:
    """log(share exp(first) + (1 - share) exp(second)), 0 < share < 1."""
    return torch.logaddexp(first + math.log(share), second + math.log1p(-share))


def _pull(q: Tensor, g: Tensor) -> Tensor:
    """P[g] = q (g - sum q g), in place: what a gradient with respect to lq is with respect to the logits."""
    return g.sub_(vecdot(q, g)[:, None]).mul_(q)


class _WholeDistributionHooks(Hooks):
    """The loss needs every token of the teacher's distribution."""

    def wants_full_distribution(self, constants: Mapping[str, Any]) -> bool:
        return True


@final
class _TaidHooks(_WholeDistributionHooks):
    """t moves by TAID's own rule, unless the config gives it or schedules it."""

    def schedule(
        self, constants: Mapping[str, Any], scheduled: Collection[str]
    ) -> ConstantSchedule | None:
        return None if "t" in constants or "t" in scheduled else TaidSchedule()


@final
class _DistiLLM2Hooks(Hooks):
    """`anchor="first"` is taken from the first step; each side of a pair is learnt by a divergence of its own."""

    keeps_equal_pairs = True

    def wants_full_distribution(self, constants: Mapping[str, Any]) -> bool:
        return bool(constants.get("anchor"))

    def schedule(
        self, constants: Mapping[str, Any], scheduled: Collection[str]
    ) -> ConstantSchedule | None:
        return FirstStepAnchors() if constants.get("anchor") == FIRST else None


@dataclass(frozen=True, slots=True)
class KidOptions:
    """Args:
    replaced: share of a text's learnt tokens in whose place the student's own stand, below 1.
    """

    replaced: float = 0.2


@final
class _KidHooks(_WholeDistributionHooks):
    """The loop puts tokens of the student's own into its rows."""

    options = KidOptions

    def option_mistakes(self, options: KidOptions) -> Sequence[Mistake]:
        if 0 <= options.replaced < 1:
            return ()
        message = f"replaced={options.replaced!r} is out of range: a share from 0, below 1"
        return [Mistake(message, "replaced=0.2")]

    def replaced_share(self, options: KidOptions) -> float:
        return options.replaced


HOOKS: Mapping[str, Hooks] = {
    "taid": _TaidHooks(),
    "self_evolution": _WholeDistributionHooks(),
    "dkpp": _WholeDistributionHooks(),
    "distillm2": _DistiLLM2Hooks(),
    "kid": _KidHooks(),
}
