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
from potstill.objectives.chunked import Kernel, full, losses
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
    teacher, maps = _teacher(x, "dskd"), x.projectors
    if not isinstance(maps, CrossMaps) or x.embedded_N2D is None or teacher.embedded_M2Dt is None:
        raise ConfigError(
            "dskd needs its projections and both models' embeddings",
            expected="projectors=CrossMaps(D, Dt)",
        )
    to_student, to_teacher = _crossed(x, teacher, maps)
    mine, theirs = frozen(x.head), frozen(teacher.head)
    t2s = Inputs(to_student, mine, x.targets_N, weights_N=x.weights_N)
    learnt = losses(t2s, nll(x.targets_N), chunk=chunk)
    right = _best(t2s, chunk) == x.targets_N
    near = _near(x, right, Hidden(to_student.detach(), mine), temperature, chunk)
    s2t = Inputs(to_teacher, theirs, teacher.targets_M, teacher=Hidden(teacher.hidden_MDt, theirs))
    far = forward_kl(s2t, temperature=temperature, chunk=chunk).values_N
    total = far.new_zeros(x.sequences()).index_add(0, teacher.sequences_M, far)
    spread = (total / x.lengths().clamp_min(1))[x.groups]
    values = (1 - kd) * sft(x, chunk=chunk).values_N + kd * (learnt + near + spread)
    stats = {"t2s_nll": summed(learnt), "t2s_kl": Sum(near.detach().sum(), right.sum())}
    return Loss(values, stats | {"s2t_kl": summed(far), "t2s_right": summed(right.to(far.dtype))})


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
    teacher, maps = _teacher(x, "cot2align"), x.projectors
    if not isinstance(maps, Across):
        raise ConfigError(
            "cot2align needs its projections", expected="projectors=Across(D, Dt, layers)"
        )
    spaces = _spaces(x, teacher, maps)
    moved = full(x.hidden_ND.new_zeros(len(x.targets_N)))
    other = torch.arange(x.sequences(), device=moved.device)
    if crossed and x.pairs_P2 is not None:
        other[x.pairs_P2] = x.pairs_P2.flip(1)
    for which in x.groups.unique():
        mine = (x.groups == which).nonzero().squeeze(1)
        theirs = (teacher.sequences_M == other[which]).nonzero().squeeze(1)
        if not len(theirs):
            continue
        for student, projected in spaces:
            unit = [
                nn.functional.normalize(full(side), dim=-1)
                for side in (student[mine], projected[theirs])
            ]
            with torch.autocast(moved.device.type, enabled=False):  # 1 - cosine cancels in bfloat16
                cost = 1 - unit[0] @ unit[1].T
            moved = moved.index_add(0, mine, transport(cost, epsilon=epsilon) / len(spaces))
    if teacher.aligned_N is None:
        rest = ce * sft(x, chunk=chunk).values_N if ce else torch.zeros_like(moved)
    else:
        rest = uld(x, weight=weight, ce=ce, chunk=chunk).values_N
    over = (other[x.groups] != x.groups).to(moved.dtype)
    return Loss(rest + align * moved, {"transport": summed(moved), "crossed": summed(over)})


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


def _crossed(x: Inputs, teacher: OtherVocabulary, maps: CrossMaps) -> tuple[Tensor, Tensor]:
    """The teacher's states in the student's space at its positions, and the student's in the teacher's."""
    assert x.embedded_N2D is not None
    assert teacher.embedded_M2Dt is not None
    width = teacher.hidden_MDt.shape[1]
    query_N = maps.query(x.embedded_N2D.detach().flatten(1))
    values_N = maps.to_teacher(x.hidden_ND)
    to_student = torch.zeros_like(x.hidden_ND)
    to_teacher = values_N.new_zeros(teacher.hidden_MDt.shape)
    for which in x.groups.unique():
        mine = (x.groups == which).nonzero().squeeze(1)
        theirs = (teacher.sequences_M == which).nonzero().squeeze(1)
        if not len(theirs):
            continue
        embedded, hidden = (
            teacher.embedded_M2Dt[theirs].detach(),
            teacher.hidden_MDt[theirs].detach(),
        )
        key = embedded.flatten(1)
        value = maps.to_student(
            hidden / _deviation(hidden) + embedded[:, 1] / _deviation(embedded[:, 1])
        )
        scores = full(query_N[mine]) @ full(key / _deviation(key)).T / math.sqrt(2 * width)
        there, back = (
            scores.softmax(-1).to(value.dtype) @ value,
            scores.T.softmax(-1).to(values_N.dtype) @ values_N[mine],
        )
        to_student = to_student.index_copy(0, mine, there.to(to_student.dtype))
        to_teacher = to_teacher.index_copy(0, theirs, back)
    return to_student, to_teacher


def _deviation(values: Tensor) -> Tensor:
    return full(values).std().clamp_min(torch.finfo(torch.float32).tiny).to(values.dtype)


def _best(x: Inputs, chunk: int) -> Tensor:
    """The most probable token of each position; no graph."""
    best = torch.empty_like(x.targets_N)

    def kernel(logits: Tensor, rows: slice, gradient: bool) -> tuple[Tensor, Tensor | None]:
        best[rows] = logits.argmax(-1)
        return logits.new_zeros(len(logits)), None

    with torch.no_grad():
        found: Kernel = kernel
        losses(Inputs(x.hidden_ND.detach(), x.head, x.targets_N), found, chunk=chunk)
    return best


def _near(x: Inputs, kept: Tensor, teacher: Hidden, temperature: float, chunk: int) -> Tensor:
    """KL(teacher || student) at the kept positions, 0 elsewhere."""
    at = kept.nonzero().squeeze(1)
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


def _spaces(x: Inputs, teacher: OtherVocabulary, maps: Across) -> list[tuple[Tensor, Tensor]]:
    """(Student's states [N, D], teacher's projected [M, D]) of every space that is compared."""
    found: list[tuple[Tensor, Tensor]] = []
    if x.embedded_N2D is not None and teacher.embedded_M2Dt is not None:
        found.append((x.embedded_N2D[:, 0], maps.embeddings(teacher.embedded_M2Dt[:, 0].detach())))
    mine = x.layers.student if x.layers is not None else (x.hidden_ND,)
    theirs = x.layers.teacher if x.layers is not None else (teacher.hidden_MDt,)
    if len(maps.layers) != len(mine):
        raise ConfigError(
            f"{len(maps.layers)} projections for {len(mine)} pairs of layers", expected="as many"
        )
    return found + [(s, project(t.detach())) for s, t, project in zip(mine, theirs, maps.layers)]


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
