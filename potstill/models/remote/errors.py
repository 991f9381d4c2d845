"""What can go wrong with one call to a server, typed by the boundary that it did not cross."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from email.utils import parsedate_to_datetime
from typing import final

from potstill.models.model import FAILURES
from potstill.records import NO_TOKENS, Tokens

BUSY_STATUSES = (
    429,
    502,
    503,
    504,
    529,
)  # of servers, and gateways before them, with too much to do


@final
@dataclass(eq=False, repr=False)
class Failure(Exception):
    """A try that brought no answer.

    Args:
        kind: one of `model.FAILURES`.
        detail: what happened, for people; never a key.
        may_retry: the same request may get an answer later.
        stops_run: every other request would fail in the same way.
        retry_after: seconds until which the server wants no call; None where it does not say.
        status: of HTTP, 0 where no answer came.
        billed: something may have to be paid for it.
        tokens: as far as the server says.
        text: as much of an answer as had come.
    """

    kind: str
    detail: str
    _: KW_ONLY
    may_retry: bool = False
    stops_run: bool = False
    retry_after: float | None = None
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
    def is_server_busy(self) -> bool:
        """Whether it says that too much is asked at once, rather than that something is wrong with the request."""
        return self.status in BUSY_STATUSES or self.kind in ("rate", "unreachable", "timeout")

    def without_cost(self, reason: str) -> Failure:
        """The same failure raised again, when what it used has been recorded already."""
        detail = f"{self.detail} ({reason})"
        return Failure(self.kind, detail, retry_after=self.retry_after, status=self.status)


def read_retry_after(headers: Mapping[str, str], wall_time: float | None = None) -> float | None:
    """Seconds that the headers of an answer ask to wait: `Retry-After` in seconds or as a date; None where they don't.

    A date is compared with the server's own `Date`, so that a wrong clock here does no harm.

    Args:
        headers: any mapping that finds names regardless of case, or has them in lower case.
        wall_time: the time of this machine in seconds since 1970, where it is not now.
    """
    milliseconds = _parse_seconds(_read_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = _read_header(headers, "retry-after")
    seconds = _parse_seconds(value)
    if seconds is not None:
        return seconds
    retry_date = _parse_date(value)
    if retry_date is None:
        return None
    now = _parse_date(_read_header(headers, "date"))
    if now is None:
        now = wall_time if wall_time is not None else time.time()
    return max(0.0, retry_date - now)


def _read_header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name) or headers.get(name.title()) or ""


def _parse_seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _parse_date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
