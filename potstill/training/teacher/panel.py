"""Several teachers that tell their likeliest tokens: on servers, or checkpoints that are loaded in turn.

On given rows each checkpoint reads its rows and leaves the memory before the next one is loaded; on what the student
writes all stay loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, final

import torch
from torch import Tensor

from potstill.training import logprobs
from potstill.training.dataset import batching
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.teacher.cached_logits import compute_entries
from potstill.training.teacher.remote import ServedTeacher
from potstill.training.teacher.row_teachers import RowTeachers

ROWS_A_BATCH = 8  # that a checkpoint reads at once

Entries: TypeAlias = tuple[Tensor, Tensor]
"""Of a row's n counted tokens the ids [n, k] and log-probabilities [n, k] of the likeliest."""


class PanelMember(Protocol):
    """One teacher of several."""

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token, a list a row; empty where the row can't be scored."""
        ...

    def entries(self, rows: Sequence[TokenizedRow]) -> Iterator[Entries | None]:
        """The likeliest tokens at each counted place of each row."""
        ...


@final
class LoadedInTurn:
    """A checkpoint that is loaded when it is asked.

    Args:
        load: the model, for forward passes only.
        top_k: entries a token.
        token_count: ids that the student's tokenizer knows; a head may be padded beyond them.
        temperature: of the comparison.
        stays_loaded: whether it stays in memory between two calls.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        *,
        top_k: int,
        token_count: int,
        temperature: float = 1.0,
        stays_loaded: bool = False,
    ) -> None:
        self._load, self._top_k, self._token_count = load, top_k, token_count
        self._temperature, self._stays_loaded = temperature, stays_loaded
        self._model: Any = None

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token, a list a row."""
        model = self._loaded()
        log_probs = []
        for part in _parts(rows):
            batch = batching.to_device(batching.collate_rows(part), model.device)
            column_BT = logprobs.batch_log_probs(model, batch).cpu()
            for row, values in zip(part, column_BT, strict=True):
                is_learnt = torch.from_numpy(row.is_learnt)
                log_probs.append(values[: len(row)][is_learnt].tolist())
        self._leave()
        return log_probs

    def entries(self, rows: Sequence[TokenizedRow]) -> Iterator[Entries | None]:
        """The likeliest tokens at each counted place of each row."""
        if not rows:
            return
        model = self._loaded()
        for part in _parts(rows):
            yield from compute_entries(
                model,
                part,
                k=self._top_k,
                temperature=self._temperature,
                width=self._token_count,
            )
        self._leave()

    def _loaded(self) -> Any:
        if self._model is None:
            self._model = self._load()
        return self._model

    def _leave(self) -> None:
        if not self._stays_loaded:
            self._model = None


@final
class TeacherPanel(ServedTeacher):
    """The rows' own teachers, or all of them averaged.

    Args:
        members: by name.
        rows: whose rows are whose.
    """

    def __init__(self, members: Mapping[str, PanelMember], rows: RowTeachers) -> None:
        self._members = [members[name] for name in rows.names]
        self._rows = rows

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token; of several teachers that of their mean probability."""
        log_probs_of_teachers = self._ask(rows, lambda member, part: member(part))
        return [_mean_log_probs(of_row) for of_row in log_probs_of_teachers]

    def entries(self, rows: Sequence[TokenizedRow]) -> Iterator[Entries | None]:
        """The likeliest tokens at each counted place of each row; None where one of its teachers can't read it."""
        entries_of_teachers = self._ask(rows, lambda member, part: list(member.entries(part)))
        for of_row in entries_of_teachers:
            yield _mean_entries(of_row)

    def _ask(
        self,
        rows: Sequence[TokenizedRow],
        ask: Callable[[PanelMember, Sequence[TokenizedRow]], Sequence[Any]],
    ) -> list[list[Any]]:
        """What each row's teachers say of it; one teacher after the other, each of all its rows."""
        answers_of_rows: list[list[Any]] = [[] for _ in rows]
        for place, member in enumerate(self._members):
            indices = [
                index
                for index, row in enumerate(rows)
                if place in self._rows.of_trace[row.trace_index]
            ]
            answers = ask(member, [rows[index] for index in indices]) if indices else []
            for index, answer in zip(indices, answers, strict=True):
                answers_of_rows[index].append(answer)
        return answers_of_rows


def _mean_log_probs(told: Sequence[Sequence[float]]) -> list[float]:
    """log mean_m p_m(token) of each counted token; empty where one teacher says nothing of the row."""
    if not told or not all(told):
        return []
    means = []
    for values in zip(*told, strict=True):
        largest = max(values)
        total = sum(math.exp(value - largest) for value in values)
        means.append(largest + math.log(total / len(values)))
    return means


def _mean_entries(told: Sequence[Entries | None]) -> Entries | None:
    """The likeliest tokens under the mean of several teachers' probabilities.

    A token that a teacher does not name counts as 0 for it: what it would have stays in the tail. So the mean is exact
    where the k entries are the whole vocabulary, and a lower bound of each entry elsewhere.
    """
    entries_of_teachers = [entries for entries in told if entries is not None]
    if not entries_of_teachers or len(entries_of_teachers) < len(told):
        return None
    if len(entries_of_teachers) == 1:
        return entries_of_teachers[0]
    k = min(ids_NK.shape[1] for ids_NK, _ in entries_of_teachers)
    ids_NS = torch.cat(
        [ids_NK.long() for ids_NK, _ in entries_of_teachers], 1
    )  # S: entries of all teachers
    shares_NS = torch.cat(
        [log_probs_NK.double().exp() for _, log_probs_NK in entries_of_teachers], 1
    )
    shares_NS = shares_NS / len(entries_of_teachers)

    # Equal ids lie side by side once they are sorted; each group of them becomes one entry.
    ids_NS, order_NS = ids_NS.sort(dim=1, stable=True)
    shares_NS = shares_NS.gather(1, order_NS)
    is_new_NS = torch.ones_like(ids_NS, dtype=torch.bool)
    is_new_NS[:, 1:] = ids_NS[:, 1:] != ids_NS[:, :-1]
    group_NS = is_new_NS.cumsum(1) - 1
    sums_NS = torch.zeros_like(shares_NS).scatter_add_(1, group_NS, shares_NS)
    group_ids_NS = torch.zeros_like(ids_NS).scatter_(1, group_NS, ids_NS)

    best = sums_NS.topk(k, dim=1)
    ids_NK = group_ids_NS.gather(1, best.indices).to(torch.int32)
    return ids_NK, best.values.log().float()


def _parts(rows: Sequence[TokenizedRow]) -> Iterator[Sequence[TokenizedRow]]:
    for start in range(0, len(rows), ROWS_A_BATCH):
        yield rows[start : start + ROWS_A_BATCH]
