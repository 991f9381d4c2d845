"""What operators report to: a ledger of the traces they make and drop, and a cache of verdicts and scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from potstill.models.model import Completion, Model
from potstill.records import Trace, canonical
from potstill.traces.reply_counts import ReplyCounter
from potstill.traces.sample_indices import SampleCounter, counter_of_call, counting_in
from potstill.traces.usage import UsageMeter

OnStep: TypeAlias = Callable[[str, str, int, int], None]
"""Told of a line of the funnel: operator, label, texts in, texts out."""


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
    """Where new and dropped traces are recorded. The worker threads of `each` call it, so it must be thread-safe."""

    def add_traces(self, traces: Sequence[Trace]) -> None:
        """Record new traces in the order an operator made them, and old ones with a new verdict or score."""
        ...

    def add_drops(self, drops: Sequence[Drop]) -> None:
        """Record dropped traces, each with the reason."""
        ...

    def add_step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """Record a line of the funnel: one for each call of an operator, in program order.

        All calls inside one `each` are a single line.
        """
        ...


class DropCounts(Protocol):
    """Counts of drops and of funnel lines, without the traces; thread-safe like the ledger."""

    def add_drop(self, operator: str, test: str, reason: str) -> None:
        """Count a dropped trace."""
        ...

    def add_step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """Count a line of the funnel."""
        ...


class VerdictCache(Protocol):
    """Verdicts and model scores as canonical JSON under content keys. Thread-safe like the ledger."""

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the stored values by key; keys without one are left out."""
        ...

    def put(self, values: Mapping[str, str]) -> None:
        """Store these values under their keys."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """What operators report to and run with.

    Args:
        ledger: records the traces that operators make and drop; None records nothing.
        verdict_cache: holds verdicts and model scores, so that equal texts are judged once; None computes each anew.
        workers: how many calls of `each` run at once.
        judge: the model that judges problems of the kind "judge".
        seed: the seed of every request made here; without one it is 0. A model behind a store keeps the store's seed,
            and one that differs is refused.
        sections: takes what a method adds to the report.
        drop_counts: counts what operators drop, for whoever drives the method.
        on_step: called with operator, label, texts in and texts out at each line of the funnel, once it is written.
        usage: counts what models are asked for each problem, for whoever measures.
        overlap_reason: says how a trace overlaps the run's evaluation set; "" where it does not. A derived problem that
            overlaps is dropped. Without it nobody knows of an evaluation set.
        on_note: takes the sentences of `note`.
        samples: counts the samples of each request, so that two equal calls take different ones. Outside a session
            nothing is counted: an equal call gives the same samples again.
        replies: counts the replies that readers met, and those that they could not read.
    """

    ledger: Ledger | None = None
    verdict_cache: VerdictCache | None = None
    workers: int = 16
    judge: Model | None = None
    seed: int | None = None
    sections: Callable[[ReportSection], None] | None = None
    drop_counts: DropCounts | None = None
    on_step: OnStep | None = None
    usage: UsageMeter | None = None
    overlap_reason: Callable[[Trace], str] | None = None
    on_note: Callable[[str], None] | None = None
    samples: SampleCounter = field(default_factory=SampleCounter, compare=False)
    replies: ReplyCounter = field(default_factory=ReplyCounter, compare=False)


# Context variables, so that two runs in one process do not meet and worker threads inherit them.
_SESSION: ContextVar[Session | None] = ContextVar("potstill_session", default=None)
INSIDE_EACH: ContextVar[bool] = ContextVar("potstill_inside_each", default=False)


def current_session() -> Session:
    """Return the session of this context; outside a run, one with neither ledger nor cache."""
    return _SESSION.get() or Session()


@contextmanager
def using(session: Session) -> Iterator[Session]:
    """Make `session` the current one for the length of a `with` block; worker threads inherit it."""
    # A session that counts anew does so inside `each` too.
    is_same_count = session.samples is current_session().samples
    token = _SESSION.set(session)
    try:
        with counting_in(counter_of_call() if is_same_count else None):
            yield session
    finally:
        _SESSION.reset(token)


def record_usage(model: Model, problem_ids: Sequence[str], answers: Sequence[Completion]) -> None:
    """Count what a model was asked, each answer for the problem at its place."""
    usage = current_session().usage
    if usage is not None:
        usage.add(model, problem_ids, answers)


def current_counter() -> SampleCounter:
    """What counts the samples here: the call of `each` that this is in, or else the session."""
    return counter_of_call() or current_session().samples


def record_traces(traces: Sequence[Trace]) -> None:
    """Enter new or newly judged traces in the ledger."""
    ledger = current_session().ledger
    if ledger and traces:
        ledger.add_traces(traces)


def record_drops(operator: str, test: str, losses: Iterable[tuple[Trace, str]]) -> None:
    """Enter dropped traces in the ledger, given as pairs of a trace and the reason."""
    current = current_session()
    drops = [Drop(trace, operator, test, reason) for trace, reason in losses]
    if current.ledger and drops:
        current.ledger.add_drops(drops)
    if current.drop_counts:
        for drop in drops:
            current.drop_counts.add_drop(operator, test, drop.reason)


def record_step(operator: str, label: str, taken: int, returned: int) -> None:
    """Enter a funnel line, unless inside `each`: there the order of calls is chance, and `each` reports for them."""
    if INSIDE_EACH.get():
        return
    current = current_session()
    if current.ledger:
        current.ledger.add_step(operator, label, taken, returned)
    if current.drop_counts:
        current.drop_counts.add_step(operator, label, taken, returned)
    if current.on_step:
        current.on_step(operator, label, taken, returned)


def report(section: ReportSection) -> None:
    """Add a section to the run's results and report."""
    sections = current_session().sections
    if sections is not None:
        sections(section)


def note(sentence: str) -> None:
    """Say what people should know of this run, such as what a method does without: at once, and among the results.

    `plan` says it too, and so before anything is paid. Where nobody listens, nothing is said.
    """
    on_note = current_session().on_note
    if on_note is not None:
        on_note(sentence)


def cached_values(keys: Sequence[str], compute: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
    """Look values up in the session's cache; compute those that are missing, equal keys once, and store them.

    Args:
        keys: a content key for each value that is wanted; keys may repeat.
        compute: takes the indices of the missing keys and returns a JSON value for each.

    Returns:
        The values in the order of the keys.
    """
    cache = current_session().verdict_cache
    cached = cache.get(list(dict.fromkeys(keys))) if cache else {}

    # A key that is missing twice is computed at its first index.
    missing: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key not in cached:
            missing.setdefault(key, index)

    fresh: dict[str, str] = {}
    if missing:
        values = compute(list(missing.values()))
        for key, value in zip(missing, values, strict=True):
            fresh[key] = canonical(value)
    if cache and fresh:
        cache.put(fresh)

    # Fresh values go through JSON too, so that a first run and its repetition see the same thing.
    return [json.loads(cached[key] if key in cached else fresh[key]) for key in keys]
