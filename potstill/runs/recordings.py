"""Recorded models that are measured: how many of the problems they have answers to, before any is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from potstill.errors import InputError
from potstill.models.model import Model
from potstill.models.recorded import Recorded
from potstill.records import Trace


class RecordedProblems(NamedTuple):
    """The problems that a recording has answers to, and a sentence on those that were left out; "" where none were."""

    problems: list[Trace]
    note: str = ""


def recorded_problems(
    model: Model, problems: Sequence[Trace], n: int, *, spec: str
) -> RecordedProblems:
    """The problems that a recorded model has n answers to; all of them where the model is no recording.

    Args:
        model: who is measured.
        problems: blank traces.
        n: answers a problem.
        spec: what people call the model.

    Raises:
        InputError: answers are missing, and the recording is not to drop what it lacks; or all are missing.
    """
    recording = getattr(model, "inner", model)
    if not isinstance(recording, Recorded):
        return RecordedProblems(list(problems))
    # Problems that are asked in the same words share the recorded answers.
    remaining: Counter[object] = Counter()
    for trace in problems:
        if trace.prompt not in remaining:
            remaining[trace.prompt] = recording.draws(trace.prompt)
    answered: list[Trace] = []
    unanswered: list[Trace] = []
    for trace in problems:
        remaining[trace.prompt] -= n
        if remaining[trace.prompt] >= 0:
            answered.append(trace)
        else:
            unanswered.append(trace)
    if not unanswered:
        return RecordedProblems(answered)

    each = "" if n == 1 else f" with {n} answers each"
    coverage = f"{spec} is recorded{each} for {len(answered):,} of {len(problems):,} problems"
    if answered and recording.drops_missing:
        note = f"{coverage}; the others ({len(unanswered):,}) are left out (missing=drop), not counted as wrong."
        return RecordedProblems(answered, note)
    raise InputError(
        f"{coverage}; it lacks {unanswered[0].problem.question[:80]!r}",
        expected=f"{n} recorded answers to each problem",
        fix="?missing=drop behind the file measures on those that it has; --n 1 asks for one answer each; "
        "?match=contained finds questions inside a template",
    )
