"""Several teachers: which one each row has, or the average of all. Text side: no torch in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import StageError
from potstill.records import Problem, Trace

AVERAGE = "average"  # as `teacher_by`: every row has all teachers, their probabilities averaged
KIND = "kind"  # as `teacher_by`: a problem's kind, which is no metadata
SKIPPED = "no teacher is named for it"
SHOWN_NAMES = 5


class RowTeachers(NamedTuple):
    """The teachers of a training's rows.

    Args:
        names: of the teachers, in their order.
        of_trace: for each trace the places of its teachers among these; none for a row that nobody teaches.
    """

    names: tuple[str, ...]
    of_trace: Sequence[tuple[int, ...]]


def assign_teachers(
    traces: Sequence[Trace],
    teachers: Mapping[str, Any],
    teacher_by: str,
    *,
    max_dropped_share: float = 0.0,
) -> RowTeachers:
    """The teachers of each row: those whose name the row's problem has in the metadata `teacher_by`, or all.

    Args:
        traces: the stage's rows.
        teachers: by name.
        teacher_by: the name of metadata, such as `teacher_id` or `domain`; "kind"; or "average".
        max_dropped_share: share of the rows that may have no teacher, and are left out.

    Raises:
        StageError: more rows have no teacher, or a teacher has no rows.
    """
    names = tuple(teachers)
    everyone = tuple(range(len(names)))
    if teacher_by == AVERAGE:
        return RowTeachers(names, [everyone] * len(traces))
    of_trace: list[tuple[int, ...]] = []
    unknown: Counter[str] = Counter()
    for trace in traces:
        name = teacher_name(trace.problem, teacher_by)
        if name in teachers:
            of_trace.append((names.index(name),))
        else:
            of_trace.append(())
            unknown[name or f"no {teacher_by}"] += 1
    unassigned = sum(unknown.values())
    if unassigned > max_dropped_share * len(traces):
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(SHOWN_NAMES))
        raise StageError(
            f"{unassigned} of {len(traces)} rows have no teacher by {teacher_by}: {listed}",
            expected=f"one of {', '.join(names)} in each row",
            available=names,
            fix=f"--map metadata={teacher_by} reads the column; max_dropped_share leaves rows out",
        )
    return RowTeachers(names, of_trace)


def teacher_name(problem: Problem, teacher_by: str) -> str:
    """The name of a problem's teacher; "" where it has none."""
    if teacher_by == KIND:
        return problem.kind
    value = problem.metadata.get(teacher_by)
    return "" if value is None else str(value)
