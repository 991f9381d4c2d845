"""Losses on what the student itself wrote: the GRPO family, and distillation as a policy gradient.

At each counted position q is the student's log-probability of the sampled token now, `x.sampled_N` what it was when the
token was drawn, p the teacher's (`TokenLogp`). ratio = exp(q - sampled). Only the gradient of a surrogate counts;
its value does not fall to zero. What is worth watching is in the statistics: k1, the estimated reverse KL per token.

All are losses of a token. GRPO's means differ only in the reducer's weights: see `means`. In the first step
on a rollout every ratio is 1 but for rounding: what is done about other ratios (clips, GSPO, CISPO, SAPO, VESPO) tells
where more steps are made on it (`num_iterations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from potstill.errors import ConfigError
from potstill.objectives import ranges
from potstill.objectives.chunked import full
from potstill.objectives.hooks import Hooks
from potstill.objectives.inputs import Inputs, Loss, Sum, TokenLogp, per_sequence, spread, summed
from potstill.objectives.likelihood import token_logp
from potstill.objectives.numerics import LEAST

EXPONENT = 20.0  # of a ratio, at most: exp(20) is half a billion
Estimator: TypeAlias = Literal["k1", "k2", "k3"]
Mean: TypeAlias = Literal["token", "sequence", "fixed"]
Level: TypeAlias = Literal["token", "sequence"]
Surrogate: TypeAlias = Literal["clip", "cispo"]


def grpo(
    x: Inputs,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    beta: float = 0.0,
    corrected: bool = True,
    ratio: Level = "token",
    surrogate: Surrogate = "clip",
    chunk: int = 0,
) -> Loss:
    """`-min(ratio A, clamp(ratio, 1 - clip, 1 + clip_high) A) + beta k3(q, reference)` (GRPO, arXiv:2402.03300, eq. 3).

    Advantages are `x.advantages_N`; `sampled_N` missing means they were drawn from the student as it is now.

    Args:
        clip_high: the upper side, DAPO's clip-higher (arXiv:2503.14476); None is `clip`.
        beta: weight of the divergence to the reference; needs `reference_N`.
        corrected: multiply k3 by the token's ratio: its gradient is then the reverse KL's, as in TRL. Without, it is
            the *forward* KL's.
        ratio: "sequence" is GSPO (arXiv:2507.18071): exp(mean of q - sampled) of the whole sequence, clipped as one,
            much nearer 1 than a token's (the paper's clip is 3e-4, clip_high 4e-4) and with the mean of sequences. In
            its form for tokens, GSPO-token, whose gradient is GSPO's where a sequence has one advantage. With the fixed
            mean it is LUSPO (arXiv:2602.05261) divided by the longest length. Departure: k3 keeps the token's ratio,
            where TRL's is multiplied by the sequence's and so has no longer the reverse KL's gradient.
        surrogate: "cispo" is `-sg(clamp(ratio, 1 - clip, 1 + clip_high)) A q` (MiniMax-M1, arXiv:2506.13585, eq. 4):
            no token loses its gradient. `clip=1` leaves the lower side open, as its authors and TRL do, whose
            `epsilon_high` is our 1 + clip_high.
    """
    ranges.not_negative("grpo", clip=clip, clip_high=clip_high, beta=beta)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    advantages = _advantages(x)  # [N]
    weight = _ratio_at_level(log_probs, _old_log_probs(x, log_probs), x, ratio)
    if surrogate == "clip":
        values = _clipped_surrogate(weight, advantages, clip, clip_high)
    elif surrogate == "cispo":
        values = -_clamp_ratio(weight, clip, clip_high).detach() * advantages * log_probs
    else:
        raise ConfigError(
            f"unknown {surrogate=!s}",
            available=get_args(Surrogate),
            wanted=surrogate,
            fix="surrogate=clip",
        )
    stats = _ratio_statistics(weight, clip, clip if clip_high is None else clip_high)
    return _with_reference_kl(
        Loss(values, stats | {"nll": summed(-log_probs)}), log_probs, x, beta, corrected
    )


def sapo(
    x: Inputs,
    *,
    positive: float = 1.0,
    negative: float = 1.05,
    beta: float = 0.0,
    corrected: bool = True,
    ratio: Level = "token",
    chunk: int = 0,
) -> Loss:
    """`-(4 / tau) s(tau (ratio - 1)) A`, s the logistic function: a gate in the clip's place (SAPO, arXiv:2511.20347).

    The weight of a token's gradient, 1 at ratio 1, falls smoothly on both sides, whatever the sign of A. tau is
    `positive` where A > 0 and `negative` elsewhere. beta, corrected and ratio as in `grpo`.
    """
    ranges.positive("sapo", positive=positive, negative=negative)
    ranges.not_negative("sapo", beta=beta)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    advantages = _advantages(x)  # [N]
    weight = _ratio_at_level(log_probs, _old_log_probs(x, log_probs), x, ratio)
    tau = _select_by_sign(advantages, positive, negative)
    values = -4 / tau * torch.sigmoid(tau * (weight - 1)) * advantages
    return _with_reference_kl(
        Loss(values, _ratio_statistics(weight) | {"nll": summed(-log_probs)}),
        log_probs,
        x,
        beta,
        corrected,
    )


def vespo(
    x: Inputs,
    *,
    power: float = 2.0,
    decay: float = 3.0,
    negative_power: float = 3.0,
    negative_decay: float = 2.0,
    beta: float = 0.0,
    corrected: bool = True,
    chunk: int = 0,
) -> Loss:
    """`-sg(w^k exp(c (1 - w))) A q`, w = exp(sum of q - sampled) of the whole sequence (VESPO, arXiv:2602.10693).

    k and c are `power` and `decay` where A > 0, the negative ones elsewhere. The weight is 1 on policy and falls on
    both sides of w = k / c; w is of the sum and no mean, so long sequences leave it soon. beta and corrected as in
    `grpo`. Equation and constants are TRL's, not checked against the paper.
    """
    ranges.not_negative(
        "vespo",
        power=power,
        decay=decay,
        negative_power=negative_power,
        negative_decay=negative_decay,
        beta=beta,
    )
    log_probs = token_logp(x, chunk=chunk)  # [N]
    advantages = _advantages(x)  # [N]
    # The log-ratio of the whole sequence, at each of its positions.
    log_ratio_S = per_sequence((log_probs - _old_log_probs(x, log_probs)).detach(), x)
    log_ratio = log_ratio_S[x.groups].clamp(-EXPONENT, EXPONENT)  # [S] -> [N]
    k = _select_by_sign(advantages, power, negative_power)
    c = _select_by_sign(advantages, decay, negative_decay)
    weight = (k * log_ratio - c * torch.expm1(log_ratio)).exp()
    stats = _ratio_statistics(log_ratio.exp()) | {"nll": summed(-log_probs)}
    loss = Loss(-weight * advantages * log_probs, stats)
    return _with_reference_kl(loss, log_probs, x, beta, corrected)


def token_kl(x: Inputs, *, estimator: Estimator = "k2", chunk: int = 0) -> Loss:
    """KL(student || teacher) estimated at the sampled tokens and used as a loss.

    In expectation over the student's samples: k2's gradient is exactly the reverse KL's, k3's is the *forward* KL's,
    and k1 has none, so it is refused. (Schulman's estimators; KDRL's term, arXiv:2506.02208.)
    """
    if estimator == "k1":
        raise ConfigError(
            "a k1 loss trains nothing: its expected gradient is zero",
            available=("k2", "k3"),
            fix="k2",
        )
    log_probs = token_logp(x, chunk=chunk)  # [N]
    teacher_log_probs = _teacher_log_probs(x, "token_kl")  # [N]
    return Loss(
        estimate(log_probs, teacher_log_probs, estimator),
        _kl_statistics(log_probs, teacher_log_probs),
    )


def opd(x: Inputs, *, coefficient: float = 1.0, discount: float = 0.0, chunk: int = 0) -> Loss:
    """`-ratio A`, A_t = -c (sampled - p) plus discounted later ones: on-policy distillation (Tinker cookbook's rule,
    thinkingmachines.ai/blog/on-policy-distillation).

    The gradient is that of the reverse KL of each token; discount 1 that of the whole sequence.
    """
    ranges.positive("opd", coefficient=coefficient)
    ranges.share("opd", discount=discount)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    teacher_log_probs = _teacher_log_probs(x, "opd")  # [N]
    old_log_probs = _old_log_probs(x, log_probs)
    advantages = discounted(-coefficient * (old_log_probs - teacher_log_probs), x, discount)
    return Loss(
        -_ratio(log_probs, old_log_probs) * advantages, _kl_statistics(log_probs, teacher_log_probs)
    )


def trust_region(x: Inputs, *, drop: float = 0.2, drift: float = 1e-3, chunk: int = 0) -> Loss:
    """`-ratio sg(p - q)` where the token's probability fell by at most `drop`, plus `drift (q - sampled)^2` everywhere.

    (prime-rl's form of on-policy distillation: the advantage is against the student as it is now.)
    """
    ranges.not_negative("trust_region", drop=drop, drift=drift)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    teacher_log_probs = _teacher_log_probs(x, "trust_region")  # [N]
    old_log_probs = _old_log_probs(x, log_probs)
    fell_little = (old_log_probs.exp() - log_probs.detach().exp() <= drop).to(log_probs.dtype)
    advantages = (teacher_log_probs - log_probs).detach()
    surrogate = -_ratio(log_probs, old_log_probs) * advantages * fell_little
    values = surrogate + drift * (log_probs - old_log_probs) ** 2
    return Loss(
        values, _kl_statistics(log_probs, teacher_log_probs) | {"kept": summed(fell_little)}
    )


def minillm(
    x: Inputs, *, gamma: float = 0.95, clip: float = 0.2, mixed: float = 0.0, chunk: int = 0
) -> Loss:
    """PPO's clipped loss on whitened, length-normalised returns of r = p - q (MiniLLM, arXiv:2306.08543, eq. 4 to 6).

    The paper adds the exact divergence of the present position (mix `divergence.reverse_kl` in) and a language-model
    loss on plain text. Departures: returns are whitened over counted positions only, where the authors' code counts
    padding; its scale of rewards (0.5) is left out, since whitening undoes it, and so is its clip of them.

    `advantages_N`, where given, are the returns whitened over the whole step (`Hooks.step_returns`): whitened here,
    over a micro-batch, they depend on how the step is cut.

    Args:
        mixed: share of the teacher in what was sampled from; `sampled_N` is then the *student's* part, and tokens are
            weighted by q / (mixed p + (1 - mixed) q).
    """
    ranges.share("minillm", gamma=gamma, mixed=mixed)
    ranges.not_negative("minillm", clip=clip)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    teacher_log_probs = _teacher_log_probs(x, "minillm")  # [N]
    old_log_probs = _old_log_probs(x, log_probs)
    if x.advantages_N is None:
        returns = normalised_returns(teacher_log_probs - old_log_probs, x, gamma)
        advantages = whitened(returns)
    else:
        advantages = _advantages(x)
    ratio = _ratio(log_probs, old_log_probs)
    values = _clipped_surrogate(ratio, advantages, clip, None)
    stats = _kl_statistics(log_probs, teacher_log_probs) | _ratio_statistics(ratio, clip, clip)
    return Loss(values * mixed_weight(old_log_probs, teacher_log_probs, mixed), stats)


def iw_opd(x: Inputs, *, gamma: float = 0.5, chunk: int = 0) -> Loss:
    """`-w_t r_t q_t`, r = sg(p - q), w_t = 1 + gamma (1 - P_t / P_T), P_t the sum of |r| before t (arXiv:2606.22600).

    Earlier divergences weigh more: what follows them was written in a state the teacher would not be in. Departure: r
    is against the student as it is now; TRL's is against the one that wrote, the same until the student has moved.
    """
    ranges.not_negative("iw_opd", gamma=gamma)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    teacher_log_probs = _teacher_log_probs(x, "iw_opd")  # [N]
    r = (teacher_log_probs - log_probs).detach()
    # Of each position, which share of its sequence's divergence lies before it.
    size_SL = _as_rows(r.abs(), x)
    before_SL = size_SL.cumsum(1) - size_SL
    whole_S1 = size_SL.sum(1, keepdim=True).clamp_min(torch.finfo(size_SL.dtype).tiny)
    share = _as_positions(before_SL / whole_S1, x)  # [S, longest] -> [N]
    weights = 1 + gamma * (1 - share)
    return Loss(-weights * r * log_probs, _kl_statistics(log_probs, teacher_log_probs))


def kdrl(
    x: Inputs,
    *,
    beta: float = 1e-3,
    clip: float = 0.2,
    clip_high: float | None = None,
    guided: bool = False,
    chunk: int = 0,
) -> Loss:
    """GRPO plus `beta k2(q, p)` on the same samples (KDRL, arXiv:2506.02208, joint loss).

    k2 because its gradient is the reverse KL's. beta and the guided form after a secondary description: not verified.

    Args:
        guided: no distillation on sequences that are right already (`labels_S`): reward-guided masking.
    """
    ranges.not_negative("kdrl", beta=beta, clip=clip, clip_high=clip_high)
    log_probs = token_logp(x, chunk=chunk)  # [N]
    teacher_log_probs = _teacher_log_probs(x, "kdrl")  # [N]
    ratio = _ratio(log_probs, _old_log_probs(x, log_probs))
    values = _clipped_surrogate(ratio, _advantages(x), clip, clip_high)
    pull = estimate(log_probs, teacher_log_probs, "k2")
    if guided:
        if x.labels_S is None:
            raise ConfigError(
                "guided KDRL needs labels", expected="labels_S: which sequences are right"
            )
        pull = pull * (~x.labels_S[x.groups]).to(pull.dtype)
    stats = _kl_statistics(log_probs, teacher_log_probs) | _ratio_statistics(
        ratio, clip, clip if clip_high is None else clip_high
    )
    return Loss(values + beta * pull, stats | {"pull": summed(pull)})


def estimate(log_probs: Tensor, teacher_log_probs: Tensor, estimator: Estimator) -> Tensor:
    """KL(q || p) estimated from samples of q (Schulman's names).

    d = log q - log p: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d.
    """
    gap = log_probs - teacher_log_probs
    if estimator == "k1":
        return gap
    return gap**2 / 2 if estimator == "k2" else torch.expm1((-gap).clamp_max(EXPONENT)) + gap


def group_advantages(
    rewards_S: Tensor, group_S: Tensor, *, scale: Literal["group", "batch", "none"] = "group"
) -> Tensor:
    """(R - mean of the group) / (its unbiased standard deviation + 1e-4), [S]; alone in its group an answer has 0.

    `scale="none"` leaves the division out (Dr. GRPO, arXiv:2503.20783); "batch" divides by the batch's deviation.
    """
    # Of each group its size and mean, [G]; `place` is the group of a sequence, [S].
    groups, place = group_S.unique(return_inverse=True)
    count = torch.bincount(place, minlength=len(groups)).to(rewards_S.dtype)
    zeros = rewards_S.new_zeros(len(groups))
    mean = zeros.index_add(0, place, rewards_S) / count
    gap = rewards_S - mean[place]
    if scale == "none":
        return gap
    if scale == "batch":
        if len(rewards_S) < 2:
            return gap
        return gap / (rewards_S.std() + 1e-4)
    squares = zeros.index_add(0, place, gap**2)
    variance = squares / (count - 1).clamp_min(1)
    return gap / (variance.sqrt()[place] + 1e-4)


def means(x: Inputs, mean: Mean, *, longest: int = 0) -> tuple[Tensor, float]:
    """Weights [N] and what this micro-batch adds to the normaliser.

    "token": 1 each, counted positions (DAPO; TRL's default over the whole accumulated batch); "sequence": 1 / length,
    sequences (GRPO); "fixed": 1, sequences times `longest` (Dr. GRPO).
    """
    ones = full(x.hidden_ND.new_ones(len(x.targets_N)))
    if mean == "token":
        return ones, float(len(x.targets_N))
    sequences = float((x.lengths() > 0).sum())
    if mean == "sequence":
        return ones / x.lengths()[x.groups], sequences
    if longest < 1:
        raise ConfigError(
            "the fixed mean needs the longest length", expected="longest=, the limit of completions"
        )
    return ones, sequences * longest


def discounted(values_N: Tensor, x: Inputs, discount: float) -> Tensor:
    """Each position's value plus the discounted ones after it in its sequence."""
    if discount == 0:
        return values_N
    # From the end to the beginning of all sequences at once.
    rows_SL = _as_rows(values_N, x)
    for at in range(rows_SL.shape[1] - 2, -1, -1):
        rows_SL[:, at] += discount * rows_SL[:, at + 1]
    return _as_positions(rows_SL, x)


def normalised_returns(rewards_N: Tensor, x: Inputs, gamma: float) -> Tensor:
    """Discounted returns divided by the number of tokens that are left."""
    tokens_left_N = x.lengths()[x.groups] - x.places()
    return discounted(rewards_N, x, gamma) / tokens_left_N


def whitened(values_N: Tensor) -> Tensor:
    """Mean 0 and unbiased variance 1 over the counted positions."""
    if not len(values_N):
        return values_N
    centred_N = values_N - values_N.mean()
    if len(values_N) < 2:
        return centred_N
    return centred_N / values_N.std().clamp_min(1e-8)


def mixed_weight(log_probs: Tensor, teacher_log_probs: Tensor, share: float) -> Tensor:
    """q / (share p + (1 - share) q): the importance of a token that teacher and student drew together."""
    if share == 0:
        return torch.ones_like(log_probs)
    teacher_part = teacher_log_probs + _log_of(teacher_log_probs, share)
    student_part = log_probs + _log_of(log_probs, 1 - share)
    mixture = torch.stack([teacher_part, student_part]).logsumexp(0)  # [2, N] -> [N]
    return (log_probs - mixture).exp()


def _log_of(like: Tensor, value: float) -> Tensor:
    return like.new_tensor(value).log()


def _clipped_surrogate(
    ratio: Tensor, advantages: Tensor, clip: float, clip_high: float | None
) -> Tensor:
    return -torch.minimum(ratio * advantages, _clamp_ratio(ratio, clip, clip_high) * advantages)


def _clamp_ratio(ratio: Tensor, clip: float, clip_high: float | None) -> Tensor:
    return ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))


def _with_reference_kl(
    loss: Loss, log_probs: Tensor, x: Inputs, beta: float, corrected: bool
) -> Loss:
    """The loss plus `beta k3(q, reference)`."""
    if not beta:
        return loss
    if x.reference_N is None:
        raise ConfigError(
            "beta needs a reference", expected="reference_N, the reference's log-probabilities"
        )
    kl = estimate(log_probs, x.reference_N, "k3")
    weight = _ratio(log_probs, _old_log_probs(x, log_probs)) if corrected else 1.0
    return Loss(loss.values_N + beta * weight * kl, {**loss.stats, "kl": summed(kl)})


def _ratio_at_level(log_probs: Tensor, old_log_probs: Tensor, x: Inputs, ratio: Level) -> Tensor:
    """The ratio of each token, or its sequence's with the token's own gradient: sg(mean of q - sampled) + q - sg(q)."""
    if ratio == "token":
        return _ratio(log_probs, old_log_probs)
    if ratio != "sequence":
        raise ConfigError(
            f"unknown {ratio=!s}", available=get_args(Level), wanted=ratio, fix="ratio=token"
        )
    mean = spread(per_sequence((log_probs - old_log_probs).detach(), x), x)
    return _ratio(log_probs, log_probs.detach() - mean)


def _select_by_sign(advantages: Tensor, positive: float, negative: float) -> Tensor:
    return torch.where(
        advantages > 0, advantages.new_tensor(positive), advantages.new_tensor(negative)
    )


def _ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    return (log_probs - old_log_probs).clamp_max(EXPONENT).exp()


def _old_log_probs(x: Inputs, log_probs: Tensor) -> Tensor:
    return log_probs.detach() if x.sampled_N is None else x.sampled_N


def _advantages(x: Inputs) -> Tensor:
    if x.advantages_N is None:
        raise ConfigError(
            "a policy gradient needs advantages",
            expected="advantages_N",
            fix="reward= on the stage",
        )
    return x.advantages_N


def _teacher_log_probs(x: Inputs, name: str) -> Tensor:
    if not isinstance(x.teacher, TokenLogp):
        raise ConfigError(
            f"{name} needs the teacher's log-probability of each sampled token, and has {type(x.teacher).__name__}",
            expected="TokenLogp",
            fix="teacher= on the stage, a model that gives likelihoods",
        )
    return x.teacher.logp_N.clamp_min(LEAST)  # of a token that the teacher would never say


def _as_rows(values_N: Tensor, x: Inputs) -> Tensor:
    """Values as [S, longest], padded with 0."""
    longest = int(x.lengths().max()) if len(values_N) else 0
    return values_N.new_zeros(x.sequences(), longest).index_put((x.groups, x.places()), values_N)


def _as_positions(rows_SL: Tensor, x: Inputs) -> Tensor:
    """The inverse of `_as_rows`."""
    return rows_SL[x.groups, x.places()]


def _ratio_statistics(ratio: Tensor, low: float | None = None, high: float = 0.0) -> dict[str, Sum]:
    """How far the student has moved since it wrote: mean ratio, mean |log ratio|, share outside the clip's bounds."""
    drift = ratio.detach().clamp_min(torch.finfo(ratio.dtype).tiny).log().abs()
    stats = {"ratio": summed(ratio), "drift": summed(drift)}
    if low is None:
        return stats
    outside = ((ratio < 1 - low) | (ratio > 1 + high)).to(ratio.dtype)
    return stats | {"clipped": summed(outside)}


def _kl_statistics(log_probs: Tensor, teacher_log_probs: Tensor) -> dict[str, Sum]:
    """k1 and k3 of the reverse KL, to log and not to train on."""
    return {
        "k1": summed(log_probs - teacher_log_probs),
        "k3": summed(estimate(log_probs, teacher_log_probs, "k3")),
        "nll": summed(-log_probs),
    }


@final
class _ReferenceHooks(Hooks):
    """A beta above 0 keeps the student near a reference."""

    def extra_needs(self, constants: Mapping[str, Any]) -> tuple[str, ...]:
        return ("reference",) if constants.get("beta") else ()


@final
class _KdrlHooks(Hooks):
    """Reward-guided masking asks which sequences are right."""

    def extra_needs(self, constants: Mapping[str, Any]) -> tuple[str, ...]:
        return ("labels",) if constants.get("guided") else ()


@final
class _MiniLLMHooks(Hooks):
    """Student and teacher may draw each token together; returns are whitened over the step."""

    def teacher_share(self, constants: Mapping[str, Any]) -> float:
        return float(constants.get("mixed", 0.0))

    def step_returns(self, rewards_N: Tensor, x: Inputs, constants: Mapping[str, Any]) -> Tensor:
        return normalised_returns(rewards_N, x, constants["gamma"])


HOOKS: Mapping[str, Hooks] = {
    "grpo": _ReferenceHooks(),
    "sapo": _ReferenceHooks(),
    "vespo": _ReferenceHooks(),
    "kdrl": _KdrlHooks(),
    "minillm": _MiniLLMHooks(),
}
