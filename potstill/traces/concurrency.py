"""The combinator `each`: a search, a walk or a chain of operators on every trace or group, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from potstill.records import Trace
from potstill.traces import session
from potstill.traces.keys import Key, grouped, name_of

Operator = Callable[[list[Trace]], list[Trace]]


def each(fn: Operator, traces: Sequence[Trace], *, by: Key | None = None) -> list[Trace]:
    """Call `fn` on every trace as a list of one (on every group with `by`), and join the results in input order.

    Calls run in worker threads, as many as the session allows, with the caller's context variables; an `each` inside
    runs inline. An exception goes through, and calls not yet begun are cancelled. `fn` never sees an errored trace: it
    passes unchanged in its place, in its group after the others.
    """
    groups = [[t] for t in traces] if by is None else list(grouped(traces, by).values())
    jobs = [[t for t in group if not t.error] for group in groups]
    results = (
        _inline(fn, jobs)
        if session.INSIDE_EACH.get()
        else _threads(fn, jobs, session.current().workers)
    )
    passed = [[t for t in group if t.error] for group in groups]
    result = [
        t for answer, errored in zip(results, passed, strict=True) for t in (*answer, *errored)
    ]
    session.step("each", name_of(fn), len(traces), len(result))
    return result


def _inline(fn: Operator, jobs: Sequence[list[Trace]]) -> list[list[Trace]]:
    return [fn(job) if job else [] for job in jobs]


def _threads(fn: Operator, jobs: Sequence[list[Trace]], workers: int) -> list[list[Trace]]:
    pool = ThreadPoolExecutor(max(1, min(workers, len(jobs))), thread_name_prefix="each")
    try:
        futures = [pool.submit(copy_context().run, _inside, fn, job) for job in jobs]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _inside(fn: Operator, job: list[Trace]) -> list[Trace]:
    session.INSIDE_EACH.set(True)
    return fn(job) if job else []
