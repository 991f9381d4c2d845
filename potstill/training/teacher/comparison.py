"""A served teacher beside the same teacher's weights: the loss of given rows by both.

At k entries the server and the weights must give one loss, whatever k is: then the server says what the weights say.
What the k entries leave out is the difference to the whole distribution. It is never negative for a divergence with
`tail=bucket`: classes that are put together never tell two distributions further apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill import objectives
from potstill.models.local import weights
from potstill.objectives.divergence import COMPARED_BY_ENTRIES
from potstill.objectives.inputs import Hidden, Inputs, TopK
from potstill.objectives.truncated import top_k
from potstill.records import Progress, Trace
from potstill.training import checkpoint, logprobs
from potstill.training.dataset import batching
from potstill.training.dataset.build import Tokenizing, max_row_length
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.objective_inputs import load_frozen
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.cached_logits import count_tokenizer_ids
from potstill.training.teacher.token_teacher import TokenTeacher
from potstill.training.teacher.top_k_columns import TOP_K_COLUMNS, rows_with_entries

ROWS_A_BATCH = 8
MAX_DIFFERENCE = 1e-4  # of two losses that are meant to be equal, in nats a token
# How far log-probabilities in float32 of the same weights may be apart: twice the distance from 1 to the next number.
ROUNDING = 2 * 2.0**-23


@dataclass(frozen=True, slots=True)
class LossComparison:
    """Mean losses a token by one objective.

    Args:
        objective: its name.
        served: with the server's k entries.
        local_top_k: with the weights' k entries; None without weights.
        local: with the weights' whole distribution; None without weights.
        rounding: how much the served loss moves where every log-probability is rounded otherwise. Where next to nothing
            is left outside the k entries, float32 hardly says how little, which the reverse KL asks for.
    """

    objective: str
    served: float
    rounding: float = 0.0
    local_top_k: float | None = None
    local: float | None = None

    @property
    def difference(self) -> float | None:
        """Served less local, at the same k."""
        return None if self.local_top_k is None else self.served - self.local_top_k

    @property
    def beyond_k(self) -> float | None:
        """What the k entries leave out of the whole distribution's loss."""
        if self.local is None or self.local_top_k is None:
            return None
        return self.local - self.local_top_k


@dataclass(frozen=True, slots=True)
class TeacherComparison:
    """What was compared.

    Args:
        rows: how many.
        tokens: with a loss.
        k: entries a token that the server gave.
        vocabulary: ids that the student's tokenizer knows.
        mass: the mean probability inside the k entries.
        largest_gap: the largest difference of a log-probability of one token, served less local; None without weights.
        losses: by objective.
    """

    rows: int
    tokens: int
    k: int
    vocabulary: int
    mass: float
    largest_gap: float | None
    losses: Sequence[LossComparison]

    @property
    def is_equal(self) -> bool:
        """Whether served and local losses are equal at the same k, where there are weights to compare with."""
        for loss in self.losses:
            if loss.difference is None:
                continue
            if abs(loss.difference) > MAX_DIFFERENCE + loss.rounding:
                return False
        return True


def compare_teachers(
    traces: Sequence[Trace],
    student: Path,
    chat: ChatTemplate,
    served: Any,
    *,
    loss_top_k: int,
    local: Path | None = None,
    progress: Progress | None = None,
) -> TeacherComparison:
    """The rows' losses by a served teacher, and by its weights where these are given.

    Args:
        traces: finished ones.
        student: the checkpoint whose loss it is.
        chat: its template.
        served: the teacher on a server (`TokenScored`).
        loss_top_k: entries a token.
        local: the teacher's weights.
        progress: called with (label, rows done, all rows).
    """
    settings = TrainingSettings()
    tokenize = Tokenizing(chat, max_row_length(student, settings), 0.0, None)
    rows = list(tokenize.singles(traces).rows)
    width = count_tokenizer_ids(student)
    teacher = TokenTeacher(served, top_k=loss_top_k, token_count=width)
    # All rows are asked for at once: what comes is stored before anything is computed from it.
    with_entries = rows_with_entries(teacher, rows)
    scored = [row for row in with_entries if row.columns]

    model = checkpoint.load_student(student, settings)
    model = weights.move_to_device(model, weights.resolve_device("auto")).eval()
    local_model = None if local is None else load_frozen(local, model)
    sums = _Sums(width)
    for start in range(0, len(scored), ROWS_A_BATCH):
        if progress:
            progress("rows", start, len(scored))
        sums.add(model, local_model, scored[start : start + ROWS_A_BATCH])
    if progress:
        progress("rows", len(scored), len(scored))
    return sums.comparison(len(scored))


class _Sums:
    """Sums over the tokens of all rows so far.

    Args:
        width: token ids that count: a teacher's head may be padded beyond them.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self.tokens, self.k, self.mass, self.largest_gap = 0, 0, 0.0, 0.0
        self._losses: dict[str, dict[str, float]] = {name: {} for name in COMPARED_BY_ENTRIES}

    def add(self, model: Any, local: Any, rows: Sequence[TokenizedRow]) -> None:
        """Add a few rows."""
        with torch.no_grad():
            self._add(model, local, rows)

    def _add(self, model: Any, local: Any, rows: Sequence[TokenizedRow]) -> None:
        batch = batching.to_device(batching.collate_rows(rows), model.device)
        x = logprobs.build_inputs(model, batch, needs=("distribution",))
        assert isinstance(x.teacher, TopK)
        rounded = TopK(x.teacher.ids_NK, x.teacher.logp_NK - ROUNDING)
        teachers: dict[str, Any] = {"served": x.teacher, "rounded": rounded}
        self.tokens += len(x.targets_N)
        self.k = x.teacher.ids_NK.shape[1]
        self.mass += float(x.teacher.logp_NK.exp().sum())
        if local is not None:
            plain = {name: column for name, column in batch.items() if name not in TOP_K_COLUMNS}
            whole = logprobs.build_inputs(local, plain)
            local_hidden = Hidden(whole.hidden_ND, whole.head)
            logits_NV = whole.head(whole.hidden_ND)[:, : self._width]
            teachers["local_top_k"] = top_k(logits_NV, self.k)
            teachers["local"] = local_hidden
            self._add_gap(x.teacher, logits_NV)
        for name, sums in self._losses.items():
            for whose, teacher in teachers.items():
                loss = _loss_sum(name, replace(x, teacher=teacher))
                sums[whose] = sums.get(whose, 0.0) + loss

    def _add_gap(self, served: TopK, logits_NV: Tensor) -> None:
        """Compare the entries with what the weights say of the same tokens."""
        local_NK = logits_NV.float().log_softmax(-1).gather(1, served.ids_NK)
        gap = (served.logp_NK - local_NK).abs()
        # What is all but impossible differs by many nats and by no probability.
        is_likely = served.logp_NK.exp() > 1e-6
        self.largest_gap = max(self.largest_gap, float((gap * is_likely).max()))

    def comparison(self, rows: int) -> TeacherComparison:
        """The means."""
        has_local = any("local" in sums for sums in self._losses.values())
        losses = []
        for name, sums in self._losses.items():
            means = {whose: total / max(1, self.tokens) for whose, total in sums.items()}
            means["rounding"] = abs(means.pop("rounded") - means["served"])
            losses.append(LossComparison(name, **means))
        return TeacherComparison(
            rows=rows,
            tokens=self.tokens,
            k=self.k,
            vocabulary=self._width,
            mass=self.mass / max(1, self.tokens),
            largest_gap=self.largest_gap if has_local else None,
            losses=losses,
        )


def _loss_sum(objective: str, x: Inputs) -> float:
    return float(objectives.find(objective)(x).values_N.sum())
