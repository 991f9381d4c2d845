"""What the operators report to, if anybody listens: a ledger of what was made and dropped, a cache of judgements."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from potstill.models.model import Model
from potstill.records import Trace, canonical


class Drop(NamedTuple):
    """A trace that an operator took out: which operator, by which test, and why."""

    trace: Trace
    operator: str
    test: str
    reason: str


class Share(NamedTuple):
    """How many of `whole` things: a labelled bar of a report."""

    label: str
    part: int
    whole: int


class ReportSection(NamedTuple):
    """What a method adds to a run's results and report: a title, how to read it, and shares."""

    title: str
    hint: str
    shares: tuple[Share, ...]


class Ledger(Protocol):
    """Where made and dropped traces go. Called from the worker threads of `each`, so it must be thread-safe."""

    def made(self, traces: Sequence[Trace]) -> None:
        """New traces in the order an operator made them, and old ones with a new verdict or score."""
        ...

    def dropped(self, drops: Sequence[Drop]) -> None:
        """What was taken out, with the reason."""
        ...

    def step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """A line of the funnel: one a bulk call, in program order; the calls inside `each` are one line together."""
        ...


class Judgements(Protocol):
    """Verdicts and model scores as canonical JSON under content keys. Thread-safe like the ledger."""

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """The values that are there."""
        ...

    def put(self, values: Mapping[str, str]) -> None:
        """Keep these."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """What operators report to, how many calls of `each` run at once, and who judges problems of the kind "judge".

    `seed` is the seed of every request made here; without one it is 0. A model behind a store keeps the store's seed,
    and one that differs is refused. `sections` takes what a method adds to the report.
    """

    ledger: Ledger | None = None
    judgements: Judgements | None = None
    workers: int = 16
    judge: Model | None = None
    seed: int | None = None
    sections: Callable[[ReportSection], None] | None = None


_SESSION: ContextVar[Session | None] = ContextVar("potstill_session", default=None)
INSIDE_EACH: ContextVar[bool] = ContextVar("potstill_inside_each", default=False)


def current() -> Session:
    """The session of this context; without a run, one with neither ledger nor cache."""
    return _SESSION.get() or Session()


@contextmanager
def using(session: Session) -> Iterator[Session]:
    """Make `session` the current one for the length of a `with` block; worker threads inherit it."""
    token = _SESSION.set(session)
    try:
        yield session
    finally:
        _SESSION.reset(token)


def made(traces: Sequence[Trace]) -> None:
    """Enter new or newly judged traces in the ledger."""
    ledger = current().ledger
    if ledger and traces:
        ledger.made(traces)


def dropped(operator: str, test: str, losses: Iterable[tuple[Trace, str]]) -> None:
    """Enter (trace, reason) pairs in the ledger."""
    ledger = current().ledger
    drops = [Drop(trace, operator, test, reason) for trace, reason in losses]
    if ledger and drops:
        ledger.dropped(drops)


def step(operator: str, label: str, taken: int, returned: int) -> None:
    """Enter a funnel line, unless inside `each`: there the order of calls is chance, and `each` reports for them."""
    ledger = current().ledger
    if ledger and not INSIDE_EACH.get():
        ledger.step(operator, label, taken, returned)


def report(section: ReportSection) -> None:
    """Add a section to the run's results and report."""
    sections = current().sections
    if sections is not None:
        sections(section)


def remember(keys: Sequence[str], compute: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
    """The JSON values under `keys`: from the session's judgements, the missing ones computed once each and kept.

    Args:
        compute: takes the indices of the missing keys (equal keys once) and returns a JSON value for each.
    """
    judgements = current().judgements
    known = judgements.get(list(dict.fromkeys(keys))) if judgements else {}
    missing = list(
        {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}.values()
    )[::-1]
    fresh = {
        keys[i]: canonical(value)
        for i, value in zip(missing, compute(missing) if missing else (), strict=True)
    }
    if judgements and fresh:
        judgements.put(fresh)
    # Fresh values go through JSON too, so that a first run and its repetition see the same thing.
    return [json.loads(known[key] if key in known else fresh[key]) for key in keys]
