"""Better and worse completions of one prompt: DPO and its kin, and those that need no reference.

l is the sum of a side's counted log-probabilities, l̄ their mean, r = l - l_ref the log-ratio to the reference, Delta =
r+ - r-, s the logistic function. Only counted positions enter: a prefix that both sides share and that is masked makes
any of these the step-level form. The reducer's weights are not for these sums: mask or drop tokens instead.

Every objective here is a loss of a pair, spread over its positions; the normaliser counts pairs (KTO: sequences).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import ConfigError, StageError
from potstill.objectives import ranges
from potstill.objectives.hooks import Hooks
from potstill.objectives.inputs import Inputs, Loss, Sum, per_sequence, spread, summed
from potstill.objectives.likelihood import token_logp
from potstill.objectives.numerics import log1mexp
from potstill.records import Trace

# A mean log-probability is held below it where odds are taken: those of certainty are infinite.
CERTAIN = -1e-7


class Sides(NamedTuple):
    """Both sides of each pair, [P]: sums, lengths."""

    better: Tensor
    worse: Tensor
    better_length: Tensor
    worse_length: Tensor

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Sums over lengths."""
        return self.better / self.better_length, self.worse / self.worse_length


Kind: TypeAlias = Literal[
    "sigmoid", "hinge", "sigmoid_norm", "apo_zero", "apo_down", "nca", "bco", "sppo"
]
_SHAPES: Mapping[str, Callable[[Sides, float], Tensor]] = MappingProxyType(
    {
        "sigmoid": lambda r, b: F.softplus(-b * (r.better - r.worse)),
        "hinge": lambda r, b: F.relu(1 - b * (r.better - r.worse)),
        "sigmoid_norm": lambda r, b: F.softplus(-b * (r.means[0] - r.means[1])),
        "apo_zero": lambda r, b: torch.sigmoid(-b * r.better) + torch.sigmoid(b * r.worse),
        "apo_down": lambda r, b: (
            torch.sigmoid(b * r.better) + torch.sigmoid(-b * (r.better - r.worse))
        ),
        "bco": lambda r, b: F.softplus(-b * r.better) + F.softplus(b * r.worse),
        "sppo": lambda r, b: (r.better - 0.5 / b) ** 2 + (r.worse + 0.5 / b) ** 2,
        "nca": lambda r, b: (
            F.softplus(-b * r.better) + (F.softplus(b * r.better) + F.softplus(b * r.worse)) / 2
        ),
    }
)


def dpo(
    x: Inputs,
    *,
    beta: float = 0.1,
    kind: Kind = "sigmoid",
    smoothing: float = 0.0,
    label_smoothing: float = 0.0,
    length_share: float = 1.0,
    baseline: float = 0.0,
    sft: float = 0.0,
    chunk: int = 0,
) -> Loss:
    """`-log s(beta Delta)` (Rafailov et al., arXiv:2305.18290, eq. 7), and the shapes that TRL knows by these names.

    Args:
        beta: for long traces so small that beta |Delta| is of order 1: REDI's best baseline used 0.001.
        kind: hinge (SLiC); sigmoid_norm, on mean log-ratios; apo_zero, apo_down (arXiv:2408.06266); nca
            (arXiv:2402.05369); bco (arXiv:2404.04656), on rewards beta r less `baseline`; sppo, with a winner that
            always wins (arXiv:2405.00675, eq. 4.7; its 1 / eta is beta, 0.001 there).
        smoothing: share of pairs that are the wrong way round, corrected for (robust DPO, arXiv:2403.00409).
        label_smoothing: the same share, not corrected for but hedged against, so that no margin is ever large enough:
            `(1 - e) L + e L(sides swapped)` (conservative DPO; Mitchell, A note on DPO with noisy preferences, 2023).
        length_share: what log-probabilities past the shorter side's length count (LD-DPO, arXiv:2409.06411).
        baseline: the mean reward that bco subtracts. Departure: a constant (or a schedule), where TRL keeps a running
            mean of batches, which depends on how they are cut; 0 is where every training starts.
        sft: weight of the chosen side's mean negative log-likelihood (RPO): in distillation the chosen side is
            off-policy, and its log-probability tends to fall.
    """
    ranges.positive("dpo", beta=beta)
    ranges.not_negative("dpo", sft=sft)
    ranges.share("dpo", length_share=length_share)
    if kind not in _SHAPES:
        raise ConfigError(
            f"unknown kind={kind!r} of dpo", available=_SHAPES, wanted=kind, fix="kind=sigmoid"
        )
    for name, value in (("smoothing", smoothing), ("label_smoothing", label_smoothing)):
        if not 0 <= value < 0.5:
            raise ConfigError(
                f"{name}={value} of dpo",
                expected="a share of pairs below a half",
                fix=f"{name}=0.1",
            )
    log_probs_N = token_logp(x, chunk=chunk)
    log_ratios_N = _desensitised(log_probs_N - _reference(x, "dpo"), x, length_share)
    sides = _sides(log_ratios_N, x)  # [P]
    offset = baseline / beta if kind == "bco" else 0.0
    rewards = sides._replace(better=sides.better - offset, worse=sides.worse - offset)
    loss_P = _SHAPES[kind](rewards, beta)
    if smoothing:
        swapped_P = _SHAPES[kind](_swapped(rewards), beta)
        loss_P = ((1 - smoothing) * loss_P - smoothing * swapped_P) / (1 - 2 * smoothing)
    if label_smoothing:
        swapped_P = _SHAPES[kind](_swapped(rewards), beta)
        loss_P = (1 - label_smoothing) * loss_P + label_smoothing * swapped_P
    loss_P = loss_P + sft * -_sides(log_probs_N, x).means[0]
    return Loss(_over_pairs(loss_P, x), _stats(sides, log_probs_N, x, beta))


def step_dpo(x: Inputs, *, beta: float = 0.4, chunk: int = 0) -> Loss:
    """DPO on one step after a shared, masked prefix (Step-DPO, arXiv:2406.18629; SuperCorrect, arXiv:2410.09008).

    The prefix is not among the counted positions, and a side that does not end its trace has no end token. beta as in
    Step-DPO's scripts for 72B (0.5 for 7B); SuperCorrect reports none.
    """
    return dpo(x, beta=beta, chunk=chunk)


def ipo(x: Inputs, *, tau: float = 0.1, normalised: bool = True, chunk: int = 0) -> Loss:
    """`(Delta - 1 / (2 tau))^2` (Azar et al., arXiv:2310.12036, eq. 17).

    Departure: log-ratios are length means, as in TRL; `normalised=False` is the paper's sums.
    """
    ranges.positive("ipo", tau=tau)
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs - _reference(x, "ipo"), x)
    better, worse = sides.means if normalised else sides[:2]
    loss = (better - worse - 1 / (2 * tau)) ** 2
    return Loss(_over_pairs(loss, x), _stats(sides, log_probs, x, tau))


def exo(x: Inputs, *, beta: float = 0.1, smoothing: float = 1e-3, chunk: int = 0) -> Loss:
    """`KL((s, 1 - s) || (1 - smoothing, smoothing))`, s = s(beta Delta) (EXO, Ji et al., arXiv:2402.00856, eq. 16).

    The reverse KL to labels of which a share `smoothing` is wrong, where DPO's is the forward one; without that share
    it would be infinite. Least at beta Delta = log(1 / smoothing - 1); flat where the better side is far behind.
    """
    ranges.positive("exo", beta=beta)
    if not 0 < smoothing < 0.5:
        raise ConfigError(
            f"{smoothing=} of exo",
            expected="a share above 0 and below a half",
            fix="smoothing=1e-3",
        )
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs - _reference(x, "exo"), x)
    u = beta * (sides.better - sides.worse)
    right = F.logsigmoid(u) - math.log1p(-smoothing)
    wrong = F.logsigmoid(-u) - math.log(smoothing)
    loss = u.sigmoid() * right + (-u).sigmoid() * wrong
    return Loss(_over_pairs(loss, x), _stats(sides, log_probs, x, beta))


def discopop(x: Inputs, *, beta: float = 0.05, tau: float = 0.05, chunk: int = 0) -> Loss:
    """`-(1 - m) log s(u) + m exp(-u)`, u = beta Delta, m = s(u / tau) (Lu et al., arXiv:2406.08414, eq. 5).

    Not convex: at the defaults it rises from Delta = -2.38 to 1.44, and there pushes the better side down.
    """
    ranges.positive("discopop", beta=beta)
    if not 0 < tau <= 1:
        raise ConfigError(
            f"{tau=} of discopop",
            expected="above 0, at most 1: beyond, m exp(-u) has no bound",
            fix="tau=0.05",
        )
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs - _reference(x, "discopop"), x)
    u = beta * (sides.better - sides.worse)
    steep = (F.logsigmoid(u / tau) - u).exp()  # m exp(-u), whose factors may be 0 and infinite
    loss = (-u / tau).sigmoid() * F.softplus(-u) + steep
    return Loss(_over_pairs(loss, x), _stats(sides, log_probs, x, beta))


def simpo(x: Inputs, *, beta: float = 2.0, gamma: float = 1.0, chunk: int = 0) -> Loss:
    """`-log s(beta (l̄+ - l̄-) - gamma)`, no reference (Meng et al., arXiv:2405.14734, eq. 6).

    Departure from TRL: no likelihood term is mixed in, which its CPOTrainer does unless `cpo_alpha` is set to 0.
    """
    ranges.positive("simpo", beta=beta)
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs, x)
    better, worse = sides.means
    loss = F.softplus(gamma - beta * (better - worse))
    return Loss(_over_pairs(loss, x), _stats(sides, log_probs, x, beta))


def cpo(x: Inputs, *, beta: float = 0.1, alpha: float = 1.0, chunk: int = 0) -> Loss:
    """`-log s(beta (l+ - l-)) + alpha NLL+`, no reference (Xu et al., arXiv:2401.08417, eq. 5); NLL+ is a mean."""
    ranges.positive("cpo", beta=beta)
    ranges.not_negative("cpo", alpha=alpha)
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs, x)
    loss = F.softplus(-beta * (sides.better - sides.worse)) - alpha * sides.means[0]
    return Loss(_over_pairs(loss, x), _stats(sides, log_probs, x, beta))


def orpo(x: Inputs, *, lam: float = 0.1, chunk: int = 0) -> Loss:
    """`NLL+ - lam log s(LO)`, LO the log-odds ratio of the mean likelihoods (Hong et al., arXiv:2403.07691, eq. 6, 7).

    Departures: NLL+ is that of the completion, where TRL's counts the prompt too; a mean log-probability above -1e-7 is
    held there, since the odds of certainty are infinite.
    """
    ranges.not_negative("orpo", lam=lam)
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs, x)
    better, worse = sides.means
    odds = _log_odds(better) - _log_odds(worse)
    loss = -better + lam * F.softplus(-odds)
    return Loss(_over_pairs(loss, x), _stats(sides, log_probs, x, lam) | {"log_odds": summed(odds)})


def redi(x: Inputs, *, alpha: float = 0.8, chunk: int = 0) -> Loss:
    """`-l̄+ + alpha l̄-`: reference-free and asymmetric, the stage after SFT (Xu et al., arXiv:2505.24850, eq. 4).

    Unbounded below: alpha, the rate and the number of steps are what limits it. Both sides falling together, seen in
    the statistics `better` and `worse`, is the sign of collapse. alpha = 0 is SFT by sequence means. Departure: the
    repository's optional weight e^(g l̄-) of the worse side is left out; not detached, as there, its gradient changes
    sign at l̄- = -1/g and pushes wrong traces up.
    """
    ranges.not_negative("redi", alpha=alpha)
    log_probs = token_logp(x, chunk=chunk)
    sides = _sides(log_probs, x)
    better, worse = sides.means
    return Loss(_over_pairs(alpha * worse - better, x), _stats(sides, log_probs, x, alpha))


def kto(
    x: Inputs,
    *,
    beta: float = 0.1,
    desirable: float = 1.0,
    undesirable: float = 1.0,
    chunk: int = 0,
) -> Loss:
    """Single labelled completions (Ethayarajh et al., arXiv:2402.01306, eq. 8).

    `desirable (1 - s(beta (r - kl)))` for good ones, `undesirable (1 - s(beta (kl - r)))` for bad ones; kl is `x.kl`,
    the mean log-ratio of mismatched prompts and completions, clamped at 0 and without gradient. Without it kl is 0.

    The training loop gives the mean over the whole optimizer step (`rollout.step_statistics`), from pairs of a prompt
    with the next prompt's completion. Departure: TRL's is that of a micro-batch, and so changes with accumulation.
    """
    ranges.positive("kto", beta=beta)
    ranges.not_negative("kto", desirable=desirable, undesirable=undesirable)
    if x.labels_S is None:
        raise ConfigError(
            "kto needs labels", expected="labels_S: whether each sequence is desirable"
        )
    log_probs = token_logp(x, chunk=chunk)
    log_ratio_S = per_sequence(log_probs - _reference(x, "kto"), x)
    kl = log_ratio_S.new_zeros(())
    if x.kl is not None:
        kl = x.kl.detach().to(log_ratio_S.dtype).clamp_min(0)
    good_S = torch.sigmoid(-beta * (log_ratio_S - kl))
    bad_S = torch.sigmoid(-beta * (kl - log_ratio_S))
    loss_S = torch.where(x.labels_S, desirable * good_S, undesirable * bad_S)

    mean_S = per_sequence(log_probs, x).detach() / x.lengths().clamp_min(1)
    is_good_S = x.labels_S.to(mean_S.dtype)
    stats = {
        "better": summed(mean_S, is_good_S),
        "worse": summed(mean_S, 1 - is_good_S),
        "kl": summed(kl),
    }
    return Loss(spread(loss_S, x), stats)


def _log_odds(mean_P: Tensor) -> Tensor:
    """log(p / (1 - p)) of mean likelihoods given by their logarithms, [P]."""
    below_certain_P = mean_P.clamp_max(CERTAIN)
    return below_certain_P - log1mexp(below_certain_P)


def _reference(x: Inputs, name: str) -> Tensor:
    if x.reference_N is None:
        raise ConfigError(
            f"{name} needs the reference's log-probabilities",
            expected="reference_N",
            fix="simpo, orpo or redi need none",
        )
    return x.reference_N


def _sides(values_N: Tensor, x: Inputs) -> Sides:
    """Sums of both sides of each pair."""
    if x.pairs_P2 is None:
        raise ConfigError(
            "rows without a rival",
            expected="pairs of better and worse completions (pair(good, bad))",
        )
    sums, lengths = per_sequence(values_N, x), x.lengths().clamp_min(1)
    better, worse = x.pairs_P2.T
    return Sides(sums[better], sums[worse], lengths[better], lengths[worse])


def _swapped(sides: Sides) -> Sides:
    return Sides(sides.worse, sides.better, sides.worse_length, sides.better_length)


def _over_pairs(loss_P: Tensor, x: Inputs) -> Tensor:
    """Each pair's loss shared out over the positions of both sides, [N]."""
    assert x.pairs_P2 is not None
    lengths_S = x.lengths()
    share_P = loss_P / lengths_S[x.pairs_P2].sum(1).clamp_min(1)
    both_sides = share_P.repeat_interleave(2)  # [2P], as the pairs lie flat
    share_S = share_P.new_zeros(x.sequences()).index_add(0, x.pairs_P2.flatten(), both_sides)
    return share_S[x.groups]  # [S] -> [N]


def _desensitised(values_N: Tensor, x: Inputs, share: float) -> Tensor:
    """Values past the length of a pair's shorter side scaled by `share`."""
    if share == 1:
        return values_N
    assert x.pairs_P2 is not None
    # The length of its pair's shorter side, of each sequence.
    lengths_S = x.lengths()
    shorter_S = lengths_S.clone()
    shorter_P1 = lengths_S[x.pairs_P2].amin(1, keepdim=True)
    shorter_S[x.pairs_P2] = shorter_P1.expand(-1, 2)
    is_within_N = x.places() < shorter_S[x.groups]
    return torch.where(is_within_N, values_N, share * values_N)


def _stats(ratios: Sides, log_probs_N: Tensor, x: Inputs, beta: float) -> dict[str, Sum]:
    """Mean log-probability of each side, the margin scaled by beta, and how often the better side is ahead."""
    better, worse = _sides(log_probs_N.detach(), x).means
    gap = ratios.better - ratios.worse
    right = (gap > 0).to(gap.dtype)
    return {
        "better": summed(better),
        "worse": summed(worse),
        "margin": summed(beta * gap),
        "ahead": summed(right),
    }


@final
class _StepDpoHooks(Hooks):
    """Both sides must go on from the same text: their difference would otherwise not be the step's."""

    def check_rows(self, rows: Sequence[Trace]) -> None:
        different = []
        for row in rows:
            if (
                row.rejected
                and row.text[: row.prefix_length] != row.rejected.text[: row.rejected.prefix_length]
            ):
                different.append(row)
        if different:
            raise StageError(
                f"the two steps of {different[0].id} follow different texts ({len(different)} of {len(rows)} pairs)",
                expected="one given beginning of both sides, which is not learnt",
                fix="give the rows a prefix, or traces the same `prefix_length` text; or learn whole answers (dpo)",
            )


HOOKS: Mapping[str, Hooks] = {"step_dpo": _StepDpoHooks()}
