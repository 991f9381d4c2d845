"""Distillation in two spaces: states of a teacher of another vocabulary, carried over by trained projections.

No groups of bytes are needed: attention between the two sequences (DSKD) or optimal transport (CoT2Align) says which
positions belong together. `x.projectors` holds the projections; they are modules with parameters of their own, which a
trainer must optimise beside the student's, at a rate of their own (the papers: 1e-3), and drop at export.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from potstill.errors import ConfigError
from potstill.objectives import ranges
from potstill.objectives.chunked import full, losses
from potstill.objectives.divergence import forward_kl
from potstill.objectives.hooks import (
    Hooks,
    Mistake,
    ModelShape,
    ProjectorOptions,
    Projectors,
    above_zero,
)
from potstill.objectives.inputs import Hidden, Inputs, Loss, OtherVocabulary, Sum, summed
from potstill.objectives.likelihood import nll, sft
from potstill.objectives.sinkhorn import transport
from potstill.objectives.transport import uld


class CrossMaps(nn.Module):  # type: ignore[misc]
    """DSKD's trained projections: query [2D to 2Dt], teacher to student [Dt to D], student to teacher [D to Dt].

    Plain linear layers as in the repository; parameters are the trainer's to optimise.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.query = nn.Linear(2 * student, 2 * teacher)
        self.to_student = nn.Linear(teacher, student)
        self.to_teacher = nn.Linear(student, teacher)


class Across(nn.Module):  # type: ignore[misc]
    """CoT2Align's projection of teacher states into the student's space; parameters are the trainer's to optimise.

    Args:
        student: its width.
        teacher: its width, the same for embeddings and states.
        layers: how many pairs of layers get a projection of their own, beside that of the embeddings.
    """

    def __init__(self, student: int, teacher: int, layers: int = 1) -> None:
        super().__init__()
        self.embeddings = nn.Linear(teacher, student)
        self.layers = nn.ModuleList(nn.Linear(teacher, student) for _ in range(layers))


def dskd(x: Inputs, *, kd: float = 0.5, temperature: float = 2.0, chunk: int = 0) -> Loss:
    """`(1 - kd) NLL + kd (CE_t2s + 1[t2s right] KL(t2s || q) + KL(p || s2t))` (Zhang et al., arXiv:2406.17328).

    Cross-model attention as coded: queries are maps of the student's [embedding of input; of target], keys the
    teacher's over their deviation, values `W (h/std + e/std)`, scores over `sqrt(2 Dt)`. t2s are such states under the
    student's head, s2t the student's under the teacher's; both heads are held constant there. KL to t2s counts
    only where its best token is the target, and t2s is its constant. s2t's loss, of the teacher's positions, is spread
    over the sequence's. Per token.

    Departure: deviations are those of a sequence's counted positions; the repository's are of the batch with its
    padding, so that they change with the batch. Needs `x.projectors` (CrossMaps) and both sides' embeddings.
    """
    ranges.share("dskd", kd=kd)
    ranges.positive("dskd", temperature=temperature)
    teacher, projectors = _teacher(x, "dskd"), x.projectors
    if (
        not isinstance(projectors, CrossMaps)
        or x.embedded_N2D is None
        or teacher.embedded_M2Dt is None
    ):
        raise ConfigError(
            "dskd needs its projections and both models' embeddings",
            expected="projectors=CrossMaps(D, Dt)",
        )
    to_student_ND, to_teacher_MDt = _crossed(x, teacher, projectors)
    student_head, teacher_head = frozen(x.head), frozen(teacher.head)

    # The teacher in the student's space.
    t2s = Inputs(to_student_ND, student_head, x.targets_N, weights_N=x.weights_N)
    t2s_nll_N = losses(t2s, nll(x.targets_N), chunk=chunk)
    is_right_N = _best(t2s, chunk) == x.targets_N
    t2s_teacher = Hidden(to_student_ND.detach(), student_head)
    t2s_kl_N = _kl_where(x, is_right_N, t2s_teacher, temperature, chunk)

    # The student in the teacher's space: a loss of the teacher's positions, spread over the sequence's.
    theirs = Hidden(teacher.hidden_MDt, teacher_head)
    s2t = Inputs(to_teacher_MDt, teacher_head, teacher.targets_M, teacher=theirs)
    s2t_kl_M = forward_kl(s2t, temperature=temperature, chunk=chunk).values_N
    s2t_kl_S = s2t_kl_M.new_zeros(x.sequences()).index_add(0, teacher.sequences_M, s2t_kl_M)
    s2t_kl_N = (s2t_kl_S / x.lengths().clamp_min(1))[x.groups]

    distilled_N = t2s_nll_N + t2s_kl_N + s2t_kl_N
    values = (1 - kd) * sft(x, chunk=chunk).values_N + kd * distilled_N
    stats = {
        "t2s_nll": summed(t2s_nll_N),
        "t2s_kl": Sum(t2s_kl_N.detach().sum(), is_right_N.sum()),
        "s2t_kl": summed(s2t_kl_M),
        "t2s_right": summed(is_right_N.to(s2t_kl_M.dtype)),
    }
    return Loss(values, stats)


def cot2align(
    x: Inputs,
    *,
    align: float = 1.0,
    weight: float = 1.5,
    ce: float = 1.0,
    epsilon: float = 0.1,
    crossed: bool = True,
    chunk: int = 0,
) -> Loss:
    """`ce NLL + weight ULD + align mean_l <P_l, C_l>` (Le et al., arXiv:2502.16806; known from descriptions only).

    Transport between the student's positions and the teacher's, uniform over tokens, first of embeddings and then of
    each pair of layers; the plan is held constant. ULD is added where byte groups are known, always of the same text.
    Each position carries the cost of its own share. Per token.

    `crossed`: `x.pairs_P2` are (target with its chain of thought, the same without it), and what the student makes of
    either is carried to what the teacher makes of the other. A sequence in no pair is carried to its own. The trainer
    makes the pairs of rows whose chain it can tell, from `<think>` or a marked answer.

    (inferred: both directions weigh the same; the cost. Reported is that it comes of the similarity
    `X P(Y)^T / sqrt(d)`; here it is 1 - cosine, which is such a similarity of states of one length: without that the
    loss falls without bound as states grow. Weights of the terms and epsilon are ours. No code is published.)
    """
    ranges.not_negative("cot2align", align=align, weight=weight, ce=ce)
    ranges.positive("cot2align", epsilon=epsilon)
    teacher, projectors = _teacher(x, "cot2align"), x.projectors
    if not isinstance(projectors, Across):
        raise ConfigError(
            "cot2align needs its projections", expected="projectors=Across(D, Dt, layers)"
        )
    spaces = _spaces(x, teacher, projectors)
    cost_N = full(x.hidden_ND.new_zeros(len(x.targets_N)))
    # Which of the teacher's sequences each of the student's is carried to.
    partner_S = torch.arange(x.sequences(), device=cost_N.device)
    if crossed and x.pairs_P2 is not None:
        partner_S[x.pairs_P2] = x.pairs_P2.flip(1)
    for sequence in x.groups.unique():
        at_n = (x.groups == sequence).nonzero().squeeze(1)
        at_m = (teacher.sequences_M == partner_S[sequence]).nonzero().squeeze(1)
        if not len(at_m):
            continue
        for student_ND, teacher_MD in spaces:
            student_nD = nn.functional.normalize(full(student_ND[at_n]), dim=-1)
            teacher_mD = nn.functional.normalize(full(teacher_MD[at_m]), dim=-1)
            # 1 - cosine cancels in bfloat16.
            with torch.autocast(cost_N.device.type, enabled=False):
                cost_nm = 1 - student_nD @ teacher_mD.T
            moved_n = transport(cost_nm, epsilon=epsilon) / len(spaces)
            cost_N = cost_N.index_add(0, at_n, moved_n)

    # Where byte groups are known ULD brings the cross-entropy too.
    if teacher.aligned_N is not None:
        other_terms = uld(x, weight=weight, ce=ce, chunk=chunk).values_N
    elif ce:
        other_terms = ce * sft(x, chunk=chunk).values_N
    else:
        other_terms = torch.zeros_like(cost_N)
    is_crossed = (partner_S[x.groups] != x.groups).to(cost_N.dtype)
    stats = {"transport": summed(cost_N), "crossed": summed(is_crossed)}
    return Loss(other_terms + align * cost_N, stats)


def frozen(head: Any) -> Any:
    """A head that gives gradients to what goes in and none to itself; it shares the weights.

    Of a module: what a plain function closes over can't be seen, and would learn.
    """
    if not isinstance(head, nn.Module):
        return head
    shared: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=False) for p in head.parameters()
    }
    return copy.deepcopy(head, shared)


def _teacher(x: Inputs, name: str) -> OtherVocabulary:
    if not isinstance(x.teacher, OtherVocabulary):
        raise ConfigError(
            f"{name} needs a teacher's states at its own positions",
            expected="teacher=OtherVocabulary(…)",
        )
    return x.teacher


def _crossed(x: Inputs, teacher: OtherVocabulary, projectors: CrossMaps) -> tuple[Tensor, Tensor]:
    """The teacher's states in the student's space at its positions, and the student's in the teacher's."""
    assert x.embedded_N2D is not None
    assert teacher.embedded_M2Dt is not None
    width = teacher.hidden_MDt.shape[1]
    query_N = projectors.query(x.embedded_N2D.detach().flatten(1))  # [N, 2D] -> [N, 2Dt]
    student_values_N = projectors.to_teacher(x.hidden_ND)  # [N, D] -> [N, Dt]
    to_student_ND = torch.zeros_like(x.hidden_ND)
    to_teacher_MDt = student_values_N.new_zeros(teacher.hidden_MDt.shape)
    for sequence in x.groups.unique():
        # n positions of the student in this sequence, m of the teacher.
        at_n = (x.groups == sequence).nonzero().squeeze(1)
        at_m = (teacher.sequences_M == sequence).nonzero().squeeze(1)
        if not len(at_m):
            continue
        embedded = teacher.embedded_M2Dt[at_m].detach()  # [m, 2, Dt]
        hidden = teacher.hidden_MDt[at_m].detach()  # [m, Dt]
        target = embedded[:, 1]  # [m, Dt]
        key = embedded.flatten(1)  # [m, 2Dt]
        scaled_states = hidden / _deviation(hidden) + target / _deviation(target)
        value = projectors.to_student(scaled_states)  # [m, Dt] -> [m, D]

        # Attention between the two sequences, both ways.
        scaled_key = full(key / _deviation(key))
        scores_nm = full(query_N[at_n]) @ scaled_key.T / math.sqrt(2 * width)
        there_weights_nm = scores_nm.softmax(-1).to(value.dtype)
        there_nD = there_weights_nm @ value
        back_weights_mn = scores_nm.T.softmax(-1).to(student_values_N.dtype)
        back_mDt = back_weights_mn @ student_values_N[at_n]
        to_student_ND = to_student_ND.index_copy(0, at_n, there_nD.to(to_student_ND.dtype))
        to_teacher_MDt = to_teacher_MDt.index_copy(0, at_m, back_mDt)
    return to_student_ND, to_teacher_MDt


def _deviation(values: Tensor) -> Tensor:
    least = torch.finfo(torch.float32).tiny
    return full(values).std().clamp_min(least).to(values.dtype)


def _best(x: Inputs, chunk: int) -> Tensor:
    """The most probable token of each position; no graph."""
    best = torch.empty_like(x.targets_N)

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        best[rows] = logits.argmax(-1)
        return logits.new_zeros(len(logits)), None

    with torch.no_grad():
        losses(Inputs(x.hidden_ND.detach(), x.head, x.targets_N), kernel, chunk=chunk)
    return best


def _kl_where(
    x: Inputs, chosen_N: Tensor, teacher: Hidden, temperature: float, chunk: int
) -> Tensor:
    """KL(teacher || student) at the chosen positions, 0 elsewhere."""
    at = chosen_N.nonzero().squeeze(1)
    weights = None if x.weights_N is None else x.weights_N[at]
    part = Inputs(
        x.hidden_ND[at],
        x.head,
        x.targets_N[at],
        weights,
        Hidden(teacher.hidden_NDt[at], teacher.head),
    )
    values = forward_kl(part, temperature=temperature, chunk=chunk).values_N
    return values.new_zeros(len(x.targets_N)).index_add(0, at, values)


def _spaces(x: Inputs, teacher: OtherVocabulary, projectors: Across) -> list[tuple[Tensor, Tensor]]:
    """(Student's states [N, D], teacher's projected [M, D]) of every space that is compared."""
    spaces: list[tuple[Tensor, Tensor]] = []
    if x.embedded_N2D is not None and teacher.embedded_M2Dt is not None:
        embedded_MDt = teacher.embedded_M2Dt[:, 0].detach()
        spaces.append((x.embedded_N2D[:, 0], projectors.embeddings(embedded_MDt)))
    student_layers: tuple[Tensor, ...] = (x.hidden_ND,)
    teacher_layers: tuple[Tensor, ...] = (teacher.hidden_MDt,)
    if x.layers is not None:
        student_layers, teacher_layers = x.layers.student, x.layers.teacher
    if len(projectors.layers) != len(student_layers):
        raise ConfigError(
            f"{len(projectors.layers)} projections for {len(student_layers)} pairs of layers",
            expected="as many",
        )
    for student_ND, teacher_MDt, project in zip(student_layers, teacher_layers, projectors.layers):
        spaces.append((student_ND, project(teacher_MDt.detach())))
    return spaces


@final
class _DskdHooks(Hooks):
    """Projections of DSKD."""

    options = ProjectorOptions

    def option_mistakes(self, options: ProjectorOptions) -> Sequence[Mistake]:
        return above_zero(options, "projector_lr", 0.01)

    def projectors(
        self, student: ModelShape, teacher: ModelShape, options: ProjectorOptions
    ) -> Projectors | None:
        return Projectors(CrossMaps(student.width, teacher.width))


@final
class _CoT2AlignHooks(Hooks):
    """Projections of CoT2Align, and each row paired with itself without its chain of thought."""

    options = ProjectorOptions

    def option_mistakes(self, options: ProjectorOptions) -> Sequence[Mistake]:
        return above_zero(options, "projector_lr", 0.01)

    def projectors(
        self, student: ModelShape, teacher: ModelShape, options: ProjectorOptions
    ) -> Projectors | None:
        return Projectors(Across(student.width, teacher.width))

    def pairs_with_answer_alone(self, constants: Mapping[str, Any]) -> bool:
        return bool(constants.get("crossed", True))


HOOKS: Mapping[str, Hooks] = {"dskd": _DskdHooks(), "cot2align": _CoT2AlignHooks()}
