"""One role of one arm at the store: what is stored, what is missing, and how both are counted and paid for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

from potstill.budget.budget import Budget
from potstill.errors import PotstillWarning
from potstill.models.bounds import bound_numbers
from potstill.models.model import (
    Completion,
    HasTraffic,
    Request,
    RowProgress,
    SpendingPermit,
    Traffic,
    completion_keys,
)
from potstill.models.phase import COLLECTION, Phase, account_name
from potstill.records import Progress
from potstill.store.store import Store
from potstill.store.truncation import Policy

MAX_SERVED = 80  # characters of a server's name of a model, in a warning
UNPAID = Completion("", "", error="budget: the limit did not allow this call")


class NewCompletion(NamedTuple):
    """A completion to be stored: its key, the request, what the model answered."""

    key: str
    request: Request
    completion: Completion


@runtime_checkable
class CallListener(Protocol):
    """A progress callback that also wants to know what was answered and written, and what goes to servers."""

    def count_answers(self, label: str, count: int) -> None:
        """So many more answers have come from the model."""
        ...

    def count_tokens(self, label: str, count: int) -> None:
        """So many more tokens have been written by a local model, also of answers that are not whole yet."""
        ...

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """All that has gone to the model's server."""
        ...


@final
@dataclass(frozen=True, slots=True)
class CacheClient:
    """What a cached model knows of its place in the run; see `cached_model.with_cache` for the fields.

    `role` is the account that its calls are counted under: the role, in a phase.
    """

    inner: Any
    store: Store
    role: str
    arm: str
    seed: int
    progress: Progress
    retry_errors: bool = False
    truncated: Policy = "keep"
    budget: Budget | None = None
    continues_unpaid: bool = False
    stage: str = ""  # the key of the student in whose training the calls are made

    def in_phase(self, phase: Phase, stage: str = "") -> CacheClient:
        """The client of this role's calls in a phase, and of a stage where the phase is its training.

        What is done about cut and unpaid answers is done for training data alone: half of an answer, or a longer one,
        would make another measurement.
        """
        account = account_name(self.role, phase)
        if phase == COLLECTION:
            return replace(self, role=account)
        return replace(self, role=account, truncated="keep", continues_unpaid=False, stage=stage)

    @property
    def model_id(self) -> str:
        """The real model's id."""
        id: str = self.inner.id
        return id

    def request_keys(self, requests: Sequence[Request]) -> list[str]:
        """The keys of the requests under the run's seed."""
        return completion_keys(self.model_id, requests, self.seed)

    def with_seed(self, request: Request) -> Request:
        """The request with the run's seed."""
        # True == 1, but their keys differ: only a seed of the same type is the run's.
        if request.seed == self.seed and type(request.seed) is type(self.seed):
            return request
        return Request(
            request.prompt, request.prefix, request.sampling, request.sample_index, self.seed
        )

    def find_unfinished(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that have to be looked at: not stored, to be retried, or cut off where that matters."""
        return self.store.completions.find_unfinished(
            keys,
            errors=self.retry_errors,
            truncated=self.truncated != "keep",
        )

    def read_stored(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are stored, without failures to be asked for again; their use is recorded."""
        completions = self.store.completions.get(keys)
        if self.retry_errors:
            for key, completion in list(completions.items()):
                if completion.error and key not in self.store.retried_keys:
                    del completions[key]
        # Also for what another arm paid for: an arm's costs are those of all that it needed, whoever ran first.
        self.store.completions.record_use(self.arm, self.role, list(completions))
        self._record_use_of_stage(list(completions))
        return completions

    def _record_use_of_stage(self, keys: Sequence[str]) -> None:
        """Remember what a training asked for: a run that finds its student there asks for nothing of it."""
        if self.stage:
            self.store.completions.record_use(self.stage, self.role, keys)

    def commit(self, new: Sequence[NewCompletion]) -> list[Completion]:
        """Store new completions in one transaction; they come back as any later reader will see them."""
        new = [item._replace(completion=bound_numbers(item.completion)) for item in new]
        try:
            self._warn_of_another_model(new)
            settled = self._settle_or_store(new)
            self._put(settled)
        except KeyboardInterrupt:
            # Ctrl-C between the answer and the commit: the calls are paid for, so they are stored before the run ends.
            # Settling a second time only overstates what this process spent, and it ends here; storing a second time
            # would turn what is stored into an attempt, so the store is asked first.
            settled = self._settle(new)
            if not self._are_stored(settled):
                self._put(settled)
            raise
        # Stored failures that this process made are not asked for again in it, whatever `retry_errors` says.
        for item in settled:
            if item.completion.error:
                self.store.retried_keys.add(item.key)
        if isinstance(self.progress, CallListener):
            self.progress.count_answers(self.label, len(settled))
        return [as_stored(item.completion) for item in settled]

    def _warn_of_another_model(self, new: Sequence[NewCompletion]) -> None:
        """Say it once where a server names another model than the one whose answers are stored under the same id."""
        served_names = {item.completion.served for item in new} - {""}
        if not served_names:
            return
        known_names = self.store.served_names.get(self.model_id)
        if known_names is None:
            known_names = {self.store.completions.last_served(self.model_id)} - {""}
            self.store.served_names[self.model_id] = known_names
        for name in sorted(served_names - known_names):
            if known_names:
                before = " and ".join(repr(known[:MAX_SERVED]) for known in sorted(known_names))
                warnings.warn(
                    f"{self.role}: the server says that {name[:MAX_SERVED]!r} answers, and of earlier answers under "
                    f"the same name that it was {before}: what is stored is of both. If it is another model, give it "
                    "another name (?name=…) and another folder",
                    PotstillWarning,
                    stacklevel=2,
                )
            known_names.add(name)

    def _settle_or_store(self, new: Sequence[NewCompletion]) -> list[NewCompletion]:
        """`_settle`; where it fails, what was paid for is stored as it came, so that no restart pays for it again."""
        try:
            return self._settle(new)
        except Exception:
            self._put(new)
            raise

    def _settle(self, new: Sequence[NewCompletion]) -> list[NewCompletion]:
        """The completions with their costs, which are then spent in the budget."""
        if self.budget is None:
            return list(new)
        settled = []
        for item in new:
            # Before the commit, because the cost is a column of it.
            completion = self.budget.settle(self.role, self.inner, item.request, item.completion)
            settled.append(item._replace(completion=completion))
        return settled

    def _are_stored(self, new: Sequence[NewCompletion]) -> bool:
        """Whether this batch is in the store; a batch is there as a whole or not at all, so its first one tells."""
        if not new:
            return True
        first = new[0]
        return self.store.completions.get([first.key]) == {first.key: as_stored(first.completion)}

    def _put(self, new: Sequence[NewCompletion]) -> None:
        self.store.completions.put(
            self.model_id,
            self.role,
            self.arm,
            [(item.request, item.completion) for item in new],
            keys=[item.key for item in new],
        )
        self._record_use_of_stage([item.key for item in new])

    def permit(self) -> SpendingPermit | None:
        """Leave to spend for one call of a streamed model; None where nothing is limited."""
        if self.budget is None or not self.budget.is_limited:
            return None
        return self.budget.permit(self.role, self.inner, self.arm)

    def accepts_unpaid(self, count: int) -> bool:
        """Whether calls that the budget stopped become failures instead of the run's end; if so they are counted."""
        if self.budget is None or not self.continues_unpaid:
            return False
        self.budget.note_unpaid(self.role, count)
        return True

    @property
    def label(self) -> str:
        """What progress is reported under."""
        return f"{self.arm}/{self.role}"

    def watch_batch(self, done: int, total: int) -> BatchWatch:
        """Whom a local model tells how far a batch is that it writes.

        Args:
            done: answers of the whole call that are there already.
            total: distinct requests of the whole call.
        """
        return BatchWatch(self, done, total)

    def report_progress(self, done: int, total: int) -> None:
        """Call the progress callback under this role's label."""
        if isinstance(self.progress, CallListener) and isinstance(self.inner, HasTraffic):
            self.progress.show_traffic(self.label, self.inner.traffic)
        self.progress(self.label, done, total)


@final
@dataclass(slots=True)
class BatchWatch:
    """Reports rows of a batch as they are finished, and its tokens as they are written; none of it is stored yet.

    Where memory runs out and a batch is written again in halves, what is shown waits until it is as far again.
    """

    client: CacheClient
    done: int
    total: int
    finished: int = 0
    tokens: int = 0

    def __call__(self, rows: Sequence[RowProgress]) -> None:
        """Take how far each row of the batch is."""
        self.count_tokens(sum(row.tokens for row in rows))
        self.finished = max(self.finished, sum(row.is_finished for row in rows))
        # The whole call is done once the batch is in the store, and not before.
        self.client.report_progress(min(self.done + self.finished, self.total - 1), self.total)

    def count_tokens(self, tokens: int) -> None:
        """The batch has so many tokens by now."""
        new = tokens - self.tokens
        if new > 0 and isinstance(self.client.progress, CallListener):
            self.client.progress.count_tokens(self.client.label, new)
        self.tokens += max(0, new)


def as_stored(completion: Completion) -> Completion:
    """A completion as the store gives it back: its tries are rows of their own, its rate is in its cost."""
    if not completion.tries and not completion.ignored and completion.rate == 1.0:
        return completion
    return completion._replace(tries=(), ignored=(), rate=1.0)
