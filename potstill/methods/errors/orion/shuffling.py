"""The shuffled ablation: every problem is shown another problem's errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.errors import StageError
from potstill.records import Trace


def shuffled_key(attempts: Sequence[Trace]) -> Callable[[Trace], str]:
    """A grouping key that shows each problem the attempts at the next one."""
    problem_ids = sorted({attempt.problem.id for attempt in attempts})
    if len(problem_ids) == 1:
        raise StageError(
            f"the student erred on one problem only ({problem_ids[0]!r}): its errors can't be shuffled",
            expected="errors on two problems at least",
            fix="more problems (--limit) or more attempts a problem (--set n=8)",
        )
    next_ids = problem_ids[1:] + problem_ids[:1]
    shown_to = dict(zip(next_ids, problem_ids, strict=True))
    attempt_ids = {attempt.id for attempt in attempts}

    def group_of(trace: Trace) -> str:
        if trace.id in attempt_ids:
            return shown_to[trace.problem.id]
        return trace.problem.id

    return group_of
