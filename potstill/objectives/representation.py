"""Hidden states, relations between them, and contrasts between several rationales of one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ConfigError
from potstill.objectives import ranges
from potstill.objectives.chunked import full, losses
from potstill.objectives.divergence import forward_kl
from potstill.objectives.dskd import frozen
from potstill.objectives.hooks import (
    Hooks,
    Mistake,
    ModelShape,
    Projectors,
    above_zero,
    at_least,
)
from potstill.objectives.inputs import (
    Hidden,
    Inputs,
    Layers,
    Loss,
    OtherVocabulary,
    per_sequence,
    spread,
    summed,
)
from potstill.objectives.likelihood import nll, sft, token_logp

TINY = 1e-12


class Filters(nn.Module):  # type: ignore[misc]
    """TED's filters: a linear map of every compared layer's states, of the student and of the teacher.

    Parameters are the trainer's to optimise: in the first stage alone (`ted_filters`), in the second the student's
    filters beside the student. They start as the identity where widths allow, and are dropped at export.

    Args:
        student: its width.
        teacher: its width.
        layers: pairs of layers.
        width: of both filters' output; the student's width if not told.
    """

    def __init__(self, student: int, teacher: int, layers: int, width: int = 0) -> None:
        super().__init__()
        width = width or student
        self.student = nn.ModuleList(nn.Linear(student, width, bias=False) for _ in range(layers))
        self.teacher = nn.ModuleList(nn.Linear(teacher, width, bias=False) for _ in range(layers))
        for filters, input_width in ((self.student, student), (self.teacher, teacher)):
            for layer in filters:
                if input_width == width:
                    nn.init.eye_(layer.weight)
                else:
                    nn.init.xavier_uniform_(layer.weight)


def same_depth(student: int, teacher: int, pairs: int) -> list[tuple[int, int]]:
    """Pairs of layer numbers (student's, teacher's) at the same relative depth, the last included."""
    return [(round(student * i / pairs), round(teacher * i / pairs)) for i in range(1, pairs + 1)]


def ted_filters(x: Inputs, *, normalise: bool = True, chunk: int = 0) -> Loss:
    """TED's first stage: of each model, the mean over layers of the likelihood through filter and head (eq. 5).

    The head is held constant and states come without gradient, so only the filters learn. Per token. `normalise` as in
    the second stage (`ted`).

    Departure: in the paper each filter has a task head of its own, which is dropped afterwards. Of a vocabulary that
    would be a second model, so all filters, the teacher's too, are read by the student's head: what they put out is
    then of one space, where the second stage compares it.
    """
    filters, layers = _filters(x, "ted_filters")
    head = frozen(x.head)

    def mean_nll(filters_of_side: nn.ModuleList, states: tuple[Tensor, ...]) -> Tensor:
        of_layers = []
        for layer_filter, states_ND in zip(filters_of_side, states, strict=True):
            filtered_ND = layer_filter(_scale(states_ND.detach(), normalise))
            read = Inputs(filtered_ND, head, x.targets_N, weights_N=x.weights_N)
            of_layers.append(losses(read, nll(x.targets_N), chunk=chunk))  # [N]
        return torch.stack(of_layers).mean(0)  # [layers, N] -> [N]

    student_nll = mean_nll(filters.student, layers.student)
    teacher_nll = mean_nll(filters.teacher, layers.teacher)
    stats = {"student_nll": summed(student_nll), "teacher_nll": summed(teacher_nll)}
    return Loss(student_nll + teacher_nll, stats)


def ted(
    x: Inputs,
    *,
    ce: float = 1.0,
    kl: float = 1.0,
    mse: float = 1.0,
    temperature: float = 2.0,
    normalise: bool = True,
    chunk: int = 0,
) -> Loss:
    """`ce NLL + kl t^2 KL(p || q) + mse mean_l mean_d (F_s(h_s) - F_t(h_t))^2` (Liang et al., arXiv:2210.01351, eq. 7).

    A loss per token; leave the first token of a row out of the counted ones (attention sinks). The teacher's filters
    are held as they are, as the teacher is (sec. 3.2): if they learnt too, both sides could agree on nothing.

    Departure: `normalise` divides the states by their root mean square before the filters, since in decoders a few
    dimensions dominate otherwise. The KL needs one vocabulary; kl = 0 needs no distribution.
    """
    ranges.not_negative("ted", ce=ce, kl=kl, mse=mse)
    ranges.positive("ted", temperature=temperature)
    filters, layers = _filters(x, "ted")
    student_layers, teacher_layers = [], []  # each [N, width of the filters]
    for layer_filter, states_ND in zip(filters.student, layers.student):
        student_layers.append(layer_filter(_scale(states_ND, normalise)))
    for layer_filter, states_ND in zip(filters.teacher, layers.teacher):
        teacher_layers.append(layer_filter(_scale(states_ND, normalise)).detach())
    distance_N = layerwise(student_layers, teacher_layers)
    values = mse * distance_N
    if kl:
        share = kl / (ce + kl)
        mixed = forward_kl(x, temperature=temperature, squared=True, kd=share, chunk=chunk)
        values = values + (ce + kl) * mixed.values_N
    elif ce:
        values = values + ce * sft(x, chunk=chunk).values_N
    return Loss(values, {"layers": summed(distance_N)})


def layerwise(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean over layers and width of the squared distance, [N]."""
    of_layers = []
    for student_ND, teacher_ND in zip(student, teacher, strict=True):
        of_layers.append(((full(student_ND) - full(teacher_ND)) ** 2).mean(-1))  # [N]
    return torch.stack(of_layers).mean(0)  # [layers, N] -> [N]


def rkd(
    x: Inputs, *, distance: float = 1.0, angle: float = 2.0, ce: float = 1.0, chunk: int = 0
) -> Loss:
    """`ce NLL + distance L_D + angle L_A` between the sequences' mean states (Park et al., arXiv:1904.05068, eq. 6, 9).

    Of any teacher whose states are there, of any width and tokenizer. NLL is a sequence's mean. A loss per sequence: a
    sequence has the mean of its relations, so their mean is the paper's. A relation is of two sequences of one
    micro-batch: as with every such loss the micro-batch is part of the objective, and 32 to 64 sequences are wanted
    (the angles grow with their cube).
    """
    ranges.not_negative("rkd", distance=distance, angle=angle, ce=ce)
    if isinstance(x.teacher, Hidden):
        teacher_states, teacher_groups = x.teacher.hidden_NDt, x.groups
    elif isinstance(x.teacher, OtherVocabulary):
        teacher_states, teacher_groups = x.teacher.hidden_MDt, x.teacher.sequences_M
    else:
        raise ConfigError(
            "rkd needs the teacher's states", expected="teacher=Hidden(…) or OtherVocabulary(…)"
        )
    sequences = x.sequences()
    student_SD = _pooled(x.hidden_ND, x.groups, sequences)
    teacher_SDt = _pooled(teacher_states.detach(), teacher_groups, sequences)
    distance_S, angle_S = relations(student_SD, teacher_SDt)
    values = spread(distance * distance_S + angle * angle_S, x)
    if ce:
        nll_S = -per_sequence(token_logp(x, chunk=chunk), x) / x.lengths().clamp_min(1)
        values = values + ce * spread(nll_S, x)
    return Loss(values, {"distance": summed(distance_S), "angle": summed(angle_S)})


def relations(student_SD: Tensor, teacher_SDt: Tensor) -> tuple[Tensor, Tensor]:
    """RKD's losses of distances and of angles, [S] each: their means are L_D and L_A.

    Distances are divided by the mean of the positive ones, angles are cosines at every triplet's first vector; both are
    compared by Huber's loss with delta 1. Means run over all S^2 and S^3 entries, the zero ones included, as in the
    repository.
    """
    distance_S = _apart(_distances(student_SD), _distances(teacher_SDt))
    return distance_S, _apart(_angles(student_SD), _angles(teacher_SDt))


def qcrd(x: Inputs, *, beta: float = 0.2, delta: float = 3.0, chunk: int = 0) -> Loss:
    """`s+ min CE+ - beta (1 - s-) min(min CE- - delta, 0)` of each prompt (QCRD, arXiv:2405.13014; reconstructed).

    CE is a rationale's mean negative log-likelihood, s+ and s- the mean scores of the good and the bad ones
    (`scores_S`; 1 and 0 where there are none). A bad rationale that is improbable by more than delta has no gradient. A
    loss per prompt, spread over its sequences' positions. (reconstructed from a description; how scores are composed is
    not known.)
    """
    ranges.not_negative("qcrd", beta=beta, delta=delta)
    mean, good, of, prompts = _scored(x, "qcrd", chunk)
    score = good.to(mean.dtype) if x.scores_S is None else x.scores_S.to(mean.dtype)
    # The least negative log-likelihood of either side, of each prompt; infinite where a side is empty.
    best = _least(-mean, good, of, prompts)
    worst = _least(-mean, ~good, of, prompts)
    up, down = _mean(score, good, of, prompts), _mean(score, ~good, of, prompts)

    # The inner choice keeps the gradient finite where there is nothing.
    has_good = torch.isfinite(best)
    pull = torch.where(has_good, up * torch.where(has_good, best, 0), 0)
    margin = torch.where(torch.isfinite(worst), worst - delta, 0).clamp_max(0)
    loss = pull - beta * (1 - down) * margin
    return Loss(_over(loss, of, x), {"margin": summed(margin), "better": summed(mean[good])})


def contrastive(
    x: Inputs, *, temperature: float = 1.0, weighted: bool = False, chunk: int = 0
) -> Loss:
    """`-log(sum_pos e^(l/t) / sum_all e^(l/t))`, l a rationale's mean log-probability (InfoNCE, not QCRD's own).

    `weighted`: each good one competes with the bad ones alone and counts by its share of the scores,
    `sum_i w_i -log(e^l_i / (e^l_i + sum_neg e^l))`. A loss per prompt, spread over its sequences' positions. (inferred:
    a stand-in, see `qcrd`.)
    """
    ranges.positive("contrastive", temperature=temperature)
    mean, good, of, prompts = _scored(x, "contrastive", chunk)
    scaled = mean / temperature
    bad = _logsum(scaled, ~good, of, prompts)
    if weighted:
        # Each good one's share of its prompt's scores, [S], and its own competition with the bad ones.
        share = good.to(mean.dtype)
        if x.scores_S is not None:
            share = share * x.scores_S.to(mean.dtype)
        whole = mean.new_zeros(prompts).index_add(0, of, share).clamp_min(TINY)
        share = share / whole[of]
        against_bad = torch.logaddexp(scaled, bad[of]) - scaled
        loss = mean.new_zeros(prompts).index_add(0, of, share * against_bad)
    else:
        # All good ones against all bad ones; nothing where a prompt has no good one.
        up = _logsum(scaled, good, of, prompts)
        has_good = torch.isfinite(up)
        gap = bad - torch.where(has_good, up, 0)
        loss = torch.where(has_good, F.softplus(gap), 0)
    return Loss(_over(loss, of, x), {"better": summed(mean[good]), "worse": summed(mean[~good])})


def _filters(x: Inputs, name: str) -> tuple[Filters, Layers]:
    if x.layers is None or not isinstance(x.projectors, Filters):
        raise ConfigError(
            f"{name} needs states of inner layers and their filters",
            expected="layers, projectors=Filters(…)",
        )
    if len(x.projectors.student) != len(x.layers.student):
        raise ConfigError(
            f"{len(x.projectors.student)} filters for {len(x.layers.student)} layers",
            expected="as many",
        )
    return x.projectors, x.layers


def _scale(states: Tensor, normalise: bool) -> Tensor:
    """States over their root mean square, token by token, where that is asked."""
    if not normalise:
        return states
    root_mean_square = full(states).pow(2).mean(-1, keepdim=True).sqrt().clamp_min(TINY)
    return states / root_mean_square.to(states.dtype)


def _pooled(states_ND: Tensor, groups_N: Tensor, sequences: int) -> Tensor:
    """Mean state of each sequence, [S, D]."""
    states_ND = full(states_ND)
    counts_S = torch.bincount(groups_N, minlength=sequences).clamp_min(1).to(states_ND.dtype)
    sums_SD = states_ND.new_zeros(sequences, states_ND.shape[1]).index_add(0, groups_N, states_ND)
    return sums_SD / counts_S[:, None]


def _apart(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber's loss of each sequence's relations, [S, …] -> [S]."""
    return F.smooth_l1_loss(student, teacher, reduction="none").flatten(1).mean(1)


def _distances(states_SD: Tensor) -> Tensor:
    """Distances of every two sequences over the mean of the positive ones, [S, S]."""
    gap_SSD = states_SD[:, None] - states_SD[None]
    square_SS = (gap_SSD**2).sum(-1)
    is_apart_SS = square_SS > 0
    # The root's slope at 0 is infinite: the diagonal never meets it.
    distance_SS = torch.where(is_apart_SS, torch.where(is_apart_SS, square_SS, 1).sqrt(), 0)
    mean = distance_SS.sum() / is_apart_SS.sum().clamp_min(1)
    return distance_SS / mean.clamp_min(TINY)


def _angles(states_SD: Tensor) -> Tensor:
    """cos of the angle at i between j and k, [S, S, S]."""
    towards = states_SD[None] - states_SD[:, None]  # [S, S, D]
    square = (towards**2).sum(-1, keepdim=True)  # [S, S, 1]
    is_apart = square > 0
    length = torch.where(is_apart, square, 1).sqrt()  # the root's slope at 0 is infinite
    unit = torch.where(is_apart, towards / length, 0)
    return unit @ unit.transpose(1, 2)  # [S, S, D] -> [S, S, S]


def _scored(x: Inputs, name: str, chunk: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Mean log-probability of each sequence, whether it is good, its prompt, and how many prompts there are."""
    if x.labels_S is None or x.prompts_S is None:
        raise ConfigError(
            f"{name} needs several labelled rationales of a prompt",
            expected="labels_S and prompts_S",
        )
    mean = per_sequence(token_logp(x, chunk=chunk), x) / x.lengths().clamp_min(1)
    return mean, x.labels_S, x.prompts_S, int(x.prompts_S.max()) + 1 if len(x.prompts_S) else 0


def _least(values_S: Tensor, chosen_S: Tensor, prompt_S: Tensor, prompts: int) -> Tensor:
    """The least chosen value of each prompt, infinite where there is none."""
    infinite = values_S.new_full((prompts,), torch.inf)
    return infinite.scatter_reduce(0, prompt_S[chosen_S], values_S[chosen_S], "amin")


def _mean(values_S: Tensor, chosen_S: Tensor, prompt_S: Tensor, prompts: int) -> Tensor:
    """The mean chosen value of each prompt, 0 where there is none."""
    counts = torch.bincount(prompt_S[chosen_S], minlength=prompts).clamp_min(1)
    sums = values_S.new_zeros(prompts).index_add(0, prompt_S[chosen_S], values_S[chosen_S])
    return sums / counts


def _logsum(values_S: Tensor, chosen_S: Tensor, prompt_S: Tensor, prompts: int) -> Tensor:
    """log sum exp of the chosen values of each prompt, minus infinity where there is none."""
    constants_S, of_S = values_S.detach(), prompt_S[chosen_S]
    lowest = constants_S.new_full((prompts,), -torch.inf)
    largest = lowest.scatter_reduce(0, of_S, constants_S[chosen_S], "amax")
    shift = torch.where(torch.isfinite(largest), largest, 0)
    shifted_S = (values_S[chosen_S] - shift[of_S]).exp()
    total = values_S.new_zeros(prompts).index_add(0, of_S, shifted_S)
    has_any = total > 0
    # The inner choice keeps the logarithm's slope finite where there is nothing.
    return torch.where(has_any, torch.where(has_any, total, 1).log() + shift, -torch.inf)


def _over(loss_prompts: Tensor, of: Tensor, x: Inputs) -> Tensor:
    """Each prompt's loss shared out over the positions of all its sequences, [N]."""
    lengths = torch.zeros_like(loss_prompts).index_add(0, of, x.lengths().to(loss_prompts.dtype))
    return (loss_prompts / lengths.clamp_min(1))[of][x.groups]


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Of TED's first stage.

    Args:
        projector_lr: learning rate of the filters.
        layers: pairs of layers that are compared, evenly over both depths; 0 is as many as the shallower model has.
    """

    projector_lr: float = 1e-3
    layers: int = 0


@dataclass(frozen=True, slots=True)
class TedOptions:
    """Of TED's second stage.

    Args:
        projector_lr: as in the first stage.
        layers: as in the first stage.
        filters: the folder of the first stage's student, beside which its filters are stored; None begins with new
            ones.
    """

    projector_lr: float = 1e-3
    layers: int = 0
    filters: Path | None = None


def _new_filters(
    student: ModelShape, teacher: ModelShape, options: FilterOptions | TedOptions
) -> Projectors:
    layer_count = options.layers or min(student.depth, teacher.depth)
    layer_pairs = same_depth(student.depth, teacher.depth, layer_count)
    return Projectors(Filters(student.width, teacher.width, layers=len(layer_pairs)), layer_pairs)


def _option_mistakes(options: FilterOptions | TedOptions) -> Sequence[Mistake]:
    return [*above_zero(options, "projector_lr", 0.01), *at_least(options, "layers", 0)]


@final
class _FirstStageHooks(Hooks):
    """Only the filters learn."""

    options = FilterOptions
    trains_student = False

    def option_mistakes(self, options: FilterOptions) -> Sequence[Mistake]:
        return _option_mistakes(options)

    def projectors(
        self, student: ModelShape, teacher: ModelShape, options: FilterOptions
    ) -> Projectors | None:
        return _new_filters(student, teacher, options)


@final
class _SecondStageHooks(Hooks):
    """The student learns, from the first stage's filters."""

    options = TedOptions

    def option_mistakes(self, options: TedOptions) -> Sequence[Mistake]:
        return _option_mistakes(options)

    def projectors(
        self, student: ModelShape, teacher: ModelShape, options: TedOptions
    ) -> Projectors | None:
        return _new_filters(student, teacher, options)

    def initial_projectors(self, options: TedOptions) -> Path | None:
        return options.filters


HOOKS: Mapping[str, Hooks] = {"ted_filters": _FirstStageHooks(), "ted": _SecondStageHooks()}
