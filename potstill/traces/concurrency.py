"""The combinator `each`: a search, a walk or a chain of operators on every trace or group, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from potstill.records import Trace
from potstill.traces import session
from potstill.traces.keys import Key, function_name, group_traces
from potstill.traces.sample_indices import SampleCounter, counting_in

Operator = Callable[[list[Trace]], list[Trace]]


def each(fn: Operator, traces: Sequence[Trace], *, by: Key | None = None) -> list[Trace]:
    """Call `fn` on every trace as a list of one (on every group with `by`), and join the results in input order.

    Calls run in worker threads, as many as the session allows, with the caller's context variables; an `each` inside
    another runs in its thread. `fn` never sees an errored trace. Calls that ask a model the same get different samples,
    each the same ones whenever it runs (`traces.sample_indices`).

    Args:
        fn: takes a list of traces and returns a list of traces.
        traces: what it is called on.
        by: a key; calls `fn` once for each group of equal keys.

    Returns:
        The results of all calls. Errored traces pass unchanged, after the other traces of their group.

    Raises:
        Exception: whatever `fn` raises; calls that have not begun are cancelled.
    """
    # `fn` gets the healthy traces of each group; a group that has none is not called for.
    if by is None:
        groups = [[trace] for trace in traces]
    else:
        groups = list(group_traces(traces, by).values())
    jobs: list[list[Trace]] = []
    for group in groups:
        jobs.append([trace for trace in group if not trace.error])
    # Each call counts its samples apart, so that their order does not decide who gets which.
    outer = session.current_counter()
    counters = outer.inside_each(jobs)
    if session.INSIDE_EACH.get():
        answers = []
        for job, counter in zip(jobs, counters, strict=True):
            with counting_in(counter):
                answers.append(_call_unless_empty(fn, job))
    else:
        answers = _call_in_threads(fn, jobs, counters, session.current_session().workers)
    outer.close_each(counters)

    # Errored traces pass, after the results of their group.
    result: list[Trace] = []
    for group, answer in zip(groups, answers, strict=True):
        result += answer
        result += [trace for trace in group if trace.error]
    session.record_step("each", function_name(fn), len(traces), len(result))
    return result


def _call_in_threads(
    fn: Operator, jobs: Sequence[list[Trace]], counters: Sequence[SampleCounter], workers: int
) -> list[list[Trace]]:
    pool = ThreadPoolExecutor(max(1, min(workers, len(jobs))), thread_name_prefix="each")
    try:
        futures = []
        for job, counter in zip(jobs, counters, strict=True):
            futures.append(pool.submit(copy_context().run, _call_inside_each, fn, job, counter))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _call_inside_each(fn: Operator, job: list[Trace], counter: SampleCounter) -> list[Trace]:
    session.INSIDE_EACH.set(True)
    with counting_in(counter):
        return _call_unless_empty(fn, job)


def _call_unless_empty(fn: Operator, job: list[Trace]) -> list[Trace]:
    """Call the operator; a group of errored traces only has nothing for it."""
    if not job:
        return []
    return fn(job)
