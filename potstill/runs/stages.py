"""The stages of an arm: what each is called, its settings, its student, and its rows in the store.

A stage goes by its name, `Stage(…, name="warm-up")`, or else by its number in the arm, from 1. What belongs to one
stage is called `ARM/LABEL` where an arm has several; what belongs to the arm is its last stage's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from potstill import config
from potstill.errors import ConfigError, StageError
from potstill.models.model import Model
from potstill.records import Stage, Trace
from potstill.store.history import StageRows
from potstill.store.store import Store
from potstill.training.settings import TrainingSettings

_NAME = re.compile(r"[A-Za-z][\w-]*")


def stage_title(arm: str, label: str) -> str:
    """What belongs to one stage of an arm is called so, in results, tables and folders."""
    return f"{arm}/{label}"


@dataclass(slots=True)
class ArmStages:
    """The stages that an arm's method has yielded so far.

    Args:
        arm: its name, for errors.
        training: the arm's settings.
        training_by_stage: those of single stages, by label.
        students: by label, in order.
    """

    arm: str
    training: TrainingSettings
    training_by_stage: Mapping[str, TrainingSettings]
    students: dict[str, Model] = field(default_factory=dict)

    def label(self, stage: Stage) -> str:
        """What the stage that comes next is called.

        Raises:
            ConfigError: its name can't be one, or an earlier stage has it.
        """
        label = stage.name or str(len(self.students) + 1)
        training_names = config.names_of(config.settings_of(TrainingSettings))
        if stage.name and (not _NAME.fullmatch(stage.name) or stage.name in training_names):
            raise ConfigError(
                f"{self.arm} yielded a stage with the name {stage.name!r}",
                expected="letters, digits, - and _, a letter first, and no name of a training setting",
                fix='Stage(model, traces, objective, name="warm-up")',
            )
        if label in self.students:
            raise ConfigError(
                f"{self.arm} yielded two stages with the name {label!r}",
                expected="a name of its own for each stage, such as round-1, round-2",
            )
        return label

    def settings(self, label: str) -> TrainingSettings:
        """How a stage is trained."""
        return self.training_by_stage.get(label, self.training)

    def unused_settings(self) -> list[str]:
        """A sentence for each stage that has settings and that the method never yielded."""
        sentences: list[str] = []
        for label in self.training_by_stage:
            if label not in self.students:
                stages = ", ".join(self.students) or "none"
                sentences.append(
                    f"training.{label} was given, and {self.arm} has no such stage (it has {stages})"
                )
        return sentences


# What the store holds of stages.


def find_stage(store: Store, arm: str, label: str = "") -> StageRows | None:
    """An arm's stage by its label, or its last one; None where the arm has none.

    Raises:
        StageError: it has stages, and none of this label.
    """
    stages = store.history.stages(arm)
    if not label:
        return stages[-1] if stages else None
    for stage in stages:
        if stage.label == label:
            return stage
    raise StageError(
        f"the arm {arm} has no stage {label!r}",
        available=[stage.label for stage in stages],
        wanted=label,
    )


def stage_rows(store: Store, arm: str, label: str = "") -> list[Trace]:
    """The rows of one stage of an arm, or of its last one; nothing where the arm has none."""
    stage = find_stage(store, arm, label)
    return read_rows(store, arm, stage.row_ids) if stage is not None else []


def read_rows(store: Store, arm: str, row_ids: Iterable[str]) -> list[Trace]:
    """Rows by their ids, with the arm's annotations."""
    return list(store.history.traces_by_id(row_ids, arm))


def why_no_rows(store: Store, arm: str) -> str:
    """Why an arm has no rows: it has not come so far, or its method trains nothing."""
    if store.history.arms().get(arm):
        return (
            f"the arm {arm} came to its end and trained nothing: its method yields no stage, and its solver is "
            "measured as it is"
        )
    return f"the arm {arm} has no rows yet"
