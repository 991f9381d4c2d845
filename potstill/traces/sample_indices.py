"""Which sample of a request a call takes: equal requests of one program never share one, in whatever order it runs.

At the top of a program, and within one call of `each`, calls come in order and samples are counted. The calls of an
`each` run at once, so their order is chance; what is not is which of them could ask the same. J calls on the same
problem share out its samples: the call of rank r takes r, r + J, r + 2J …, so the first request of each gives 0 to
J - 1, the samples that one call with n=J would take. A request that does not show the problem may be equal in all
calls, and is shared out among all.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from potstill.models.model import Request, Sampling, prompt_json, settings_json
from potstill.records import Problem, Trace


class SampleShare(NamedTuple):
    """Which of the samples a call takes: the one of its rank, of as many as there are calls."""

    rank: int
    calls: int


ALL_SAMPLES = SampleShare(0, 1)


class SampleCounter:
    """How many samples of each request were taken, at the top of a program or within one call of `each`."""

    def __init__(
        self,
        outer: SampleCounter | None = None,
        share: SampleShare = ALL_SAMPLES,
        share_of_problem: Mapping[Hashable, SampleShare] | None = None,
    ) -> None:
        """Count from nothing.

        Args:
            outer: where the `each` was called, whose samples this call takes its share of.
            share: of a request that does not show its problem.
            share_of_problem: of a request that shows it, by the problem's content.
        """
        self._outer, self._share = outer, share
        self._share_of_problem = share_of_problem or {}
        self._taken: Counter[bytes] = Counter()
        self._shares_used: dict[bytes, SampleShare] = {}

    def take(self, request: Request, model: str, problem: Problem | None, count: int) -> list[int]:
        """The indices of the next samples of this request.

        Args:
            request: its own index tells apart what was asked for anew with `sample_index=`.
            model: who is asked.
            problem: of the trace that the request was made from.
            count: how many.
        """
        key = _content_key(request, model)
        shown_problem: Hashable = None
        if self._outer is not None and problem is not None and _shows(request, problem):
            shown_problem = content_of(problem)
        first = self._taken[key]
        self._taken[key] += count
        return [self._index(key, shown_problem, first + number) for number in range(count)]

    def inside_each(self, jobs: Sequence[Sequence[Trace]]) -> list[SampleCounter]:
        """A counter for each call of an `each` on these traces."""
        calls_of_problem: defaultdict[Hashable, int] = defaultdict(int)
        ranks: list[dict[Hashable, int]] = []
        for job in jobs:
            contents = dict.fromkeys(content_of(trace.problem) for trace in job)
            ranks.append({content: calls_of_problem[content] for content in contents})
            for content in contents:
                calls_of_problem[content] += 1
        counters = []
        for number, ranks_of_job in enumerate(ranks):
            shares = {
                content: SampleShare(rank, calls_of_problem[content])
                for content, rank in ranks_of_job.items()
            }
            counters.append(SampleCounter(self, SampleShare(number, len(jobs)), shares))
        return counters

    def close_each(self, counters: Sequence[SampleCounter]) -> None:
        """Count what the calls of an `each` took, so that what comes after it takes none of theirs."""
        most: dict[bytes, int] = {}
        for counter in counters:
            for key, taken in counter._taken.items():
                most[key] = max(most.get(key, 0), taken * counter._shares_used[key].calls)
        for key, count in most.items():
            self._taken[key] += count

    def _index(self, key: bytes, shown_problem: Hashable, number: int) -> int:
        if self._outer is None:
            return number
        share = self._share_of_problem.get(shown_problem, self._share)
        self._shares_used[key] = share
        taken_before = self._outer._taken[key]
        place = taken_before + number * share.calls + share.rank
        return self._outer._index(key, shown_problem, place)


# Of the call of `each` that this thread is in; at the top it is the session's.
_COUNTER: ContextVar[SampleCounter | None] = ContextVar("potstill_sample_counter", default=None)


def counter_of_call() -> SampleCounter | None:
    """The counter of the call of `each` that this is in; None outside of one."""
    return _COUNTER.get()


@contextmanager
def counting_in(counter: SampleCounter | None) -> Iterator[None]:
    """Take samples of this counter for the length of a `with` block."""
    token = _COUNTER.set(counter)
    try:
        yield
    finally:
        _COUNTER.reset(token)


def content_of(problem: Problem) -> Hashable:
    """What a problem asks, whatever its id: two problems with one content get equal requests."""
    gold = (problem.answer, problem.solution, problem.tests)
    return problem.kind, problem.question, problem.choices, problem.table, gold


def _shows(request: Request, problem: Problem) -> bool:
    turns = [request.prompt]
    if not isinstance(request.prompt, str):
        turns = [message.content for message in request.prompt]
    return bool(problem.question) and any(problem.question in turn for turn in turns)


def _content_key(request: Request, model: str) -> bytes:
    """All that names a request but its place, in a few bytes: a counter lives as long as its run."""
    hashed = _hash_of_call(model, request.sampling, request.sample_index).copy()
    for text in (prompt_json(request.prompt), request.prefix):
        encoded = text.encode("utf-8", "surrogatepass")
        hashed.update(len(encoded).to_bytes(8, "big") + encoded)
    return bytes(hashed.digest())


@functools.lru_cache(maxsize=64)
def _hash_of_call(model: str, sampling: Sampling, sample_index: int) -> Any:
    """The hash of what all requests of a call share."""
    shared = f"{model}\n{settings_json(sampling)}\n{sample_index}"
    return hashlib.blake2b(shared.encode("utf-8", "surrogatepass"), digest_size=16)
