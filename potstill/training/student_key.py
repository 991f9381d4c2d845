"""What a training reads of its traces, and what a student is known by: all of that in one key, also for a run.

No torch in here: a run looks for its students before it loads any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from potstill.records import Trace, canonical, digest, trained_content
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.row_teachers import teacher_name

SCORE = "score"  # name of the score that says how good a rationale is, 0 to 1


@dataclass(frozen=True)
class StudentKey:
    """A student's key, with its parts by name to say in what two students differ."""

    parts: Mapping[str, Any]

    @cached_property
    def id(self) -> str:
        """Content id of all parts."""
        return digest("student", self.parts)


def student_key(
    traces: Sequence[Trace],
    settings: TrainingSettings,
    config: ObjectiveConfig,
    *,
    start_id: str = "",
) -> StudentKey:
    """Make the key of the student that a training makes.

    Args:
        start_id: content id of the model that is trained; "" where the training's folder is the student's alone.
    """
    parts = {**settings.identity(), **config.identity()}
    for name, value in parts.pop("constants").items():
        parts[f"constant {name}"] = value
    parts["start"] = start_id
    parts["rows"] = rows_id(traces, config)
    plain: dict[str, Any] = json.loads(canonical(parts))
    return StudentKey(plain)


def rows_id(traces: Sequence[Trace], config: ObjectiveConfig) -> str:
    """Content id of all that the trainer and the objective read of the traces; lineage is not among it."""
    return digest("rows", [digest("row", content_read(trace, config)) for trace in traces])


def content_read(trace: Trace, config: ObjectiveConfig) -> dict[str, Any]:
    """What is read of one trace: its text and weights, and what the objective takes from its annotations."""
    content: dict[str, Any] = {"trained": trained_content(trace)}
    if config.on_policy_fraction or config.replay_buffer_size:
        content["problem"] = trace.problem  # the student's own completions are judged by it
    if config.teacher_by:
        content["teacher"] = teacher_name(trace.problem, config.teacher_by)
    if "mismatched" in config.needs and trace.rejected is None:
        content["label"] = label_of(trace)
    if "prompts" in config.needs:
        sides = [side for side in (trace, trace.rejected) if side]
        content["scores"] = [rationale_score(side) for side in sides]
    return content


def label_of(trace: Trace) -> bool | None:
    """Whether a completion is a right one: by its label, else by its verdict; None where neither says."""
    label = trace.scores.get("label")
    if isinstance(label, int | float):
        return label > 0
    return {"right": True, "wrong": False}.get(trace.verdict.status)


def rationale_score(trace: Trace) -> float | None:
    """How good a rationale is; None where nobody said."""
    score = trace.scores.get(SCORE)
    return float(score) if isinstance(score, int | float) else None
