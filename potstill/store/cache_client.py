"""One role of one arm at the store: what is there, what is new, and how both are counted and paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, final

from potstill.budget.budget import Budget
from potstill.models.keys import keys
from potstill.models.model import Completion, Gate, Request
from potstill.store.store import Store
from potstill.store.truncation import Policy

UNPAID = Completion("", "", error="budget: the limit did not allow this call")
Progress: TypeAlias = Callable[[str, int, int], None]


class Written(NamedTuple):
    """A completion that is to be kept: its key, what was asked, what came."""

    key: str
    request: Request
    completion: Completion


@final
@dataclass(frozen=True, slots=True)
class Desk:
    """See `store.cached.cached` for what the parts are."""

    inner: Any
    store: Store
    role: str
    arm: str
    seed: int
    progress: Progress
    retry_errors: bool = False
    truncated: Policy = "keep"
    budget: Budget | None = None
    goes_on: bool = False

    @property
    def model(self) -> str:
        """The real model's id."""
        id: str = self.inner.id
        return id

    def keys(self, requests: Sequence[Request]) -> list[str]:
        """The keys of the requests under the run's seed."""
        return keys(self.model, requests, self.seed)

    def asked(self, request: Request) -> Request:
        """The request with the run's seed."""
        if request.seed == self.seed and type(request.seed) is type(self.seed):
            return request
        return Request(request.prompt, request.prefix, request.sampling, request.draw, self.seed)

    def unsettled(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that have to be looked at: not stored, to be retried, or cut off where that matters."""
        return self.store.completions.unsettled(
            keys, errors=self.retry_errors, cut=self.truncated != "keep"
        )

    def stored(self, keys: Sequence[str]) -> dict[str, Completion]:
        """What is there, without the failures that are to be asked for again; entered as needed."""
        found = self.store.completions.get(keys)
        if self.retry_errors:
            found = {k: c for k, c in found.items() if not c.error or k in self.store.retried}
        self.store.completions.need(self.arm, self.role, list(found))
        return found

    def keep(self, written: Sequence[Written]) -> list[Completion]:
        """Commit new completions in one transaction; they come back as any later reader will see them."""
        try:
            self._put(settled := self._paid(written))
        except KeyboardInterrupt:  # between the answer and the commit: it is paid for
            settled = self._paid(written)
            if settled and self.store.completions.get([settled[0].key]) != {
                settled[0].key: plain(settled[0].completion)
            }:
                self._put(settled)
            raise
        # Stored failures that this process made are not asked for again in it, whatever `retry_errors` says.
        self.store.retried.update(w.key for w in settled if w.completion.error)
        return [plain(w.completion) for w in settled]

    def _paid(self, written: Sequence[Written]) -> Sequence[Written]:
        """The completions with what they cost, which is spent by that."""
        budget = self.budget
        if budget is None:
            return written
        paid = (budget.settle(self.role, self.inner, w.request, w.completion) for w in written)
        return [w._replace(completion=done) for w, done in zip(written, paid, strict=True)]

    def _put(self, written: Sequence[Written]) -> None:
        pairs = [(w.request, w.completion) for w in written]
        self.store.completions.put(self.model, self.role, self.arm, pairs, [w.key for w in written])

    def gate(self) -> Gate | None:
        """Leave to spend for one call of a streamed model; None where nothing is limited."""
        return (
            self.budget.gate(self.role, self.inner, self.arm)
            if self.budget and self.budget.limited
            else None
        )

    def unpaid(self, count: int) -> bool:
        """Whether calls that the budget stopped become failures instead of the run's end; if so they are noted."""
        if self.budget is None or not self.goes_on:
            return False
        self.budget.forgo(self.role, count)
        return True

    def report(self, done: int, total: int) -> None:
        """Tell whoever watches."""
        self.progress(f"{self.arm}/{self.role}", done, total)


def plain(completion: Completion) -> Completion:
    """A completion as the store gives it back: its tries are rows of their own, its rate is in its cost."""
    return (
        completion
        if not completion.tries and completion.rate == 1.0
        else completion._replace(tries=(), rate=1.0)
    )
