"""Shuffled controls: every problem is shown what belongs to another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.errors import StageError
from potstill.records import Trace


def shuffled_key(traces: Sequence[Trace], *, what: str = "errors") -> Callable[[Trace], str]:
    """A grouping key under which each problem finds the next problem's traces, in the order of ids.

    Args:
        traces: what is shown to other problems; any other trace has its own problem as its key.
        what: these traces are called in an error.

    Raises:
        StageError: the traces are of one problem only.
    """
    problem_ids = sorted({trace.problem.id for trace in traces})
    if len(problem_ids) == 1:
        raise StageError(
            f"there are {what} on one problem only ({problem_ids[0]!r}): they can't be shuffled",
            expected=f"{what} on two problems at least",
            fix="more problems (--limit) or more attempts a problem (--set n=8)",
        )
    next_ids = problem_ids[1:] + problem_ids[:1]
    shown_to = dict(zip(next_ids, problem_ids, strict=True))
    trace_ids = {trace.id for trace in traces}

    def group_of(trace: Trace) -> str:
        if trace.id in trace_ids:
            return shown_to[trace.problem.id]
        return trace.problem.id

    return group_of
