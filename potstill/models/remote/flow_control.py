"""Flow control of calls to a server: how many at once, how many a minute, when a failed one is tried again.

Pure asyncio. Time is the running loop's, so a loop with a clock of its own runs hours in milliseconds (the tests do).
A slot that is given back wakes exactly one call, however many wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar, final

from potstill.models.model import Traffic
from potstill.models.remote.errors import Failure
from potstill.models.remote.rate_limit import ConcurrencyLimit, RateLimit
from potstill.records import NO_TOKENS

FIRST_DELAY = (
    0.05,
    1.0,
)  # seconds before the first retry: at least, at most; in between the round trip
MAX_DELAY = 60.0  # seconds before any retry
MIN_FAILURES_IN_ROW = (
    3  # at least, and as many as calls in flight, that are the server's fault, whatever their code
)

_Answer = TypeVar("_Answer")


class _Slot(NamedTuple):
    """A place among the calls in flight: the epoch in which it was given, the entry of its tokens, and when."""

    epoch: int
    token_entry: list[float]
    start_time: float


class _Waiter(NamedTuple):
    """A call that waits for a slot; ordered by its ticket."""

    ticket: int
    weight: int
    slot: asyncio.Future[_Slot | None]


@final
class FlowControl:
    """The calls to one model: all of them go through `call`, on one event loop.

    Calls leave in the order in which they came; one that is tried again keeps its place and goes before newer ones.
    A failed call holds no slot while it waits. When a server says `Retry-After`, no call leaves before that.

    Args:
        concurrency: calls in flight at most.
        rpm: calls within any minute, 0 without limit.
        tpm: tokens within any minute, 0 without limit.
        timeout: seconds one try may take.
        deadline: seconds from the start of a call's first try after which no other begins.
        max_paid_tries: of one call, tries that may have to be paid (malformed answers, timeouts); 0 is no limit but the
            deadline and the budget.
        random_number: from 0 to 1, to spread retries.
    """

    def __init__(
        self,
        *,
        concurrency: int = 64,
        rpm: int = 0,
        tpm: int = 0,
        timeout: float = 600.0,
        deadline: float = 600.0,
        max_paid_tries: int = 0,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1 or min(rpm, tpm, max_paid_tries) < 0 or min(timeout, deadline) <= 0:
            raise ValueError(
                "concurrency, timeout and deadline are above 0, rpm, tpm and max_paid_tries 0 or more"
            )
        self.timeout, self.deadline, self.max_paid_tries = timeout, deadline, max_paid_tries
        self._random_number = random_number
        self._try_count = self._retry_count = self._rate_limited_count = 0
        self.in_flight_count = self.waiting_count = 0
        self.concurrency = ConcurrencyLimit(concurrency)
        self._call_rate, self._token_rate = RateLimit(rpm), RateLimit(tpm)
        self._pause_end = 0.0  # no call leaves before
        self._failures_in_row = 0  # of those that may pass, since the last answer
        self._round_trip = FIRST_DELAY[0]  # seconds, a moving average
        self._tickets = itertools.count()
        self._first_tries: deque[_Waiter] = deque()
        self._retries: list[_Waiter] = []  # a heap, the oldest call first
        self._timer: asyncio.TimerHandle | None = None
        self._timer_time = 0.0

    @property
    def traffic(self) -> Traffic:
        """All tries so far."""
        return Traffic(self._try_count, self._retry_count, self._rate_limited_count)

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        return int(self.concurrency.limit)

    async def call(
        self,
        send: Callable[[], Awaitable[_Answer]],
        *,
        weight: int = 0,
        on_failure: Callable[[Failure, float], None],
        count_used_tokens: Callable[[_Answer], int] | None = None,
    ) -> _Answer:
        """What `send` returns, tried until the deadline; raises the last `Failure`.

        Args:
            send: makes one try; a `Failure` with `may_retry` is tried again, any other exception goes through.
            weight: tokens that the call may use, for `tpm`.
            on_failure: called with each failure that is tried again and the seconds it took; not with the one that is
                raised.
            count_used_tokens: tokens that an answer did use.
        """
        loop = asyncio.get_running_loop()
        ticket, paid_tries = next(self._tickets), 0
        slot = await self._wait_for_slot(loop, ticket, weight)
        assert slot is not None, "a first try has no deadline"
        end = slot.start_time + self.deadline
        for try_count in itertools.count(1):
            try:
                return await self._try_once(loop, send, slot, count_used_tokens)
            except Failure as failure:
                paid_tries += failure.billed
                delay = (failure.retry_after or 0.0) + self._retry_delay(try_count)
                is_too_dear = 0 < self.max_paid_tries <= paid_tries
                is_last_try = is_too_dear or loop.time() + delay > end
                if not failure.may_retry or failure.stops_run or is_last_try:
                    raise
                last_failure = failure
            self._retry_count += 1
            on_failure(last_failure, loop.time() - slot.start_time)
            await asyncio.sleep(delay)
            slot = await self._wait_for_slot(loop, ticket, weight, end)
            if slot is None:
                raise last_failure.without_cost("its next try had no turn before the deadline")
        raise AssertionError("unreachable: the tries have no last number")

    async def _wait_for_slot(
        self, loop: asyncio.AbstractEventLoop, ticket: int, weight: int, end: float | None = None
    ) -> _Slot | None:
        """A slot as soon as there is one; None when the end came first."""
        is_first_in_line = not self._first_tries and not self._retries
        if is_first_in_line and self.in_flight_count < self.limit:
            now = loop.time()
            if self._opening_time(now, weight) <= now:
                return self._take_slot(now, weight)

        waiter = _Waiter(ticket, weight, loop.create_future())
        expiry = None
        if end is None:
            self._first_tries.append(waiter)
        else:
            heapq.heappush(self._retries, waiter)
            expiry = loop.call_at(end, _expire_waiter, waiter.slot)
        self.waiting_count += 1
        try:
            self._give_free_slots(loop)
            return await waiter.slot
        except asyncio.CancelledError:
            # The slot may have been given in the very moment of the cancelling; the next one gets it.
            if not waiter.slot.cancelled() and waiter.slot.result() is not None:
                self.in_flight_count -= 1
            self._give_free_slots(loop)
            raise
        finally:
            self.waiting_count -= 1
            if expiry is not None:
                expiry.cancel()

    async def _try_once(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[], Awaitable[_Answer]],
        slot: _Slot,
        count_used_tokens: Callable[[_Answer], int] | None,
    ) -> _Answer:
        """One try in a slot, and what it teaches; the slot is given back in any case."""
        try:
            async with asyncio.timeout(self.timeout):
                answer = await send()
        except TimeoutError:
            detail = f"no whole answer within {self.timeout:g} s"
            failure = Failure("timeout", detail, may_retry=True, billed=True)
            self._learn_from_failure(loop, failure, slot)
            raise failure from None
        except Failure as failure:
            self._learn_from_failure(loop, failure, slot)
            raise
        else:
            self._round_trip += (loop.time() - slot.start_time - self._round_trip) / 8
            self.concurrency.record_answer(slot.epoch)
            self._failures_in_row = 0
            if count_used_tokens is not None:
                self._token_rate.correct(slot.token_entry, count_used_tokens(answer))
            return answer
        finally:
            self.in_flight_count -= 1
            if self.waiting_count:
                self._give_free_slots(loop)

    def _learn_from_failure(
        self, loop: asyncio.AbstractEventLoop, failure: Failure, slot: _Slot
    ) -> None:
        now = loop.time()
        if failure.kind == "rate":
            self._rate_limited_count += 1
        if failure.tokens != NO_TOKENS or not failure.billed:
            used_tokens = failure.tokens.prompt + failure.tokens.completion
            self._token_rate.correct(slot.token_entry, used_tokens)
        # A failure of one request says nothing of the server; where all calls in flight fail, it is in trouble.
        self._failures_in_row = self._failures_in_row + 1 if failure.may_retry else 0
        all_fail = self._failures_in_row >= max(MIN_FAILURES_IN_ROW, self.in_flight_count)
        if not failure.is_server_busy and not all_fail:
            self.concurrency.record_answer(slot.epoch)
        elif self.concurrency.record_refusal(slot.epoch) and self.concurrency.decreases_at_bottom:
            # With one call at a time and still refused, only waiting is left.
            pause = self._retry_delay(self.concurrency.decreases_at_bottom)
            self._pause_end = max(self._pause_end, now + pause)
        if failure.retry_after:
            self._pause_end = max(self._pause_end, now + min(failure.retry_after, self.deadline))

    def _retry_delay(self, try_count: int) -> float:
        """Seconds at random, up to twice as many after each try (exponential backoff with full jitter)."""
        shortest, longest = FIRST_DELAY
        first_delay = min(max(self._round_trip, shortest), longest)
        delay = min(MAX_DELAY, first_delay * 2.0 ** min(try_count - 1, 20))
        return self._random_number() * delay

    def _opening_time(self, now: float, weight: int) -> float:
        """The earliest time at which a call of that weight may leave, slots apart."""
        calls_open = self._call_rate.opening_time(now, 1)
        tokens_open = self._token_rate.opening_time(now, weight)
        return max(self._pause_end, calls_open, tokens_open)

    def _take_slot(self, now: float, weight: int) -> _Slot:
        self.in_flight_count += 1
        self._try_count += 1
        self._call_rate.record(now, 1)
        token_entry = self._token_rate.record(now, weight)
        return _Slot(self.concurrency.epoch, token_entry, now)

    def _give_free_slots(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the free slots to those who have waited longest; where time bars the way, come back when it opens."""
        now = loop.time()
        while self.in_flight_count < self.limit:
            queue = self._next_queue()
            if queue is None:
                return
            opening_time = self._opening_time(now, queue[0].weight)
            if opening_time > now:
                self._set_timer(loop, opening_time)
                return
            if queue is self._retries:
                waiter = heapq.heappop(self._retries)
            else:
                waiter = self._first_tries.popleft()
            waiter.slot.set_result(self._take_slot(now, waiter.weight))

    def _next_queue(self) -> list[_Waiter] | deque[_Waiter] | None:
        """The queue whose first is next: retries are all older than the first tries that still wait."""
        while self._retries and self._retries[0].slot.done():
            heapq.heappop(self._retries)
        if self._retries:
            return self._retries
        while self._first_tries and self._first_tries[0].slot.done():
            self._first_tries.popleft()
        return self._first_tries or None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, opening_time: float) -> None:
        if self._timer is not None:
            if self._timer_time <= opening_time:
                return
            self._timer.cancel()
        # The time is noted here: uvloop's handle of a time that has come does not know it.
        self._timer = loop.call_at(opening_time, self._on_timer, loop)
        self._timer_time = opening_time

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._give_free_slots(loop)


def _expire_waiter(slot: asyncio.Future[_Slot | None]) -> None:
    if not slot.done():
        slot.set_result(None)
