"""The roles of several teachers of one training: `teacher_math`, `teacher_code` beside `teacher_by: domain`.

They stand in the place of the teacher that the method's stage names, which goes on writing the method's texts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

PREFIX = "teacher_"  # of a role, before the teacher's name
CHOICE = "teacher_by"  # the keyword of an objective config


def teacher_roles(roles: Iterable[str]) -> dict[str, str]:
    """The roles of several teachers, by the teachers' names."""
    return {role.removeprefix(PREFIX): role for role in roles if role.startswith(PREFIX)}


def played_teacher_roles(
    roles: Collection[str], objective_configs: Iterable[Mapping[str, Any]]
) -> list[str]:
    """The roles of several teachers, where a training chooses among them."""
    if any(keywords.get(CHOICE) for keywords in objective_configs):
        return list(teacher_roles(roles).values())
    return []


def with_role_teachers(keywords: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's keywords with the models of these roles as its teachers, where it chooses among several.

    Args:
        keywords: of the stage, the recipe's over them.
        models: by role.
    """
    teachers = {name: models[role] for name, role in teacher_roles(models).items()}
    if not keywords.get(CHOICE) or keywords.get("teachers") or not teachers:
        return dict(keywords)
    several = {**keywords, "teachers": teachers}
    several.pop("teacher", None)
    return several
