"""What can go wrong with one call over a wire, typed by the boundary that it did not cross."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from email.utils import parsedate_to_datetime
from typing import final

from potstill.models.model import FAILURES
from potstill.records import NO_TOKENS, Tokens

BUSY = (
    429,
    502,
    503,
    504,
    529,
)  # what servers and the gateways before them answer when they have too much to do
ENDLESS = (
    "rate",
    "unreachable",
)  # kinds that are tried again until the deadline: nothing was paid for them


@final
@dataclass(eq=False, repr=False)
class Failure(Exception):
    """A try that brought no answer.

    Args:
        kind: one of `model.FAILURES`.
        detail: what happened, for people; never a key.
        retry: the same request may get an answer later.
        stop: every other request would fail in the same way.
        after: seconds until which the server wants no call (`retry_after`), None where it does not say.
        status: of HTTP, 0 where no answer came.
        billed: something may have to be paid for it.
        tokens: as far as the server says.
        text: as much of an answer as had come.
    """

    kind: str
    detail: str
    _: KW_ONLY
    retry: bool = False
    stop: bool = False
    after: float | None = None
    status: int = 0
    billed: bool = False
    tokens: Tokens = NO_TOKENS
    text: str = ""

    def __post_init__(self) -> None:
        """Refuse a kind that the contract does not know."""
        if self.kind not in FAILURES:
            raise ValueError(f"no failure is called {self.kind!r}: one of {', '.join(FAILURES)}")
        super().__init__(f"{self.kind}: {self.detail}")

    @property
    def busy(self) -> bool:
        """Whether it says that too much is asked at once, rather than that something is wrong with the request."""
        return self.status in BUSY or self.kind in ("rate", "unreachable", "timeout")

    @property
    def endless(self) -> bool:
        """Whether trying again is bounded by the deadline alone."""
        return not self.billed and (self.kind in ENDLESS or self.status in BUSY)

    def unpaid(self, why: str) -> Failure:
        """The same failure told again, when what it used has been told already."""
        return Failure(self.kind, f"{self.detail} ({why})", after=self.after, status=self.status)


def retry_after(headers: Mapping[str, str], wall: float | None = None) -> float | None:
    """Seconds that the headers of an answer ask to wait: `Retry-After` in seconds or as a date; None where they don't.

    A date is compared with the server's own `Date`, so that a wrong clock here does no harm.

    Args:
        headers: any mapping that finds names regardless of case, or has them in lower case.
        wall: the time of this machine in seconds since 1970, where it is not now.
    """
    millis = _seconds(_header(headers, "retry-after-ms"))
    if millis is not None:
        return millis / 1000
    value = _header(headers, "retry-after")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    until = _date(value)
    if until is None:
        return None
    served = _date(_header(headers, "date"))
    now = served if served is not None else time.time() if wall is None else wall
    return max(0.0, until - now)


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name) or headers.get(name.title()) or ""


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
