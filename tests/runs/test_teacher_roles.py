"""Several teachers of a recipe: roles `teacher_NAME` beside `teacher_by`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill.errors import ConfigError
from potstill.runs.recipe import from_data
from potstill.runs.teacher_roles import with_role_teachers


def recipe(**training: Any) -> dict[str, Any]:
    roles = {"student": "world:student", "teacher": "world:teacher"}
    roles |= {"teacher_math": "world:teacher", "teacher_code": "world:student"}
    return {
        "method": "gkd",
        "problems": "world:story?size=4",
        "roles": roles,
        "training": {"objective_config": training},
    }


def test_the_roles_of_several_teachers_are_those_of_a_training_that_chooses() -> None:
    from_data(recipe(teacher_by="domain"))
    with pytest.raises(ConfigError, match=r"roles.teacher_(math|code)"):
        from_data(recipe(beta=0.5))


def test_they_stand_in_the_place_of_the_stage_s_teacher() -> None:
    models = {"teacher_math": Path("m"), "teacher_code": Path("c")}
    keywords = {"teacher": Path("t"), "teacher_by": "kind"}
    several = with_role_teachers(keywords, models)
    assert several == {"teacher_by": "kind", "teachers": {"math": Path("m"), "code": Path("c")}}
    assert with_role_teachers({"teacher": Path("t")}, models) == {"teacher": Path("t")}
