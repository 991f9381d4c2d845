"""How much may leave: so many units a minute, so many calls at once, fewer while the server is busy."""

from __future__ import annotations

from collections import deque
from typing import final

MINUTE = 60.0
SLACK = 0.5  # seconds more than a minute: a call may travel for longer than the one a minute later

DECREASE_FACTOR = 0.7  # of the concurrency, once a congestion
CONGESTION_SHARE = 0.2  # of answers that are refusals: that is congestion; fewer are bad luck
MIN_REFUSALS = 3  # so that one unlucky call out of few is not taken for congestion
MIN_WINDOW = 16  # answers at least to look at
SLOW_INCREASE = 0.5  # added in each round trip
RECOVERY_ROUND_TRIPS = 20  # after a congestion until the cap is reached, most of it in the last few


@final
class RateLimit:
    """At most `limit` units within any minute; 0 is no limit. What a call used can be corrected when it is known."""

    def __init__(self, limit: int) -> None:
        self.limit, self._used = limit, 0
        self._entries: deque[list[float]] = deque()  # [time, units], oldest first

    def opening_time(self, now: float, units: int) -> float:
        """The earliest time at which a call of so many units may leave; a larger one than the limit goes alone."""
        while self._entries and self._entries[0][0] + MINUTE + SLACK <= now:
            self._used -= int(self._entries.popleft()[1])
        if not self.limit or not self._entries:
            return now
        excess = self._used + units - self.limit
        for entry_time, entry_units in self._entries:
            if excess <= 0:
                break
            excess -= int(entry_units)
            now = entry_time + MINUTE + SLACK
        return now

    def record(self, now: float, units: int) -> list[float]:
        """Note a call that leaves now."""
        entry = [now, float(units)]
        if self.limit:
            self._entries.append(entry)
            self._used += units
        return entry

    def correct(self, entry: list[float], units: int) -> None:
        """Replace an entry's estimate by what was used."""
        if self._entries and self._entries[0][0] <= entry[0]:
            self._used += units - int(entry[1])
            entry[1] = float(units)


@final
class ConcurrencyLimit:
    """How many calls may be in flight: up to `cap`, less while the server is busy.

    Increase with the cube of the round trips since the last decrease (as TCP's CUBIC, RFC 9438), slow where the server
    had been busy and fast far from it, and multiplicative decrease, one a congestion: only calls that left after the
    last decrease are evidence for another. A few refusals among many answers leave it as it is.
    """

    def __init__(self, cap: int) -> None:
        self.cap, self.limit = cap, float(cap)
        self.epoch = 0  # decreases so far
        self.decreases_at_bottom = 0  # in a row, at a limit of one call
        self._answers = self._refusals = 0
        self._round_trips = 0.0  # since the last decrease

    def record_answer(self, epoch: int) -> None:
        """A call of that epoch was answered."""
        self.decreases_at_bottom = 0
        if self.limit < self.cap:
            self._round_trips += 1 / self.limit
            cubic_step = 3 * self.cap * self._round_trips**2 / RECOVERY_ROUND_TRIPS**3
            step = SLOW_INCREASE + cubic_step
            self.limit = min(float(self.cap), self.limit + step / self.limit)
        if epoch == self.epoch:
            self._count_answer(refusals=0)

    def record_refusal(self, epoch: int) -> bool:
        """A call of that epoch met a busy server; whether that is a congestion."""
        if epoch != self.epoch:
            return False
        self._count_answer(refusals=1)
        if self._refusals < max(MIN_REFUSALS, CONGESTION_SHARE * self.limit):
            return False
        self.decreases_at_bottom = self.decreases_at_bottom + 1 if self.limit <= 1 else 0
        self.limit = max(1.0, self.limit * DECREASE_FACTOR)
        self.epoch, self._round_trips = self.epoch + 1, 0.0
        self._answers = self._refusals = 0
        return True

    def _count_answer(self, *, refusals: int) -> None:
        if self._answers >= max(MIN_WINDOW, self.limit):
            self._answers = self._refusals = 0
        self._answers += 1
        self._refusals += refusals
