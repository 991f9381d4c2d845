"""What a role's annotation asks of a model: optional, lists, several abilities at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import pytest

from potstill.methods.role_annotations import fill_roles, make_role, missing_abilities
from potstill.models.model import Model, Scored, Trainable


class Mentor(Trainable, Scored, Protocol):
    """A model that is trained and that scores."""


class Writer:
    """A model that writes and nothing else."""

    id = "writer"

    def write(self, requests: Sequence[Any]) -> list[Any]:
        return []


class Scorer(Writer):
    """A model that also gives likelihoods."""

    def likelihood(self, pairs: Sequence[Any]) -> list[list[float]]:
        return []


class Student(Scorer):
    """A model that can be trained as well."""

    weights = Path("somewhere")


@pytest.mark.parametrize(
    ("annotation", "is_list"),
    [
        (Scored, False),
        (Scored | None, False),
        (list[Scored], True),
        (Sequence[Scored], True),
        (tuple[Scored, ...], True),
        (list[Scored] | None, True),
    ],
)
def test_lists_and_none_are_taken_off(annotation: Any, is_list: bool) -> None:
    role = make_role("critic", annotation, optional=True, help_text="")
    assert (role.annotation, role.is_list) == (Scored, is_list)


@pytest.mark.parametrize(
    ("model", "annotation", "missing"),
    [
        (Writer(), Model, []),
        (Writer(), Any, []),
        (Writer(), Scored, ["Scored"]),
        (Scorer(), Trainable, ["Trainable"]),
        (Scorer(), Mentor, ["Trainable"]),
        (Writer(), Mentor, ["Scored", "Trainable"]),
        (Student(), Mentor, []),
        (Writer(), Annotated[Trainable, Scored], ["Trainable", "Scored"]),
        (Student(), Annotated[Trainable, Scored], []),
        (Scorer(), Trainable | Scored, []),
        (object(), Model, ["Model"]),
    ],
)
def test_what_a_model_lacks_is_named(model: Any, annotation: Any, missing: list[str]) -> None:
    assert missing_abilities(model, annotation) == missing


def test_weights_that_are_nowhere_are_no_weights() -> None:
    student = Student()
    student.weights = None
    assert missing_abilities(student, Trainable) == ["Trainable"]


def test_a_list_gets_its_models_in_order_and_a_role_without_one_is_left_out() -> None:
    roles = [
        make_role("teacher", Model, optional=False, help_text=""),
        make_role("readers", list[Model], optional=True, help_text=""),
        make_role("coder", Model | None, optional=True, help_text=""),
    ]
    by_key = {"readers.1": "a", "teacher": "t", "readers.2": "b", "judge": "j"}
    assert fill_roles(roles, by_key) == {"teacher": "t", "readers": ["a", "b"]}
