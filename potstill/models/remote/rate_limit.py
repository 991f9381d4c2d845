"""How much may leave: so many units a minute, so many calls at once, fewer while the server is busy."""

from __future__ import annotations

from collections import deque
from typing import final

MINUTE = 60.0
SLACK = 0.5  # seconds more than a minute: a call may be on the wire for longer than the one a minute later
DECREASE = 0.7  # of the concurrency, once a congestion
CROWDED = (
    0.2  # of the answers within a round trip are refusals: that is congestion; fewer are bad luck
)
CERTAIN = 3  # refusals at least, so that one unlucky call out of few is not taken for congestion
WINDOW = 16  # answers at least to look at
SLOW = 0.5  # added in each round trip
CLIMB = 20  # round trips after a congestion in which the cap is reached, most of it in the last few


@final
class Pace:
    """At most `limit` units within any minute; 0 is no limit. What a call used can be corrected when it is known."""

    def __init__(self, limit: int) -> None:
        self.limit, self._used = limit, 0
        self._entries: deque[list[float]] = deque()  # [when, units], oldest first

    def opens(self, now: float, units: int) -> float:
        """The earliest time at which a call of so many units may leave; a larger one than the limit goes alone."""
        while self._entries and self._entries[0][0] + MINUTE + SLACK <= now:
            self._used -= int(self._entries.popleft()[1])
        if not self.limit or not self._entries:
            return now
        excess = self._used + units - self.limit
        for when, amount in self._entries:
            if excess <= 0:
                break
            excess -= int(amount)
            now = when + MINUTE + SLACK
        return now

    def take(self, now: float, units: int) -> list[float]:
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
class Room:
    """How many calls may be under way: up to `cap`, less while the server is busy.

    Increase with the cube of the round trips since the last decrease, slow where the server had been busy and fast far
    from it, and multiplicative decrease, one a congestion: only calls that left after the last decrease are evidence
    for another. A few refusals among many answers leave it as it is.
    """

    def __init__(self, cap: int) -> None:
        self.cap, self.limit = cap, float(cap)
        self.epoch = self.stuck = (
            0  # decreases so far; how many of them in a row at the very bottom
        )
        self._answers = self._refused = 0
        self._rounds = 0.0  # round trips since the last decrease

    def answered(self, epoch: int) -> None:
        """A call of that epoch was answered."""
        self.stuck = 0
        if self.limit < self.cap:
            self._rounds += 1 / self.limit
            step = SLOW + 3 * self.cap * self._rounds**2 / CLIMB**3
            self.limit = min(float(self.cap), self.limit + step / self.limit)
        if epoch == self.epoch:
            self._count(0)

    def refused(self, epoch: int) -> bool:
        """A call of that epoch met a busy server; whether that is a congestion."""
        if epoch != self.epoch:
            return False
        self._count(1)
        if self._refused < max(CERTAIN, CROWDED * self.limit):
            return False
        self.stuck = self.stuck + 1 if self.limit <= 1 else 0
        self.limit = max(1.0, self.limit * DECREASE)
        self.epoch, self._rounds = self.epoch + 1, 0.0
        self._answers = self._refused = 0
        return True

    def _count(self, refused: int) -> None:
        if self._answers >= max(WINDOW, self.limit):
            self._answers = self._refused = 0
        self._answers += 1
        self._refused += refused
