"""What every objective takes and gives: counted positions in, the loss of each position out.

Shapes stand as suffixes of names: `logits_NV` is [N, V]. N counted positions of a micro-batch, those of a sequence in
its order; D width of the student's states, Dt of the teacher's; V vocabulary; C positions of a chunk; S sequences; P
pairs; K entries of a teacher's top-k; M positions of a teacher that cuts the text into other tokens; U tokens that two
vocabularies share. Rows are shifted already: `hidden_ND[i]` is the state that *predicts* `targets_N[i]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

Head: TypeAlias = Callable[[Tensor], Tensor]


class Logits(NamedTuple):
    """A teacher's whole next-token logits, [N, V]."""

    logits_NV: Tensor


class Hidden(NamedTuple):
    """A teacher's last states [N, Dt] and its head: its logits never exist in full."""

    hidden_NDt: Tensor
    head: Head


class Several(NamedTuple):
    """Several teachers, each position's distribution a mean of theirs: p = sum_m w_m p_m, in probabilities.

    Args:
        parts: the teachers' states and heads; where a teacher has no share, its states are not used.
        shares_NM: w, of each position; a row of a teacher of its own has a single 1.
    """

    parts: tuple[Hidden, ...]
    shares_NM: Tensor


class TopK(NamedTuple):
    """A teacher's top-k entries: ids and log-probabilities over its full vocabulary, [N, K]; the rest is its tail."""

    ids_NK: Tensor
    logp_NK: Tensor


class TokenLogp(NamedTuple):
    """Only the teacher's log-probability of each target, [N]."""

    logp_N: Tensor


class OtherVocabulary(NamedTuple):
    """A teacher that cuts the same text into other tokens: its own M positions, shifted as the student's are.

    Args:
        hidden_MDt: its last states.
        head: its output projection, to its own vocabulary.
        targets_M: its token ids.
        sequences_M: which sequence a position belongs to, numbered as the student's.
        aligned_N: the group of bytes that a student's position belongs to, numbered over the micro-batch, -1 for none
            (`alignment.columns`).
        aligned_M: the same of the teacher's positions.
        matched_U2: (student's, teacher's) ids of the tokens that are the same bytes.
        embedded_M2Dt: its embeddings of the input token and of the target (DSKD).
    """

    hidden_MDt: Tensor
    head: Head
    targets_M: Tensor
    sequences_M: Tensor
    aligned_N: Tensor | None = None
    aligned_M: Tensor | None = None
    matched_U2: Tensor | None = None
    embedded_M2Dt: Tensor | None = None


class Layers(NamedTuple):
    """States of inner layers, pair by pair: the student's [N, D], the teacher's [N, Dt] (CoT2Align: [M, Dt])."""

    student: tuple[Tensor, ...]
    teacher: tuple[Tensor, ...]


Teacher: TypeAlias = Logits | Hidden | Several | TopK | TokenLogp | OtherVocabulary


@dataclass(frozen=True, slots=True)
class Inputs:
    """A micro-batch's counted positions.

    Args:
        hidden_ND: the student's last states at the positions that predict a counted token.
        head: the student's output projection, [n, D] to [n, V].
        targets_N: the token ids to be predicted.
        weights_N: the weights, divided by the normaliser, with which the reducer will sum the loss: known ahead, they
            let the gradient be made in the forward pass. An objective never multiplies by them itself.
        teacher: what is known of the teacher at these positions.
        groups_N: which sequence a position belongs to, 0 to S-1.
        pairs_P2: (better, worse) sequences.
        reference_N: log-probability of each target under the reference model.
        sampled_N: log-probability of each target when it was sampled.
        advantages_N: of each position; a sequence's is repeated.
        labels_S: whether each sequence is desirable.
        kl: mean log-ratio to the reference of mismatched prompts and completions, a scalar (KTO).
        prompts_S: which prompt a sequence answers, 0 and up (losses of several completions of a prompt).
        scores_S: how good a sequence is, 0 to 1.
        embedded_N2D: the student's embeddings of the input token and of the target (DSKD, CoT2Align).
        layers: states of inner layers (TED, CoT2Align).
        projectors: trained projections between the two models' spaces; a trainer optimises their parameters too.
        replaced_N: whether each target is a token of the student's own in the place of the text's (KID).
    """

    hidden_ND: Tensor
    head: Head
    targets_N: Tensor
    weights_N: Tensor | None = None
    teacher: Teacher | None = None
    groups_N: Tensor | None = None
    pairs_P2: Tensor | None = None
    reference_N: Tensor | None = None
    sampled_N: Tensor | None = None
    advantages_N: Tensor | None = None
    labels_S: Tensor | None = None
    kl: Tensor | None = None
    prompts_S: Tensor | None = None
    scores_S: Tensor | None = None
    embedded_N2D: Tensor | None = None
    layers: Layers | None = None
    projectors: nn.Module | None = None
    replaced_N: Tensor | None = None

    @property
    def groups(self) -> Tensor:
        """Which sequence each position belongs to; one sequence where nothing is said."""
        return torch.zeros_like(self.targets_N) if self.groups_N is None else self.groups_N

    def lengths(self) -> Tensor:
        """Counted positions of each sequence, [S]."""
        return torch.bincount(self.groups, minlength=self.sequences())

    def places(self) -> Tensor:
        """How many positions of its own sequence come before each position, [N], however sequences lie in the batch."""
        order_N, lengths_S = self.groups.argsort(stable=True), self.lengths()
        starts_N = (lengths_S.cumsum(0) - lengths_S)[self.groups[order_N]]
        place_N = torch.arange(len(order_N), device=order_N.device) - starts_N
        return torch.empty_like(order_N).scatter(0, order_N, place_N)

    def sequences(self) -> int:
        """S: how many sequences there are."""
        counts = [0]
        if self.labels_S is not None:
            counts.append(len(self.labels_S))
        if self.pairs_P2 is not None and self.pairs_P2.numel():
            counts.append(int(self.pairs_P2.max()) + 1)
        if len(self.targets_N):
            counts.append(int(self.groups.max()) + 1)
        return max(counts)


class Sum(NamedTuple):
    """A sum and how many were added: means of micro-batches and ranks can't be averaged, these can be added."""

    total: Tensor
    count: Tensor


class Loss(NamedTuple):
    """The loss of each counted position [N], unreduced, with its graph; and what to log, as sums and counts."""

    values_N: Tensor
    stats: Mapping[str, Sum] = MappingProxyType({})


def summed(values: Tensor, chosen: Tensor | None = None) -> Sum:
    """The statistic of some values, or of those that are chosen."""
    values = values.detach()
    if chosen is None:
        return Sum(values.sum(), torch.tensor(values.numel(), device=values.device))
    return Sum((values * chosen).sum(), chosen.sum())


def reduce(loss_N: Tensor, weights_N: Tensor, normaliser: Tensor | float) -> Tensor:
    """Weighted sum over a micro-batch's positions, divided by what the *whole* effective batch counts.

    So the gradient is the same however the batch is cut into micro-batches. The normaliser decides the mean: the sum of
    weights (token mean), or with weights of 1 / length the number of sequences (sequence mean), or of pairs.
    """
    return (loss_N * weights_N).sum() / normaliser


def per_sequence(values_N: Tensor, x: Inputs) -> Tensor:
    """Sums over each sequence, [S]."""
    return values_N.new_zeros(x.sequences()).index_add(0, x.groups, values_N)


def spread(values_S: Tensor, x: Inputs) -> Tensor:
    """A value of each sequence shared out over its positions, [N]: summed again, it is the sequence's."""
    return values_S[x.groups] / x.lengths()[x.groups]
