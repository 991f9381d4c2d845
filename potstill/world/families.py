"""The world's families of tasks by name, and the shipped checkpoints: a teacher and a student of each family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from potstill.world.lessons import Family
from potstill.world.story_lessons import StoryFamily
from potstill.world.walk_lessons import WalkFamily

FAMILIES: Mapping[str, Family] = MappingProxyType({"story": StoryFamily(), "walk": WalkFamily()})


class Checkpoint(NamedTuple):
    """What a shipped checkpoint was taught."""

    family: str
    role: str


# By the name behind `world:`.
SHIPPED: Mapping[str, Checkpoint] = MappingProxyType(
    {
        "teacher": Checkpoint("story", "teacher"),
        "student": Checkpoint("story", "student"),
        "walk-teacher": Checkpoint("walk", "teacher"),
        "walk-student": Checkpoint("walk", "student"),
    }
)
