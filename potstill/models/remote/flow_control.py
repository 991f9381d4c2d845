"""Flow control of calls over a wire: how many at once, how many a minute, when a failed one is tried again.

Pure asyncio. Time is the running loop's, so a loop with a clock of its own runs hours in milliseconds (the tests do).
A slot that is given back wakes exactly one call, however many wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random as randomness
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar, final

from potstill.models.remote.errors import Failure
from potstill.models.remote.rate_limit import Pace, Room
from potstill.records import NO_TOKENS

FIRST, LONGEST = (
    (0.05, 1.0),
    60.0,
)  # seconds before the first new try, from the round trip; before any

_Answer = TypeVar("_Answer")


class _Waiter(NamedTuple):
    ticket: int
    weight: int
    turn: asyncio.Future[_Leave | None]


class _Leave(NamedTuple):
    """A slot that is held."""

    epoch: int
    entry: list[float]
    began: float


@final
class Flow:
    """The calls to one model: all of them go through `call`, on one event loop.

    Calls leave in the order in which they came; one that is tried again keeps its place and goes before newer ones.
    A failed call holds no slot while it waits. When a server says `Retry-After`, no call leaves before that.

    Args:
        concurrency: calls under way at most.
        rpm: calls within any minute, 0 without limit.
        tpm: tokens within any minute, 0 without limit.
        timeout: seconds one try may take.
        deadline: seconds from the start of a call's first try after which no other begins.
        tries: of a failure that is not the server's being busy (a malformed answer): each may have to be paid.
        random: numbers from 0 to 1, to spread new tries.
    """

    def __init__(
        self,
        *,
        concurrency: int = 64,
        rpm: int = 0,
        tpm: int = 0,
        timeout: float = 600.0,
        deadline: float = 600.0,
        tries: int = 3,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        if concurrency < 1 or tries < 1 or min(rpm, tpm) < 0 or min(timeout, deadline) <= 0:
            raise ValueError(
                "concurrency, tries, timeout and deadline are above 0, rpm and tpm 0 or more"
            )
        self.timeout, self.deadline, self.tries, self._random = timeout, deadline, tries, random
        self.under_way = self.waiting = 0
        self.room, self._calls, self._tokens = Room(concurrency), Pace(rpm), Pace(tpm)
        self._pause, self._round_trip = 0.0, FIRST[0]
        self._tickets = itertools.count()
        self._new: deque[_Waiter] = deque()
        self._again: list[_Waiter] = []  # a heap: tries again, the oldest call first
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""
        return int(self.room.limit)

    async def call(
        self,
        send: Callable[[], Awaitable[_Answer]],
        *,
        weight: int = 0,
        lost: Callable[[Failure, float], None],
        used: Callable[[_Answer], int] | None = None,
    ) -> _Answer:
        """What `send` returns, tried until the deadline; raises the last `Failure`.

        Args:
            send: makes one try; a `Failure` with `retry` is tried again, any other exception goes through.
            weight: tokens that the call may use, for `tpm`.
            lost: told of each failure that is tried again, with the seconds it took; not of the one that is raised.
            used: tokens that an answer did use.
        """
        loop = asyncio.get_running_loop()
        ticket, paid = next(self._tickets), 0
        leave = await self._turn(loop, ticket, weight)
        assert leave is not None, "a first try has no deadline"
        end = leave.began + self.deadline
        for count in itertools.count(1):
            try:
                return await self._try(loop, send, leave, used)
            except Failure as failure:
                paid += not failure.endless
                delay = self._delay(failure, count)
                if (
                    not failure.retry
                    or failure.stop
                    or paid >= self.tries
                    or loop.time() + delay > end
                ):
                    raise
                last = failure
            lost(last, loop.time() - leave.began)
            await asyncio.sleep(delay)
            leave = await self._turn(loop, ticket, weight, end)
            if leave is None:
                raise last.unpaid("its next try had no turn before the deadline")
        raise AssertionError("unreachable: the tries have no last number")

    async def _turn(
        self, loop: asyncio.AbstractEventLoop, ticket: int, weight: int, end: float | None = None
    ) -> _Leave | None:
        """Wait for a slot; None when the deadline came first."""
        if not self._new and not self._again and self.under_way < int(self.room.limit):
            now = loop.time()
            if self._opens(now, weight) <= now:
                return self._depart(now, weight)
        waiter = _Waiter(ticket, weight, loop.create_future())
        if end is None:
            self._new.append(waiter)
        else:
            heapq.heappush(self._again, waiter)
        expiry = loop.call_at(end, _expire, waiter.turn) if end is not None else None
        self.waiting += 1
        try:
            self._pump(loop)
            return await waiter.turn
        except asyncio.CancelledError:
            # The slot may have been given in the very moment of the cancelling; the next one gets it.
            if not waiter.turn.cancelled() and waiter.turn.result() is not None:
                self.under_way -= 1
            self._pump(loop)
            raise
        finally:
            self.waiting -= 1
            if expiry is not None:
                expiry.cancel()

    async def _try(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[], Awaitable[_Answer]],
        leave: _Leave,
        used: Callable[[_Answer], int] | None,
    ) -> _Answer:
        """One try in a slot that is held, and what it teaches; the slot is given back in any case."""
        try:
            async with asyncio.timeout(self.timeout):
                answer = await send()
        except TimeoutError:
            late = Failure(
                "timeout", f"no whole answer within {self.timeout:g} s", retry=True, billed=True
            )
            self._failed(loop, late, leave)
            raise late from None
        except Failure as failure:
            self._failed(loop, failure, leave)
            raise
        else:
            self._round_trip += (loop.time() - leave.began - self._round_trip) / 8
            self.room.answered(leave.epoch)
            if used is not None:
                self._tokens.correct(leave.entry, used(answer))
            return answer
        finally:
            self.under_way -= 1
            if self.waiting:
                self._pump(loop)

    def _failed(self, loop: asyncio.AbstractEventLoop, failure: Failure, leave: _Leave) -> None:
        now = loop.time()
        if failure.tokens != NO_TOKENS or not failure.billed:
            self._tokens.correct(leave.entry, failure.tokens.prompt + failure.tokens.completion)
        if not failure.busy:
            self.room.answered(leave.epoch)
        elif self.room.refused(leave.epoch) and self.room.stuck:
            self._pause = max(self._pause, now + self._jitter(self.room.stuck))
        if failure.after:
            self._pause = max(self._pause, now + min(failure.after, self.deadline))

    def _delay(self, failure: Failure, count: int) -> float:
        """Seconds until the next try after `count` of them."""
        return (failure.after or 0.0) + self._jitter(count)

    def _jitter(self, count: int) -> float:
        first = min(max(self._round_trip, FIRST[0]), FIRST[1])
        return self._random() * min(LONGEST, first * 2.0 ** min(count - 1, 20))

    def _opens(self, now: float, weight: int) -> float:
        """The earliest time at which a call of that weight may leave, slots apart."""
        return max(self._pause, self._calls.opens(now, 1), self._tokens.opens(now, weight))

    def _depart(self, now: float, weight: int) -> _Leave:
        self.under_way += 1
        self._calls.take(now, 1)
        return _Leave(self.room.epoch, self._tokens.take(now, weight), now)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the free slots to those who have waited longest; where time bars the way, come back when it opens."""
        now = loop.time()
        while self.under_way < int(self.room.limit) and (queue := self._queue()):
            opens = self._opens(now, queue[0].weight)
            if opens > now:
                self._come_back(loop, opens)
                return
            waiter = heapq.heappop(self._again) if queue is self._again else self._new.popleft()
            waiter.turn.set_result(self._depart(now, waiter.weight))

    def _queue(self) -> list[_Waiter] | deque[_Waiter] | None:
        """The queue whose first is next: tries again are all older than the first tries that still wait."""
        while self._again and self._again[0].turn.done():
            heapq.heappop(self._again)
        if self._again:
            return self._again
        while self._new and self._new[0].turn.done():
            self._new.popleft()
        return self._new or None

    def _come_back(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            if self._due <= when:
                return
            self._timer.cancel()
        # Kept here: uvloop's handle of a time that has come does not know it.
        self._timer, self._due = loop.call_at(when, self._opened, loop), when

    def _opened(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._pump(loop)


def _expire(turn: asyncio.Future[_Leave | None]) -> None:
    if not turn.done():
        turn.set_result(None)
