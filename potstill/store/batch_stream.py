"""Batches past the store to a model that answers several at once: each is reserved, asked for and committed alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias, final

from potstill.budget.budget import Answer
from potstill.models.answering import check_count
from potstill.models.model import Completion, Request, WritesBatches
from potstill.store.cache_client import UNPAID, CacheClient, NewCompletion

Batch: TypeAlias = dict[str, Request]
"""Requests by key."""


@final
class BatchStream:
    """One call's batches on their way. Used once, by one thread.

    A batch's keys are claimed, and the most that it can cost is reserved, when the model has room for it; both end when
    it is committed. What another thread asks for meanwhile is left to it, and waits in `left_batches`.
    """

    def __init__(self, client: CacheClient, model: WritesBatches, batches: Sequence[Batch]) -> None:
        """Send these batches, in order.

        Args:
            client: of the model.
            model: that answers.
            batches: of distinct keys, none of them stored.
        """
        self._client, self._model, self._batches = client, model, batches
        self._in_flight = client.store.in_flight
        is_limited = client.budget is not None and client.budget.is_limited
        self._budget = client.budget if is_limited else None

        self.left_batches: list[Batch] = []
        self._sent: dict[int, Batch] = {}  # by their place among those that were sent
        self._stored: dict[str, Completion] = {}  # what another thread committed in the meantime
        self._refused: list[Batch] = []  # what the budget did not allow

    def answers(self) -> Iterator[dict[str, Completion]]:
        """Answers by key, a committed batch after the other; what is refused by the budget last.

        Raises:
            BudgetSpent: the budget did not allow a batch; all that were sent before it have been committed.
        """
        if not self._batches:
            return
        answered_count = 0
        landed_batches: Any = self._model.answer_batches(self._draw_batches())
        try:
            with closing(landed_batches):
                for place, completions in landed_batches:
                    answers = self._commit(place, completions) | self._take_stored()
                    answered_count += len(answers)
                    yield answers
        finally:
            # Ctrl-C too: keys that stay claimed, and money that stays reserved, would block other threads for ever.
            for batch in self._sent.values():
                self._in_flight.release(batch)
                if self._budget:
                    self._budget.release(self._client.role, self._client.inner, batch.values())
        yield self._take_stored()
        if self._refused:
            yield self._answer_refused(answered_count)

    def _draw_batches(self) -> Iterator[list[Request] | None]:
        """The batches for the model; None while calls under way hold what the next one needs of the budget."""
        place = 0
        for number, batch in enumerate(self._batches):
            missing = self._claim(batch)
            if not missing:
                continue
            # Before anything can fail, so that the claim ends whatever happens.
            self._sent[place] = missing
            while (answer := self._reserve(missing)) == "wait":
                yield None
            if answer == "stop":
                self._in_flight.release(self._sent.pop(place))
                # A later and shorter batch, which may fit, is not preferred.
                self._refused = [missing, *self._batches[number + 1 :]]
                return
            place += 1
            yield list(missing.values())

    def _claim(self, batch: Batch) -> Batch:
        """The requests of a batch that are now ours to ask for."""
        own_keys, others_keys = self._in_flight.take(batch)
        if others_keys:
            self.left_batches.append({key: batch[key] for key in others_keys})
        # Look again under the claim: another thread may have committed a key since the first look.
        stored = self._client.read_stored(own_keys)
        self._in_flight.release(stored)
        self._stored |= stored
        return {key: batch[key] for key in own_keys if key not in stored}

    def _reserve(self, missing: Batch) -> Answer:
        """Reserve what a batch can cost. Without other calls of ours under way, wait for those of other threads."""
        if self._budget is None:
            return "go"
        client, requests = self._client, list(missing.values())
        if len(self._sent) > 1:
            return self._budget.try_reserve_batch(client.role, client.inner, client.arm, requests)
        is_reserved = self._budget.reserve_batch(client.role, client.inner, client.arm, requests)
        return "go" if is_reserved else "stop"

    def _commit(self, place: int, completions: Sequence[Completion]) -> dict[str, Completion]:
        """Commit a batch that landed, in one transaction, before anyone sees it; then give up its keys."""
        batch = self._sent[place]
        check_count(self._model, len(completions), len(batch), "answer_batches")
        new = []
        for (key, request), completion in zip(batch.items(), completions, strict=True):
            new.append(NewCompletion(key, request, completion))
        committed = self._client.commit(new)
        del self._sent[place]
        self._in_flight.release(batch)
        return dict(zip(batch, committed, strict=True))

    def _take_stored(self) -> dict[str, Completion]:
        stored, self._stored = self._stored, {}
        return stored

    def _answer_refused(self, answered_count: int) -> dict[str, Completion]:
        """Failures for what the budget did not allow, where the run goes on without it."""
        client, budget = self._client, self._budget
        assert budget is not None
        count = sum(len(batch) for batch in self._refused)
        if not client.accepts_unpaid(count):
            total = sum(len(batch) for batch in self._batches)
            raise budget.spent_error(client.role, client.arm, answered_count, total)
        answers: dict[str, Completion] = {}
        for batch in self._refused:
            answers |= dict.fromkeys(batch, UNPAID)
        return answers
