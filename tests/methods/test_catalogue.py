"""The catalogue says of every method what it is and what each of its parameters does."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any, Literal

import pytest

from potstill.methods import METHODS
from potstill.methods.catalogue import (
    Value,
    describe_method,
    entry_to_json,
    method_entry,
    type_name,
)
from potstill.models.model import Model, Trainable


def every_value(values) -> list[Value]:
    return [v for value in values for v in (value, *every_value(value.fields))]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_title_paper_and_help_for_every_value(name):
    found = method_entry(name)
    assert len(found.title) > 30 and found.title.endswith(".") and "\n" not in found.title
    assert len(found.arxiv.split(".")) == 2
    without = [value.name for value in every_value(found.values) if not value.help]
    assert not without, f"{name}: no help for {without} (write it in the Args of the docstring)"
    assert not [role.name for role in found.roles if role.optional and not role.help]


@pytest.mark.parametrize("name", METHODS)
def test_help_names_only_parameters_that_exist(name):
    from potstill.methods.catalogue import parse_args_section

    found = method_entry(name)
    known = {value.name for value in found.values} | {role.name for role in found.roles}
    assert set(parse_args_section(METHODS[name])) <= known
    for value in found.values:
        if value.fields:
            assert set(parse_args_section(value.annotation)) == {f.name for f in value.fields}


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_is_plain_json(name):
    told = json.loads(json.dumps(entry_to_json(method_entry(name))))
    assert told["name"] == name and {"title", "arxiv", "roles", "parameters"} <= set(told)
    assert all({"name", "needs", "optional", "help"} == set(role) for role in told["roles"])
    for parameter in told["parameters"]:
        assert {"name", "type", "help"} < set(parameter)
        assert ("default" in parameter) != ("fields" in parameter)


def test_orion_is_described_as_its_signature_says():
    found = method_entry("orion")
    assert found.arxiv == "2505.22131"
    teacher, student = found.roles
    assert (teacher.name, teacher.annotation, teacher.optional) == ("teacher", Model, False)
    assert (student.name, student.annotation, student.optional) == ("student", Trainable, False)
    assert [(v.name, v.default) for v in found.values][:3] == [
        ("n", 5),
        ("arm", "own"),
        ("steps", None),
    ]
    settings = {v.name: v for v in found.values[-1].fields}
    assert (
        settings["attempts_per_prompt"].default,
        settings["duplicate_jaccard"].default,
        settings["resamples"].default,
    ) == (
        3,
        0.7,
        4,
    )
    told = {p["name"]: p for p in entry_to_json(found)["parameters"]}
    assert told["arm"]["type"].startswith("'own' | 'none' | 'shuffled'")
    assert told["n"] == {
        "name": "n",
        "type": "int",
        "help": "solutions sampled from the student a problem, to expose its errors.",
        "default": 5,
    }
    sampler = method_entry("rft").roles[1]
    assert sampler.optional and sampler.help == (
        "whose samples these are, if not the student's: a recorded model stands for samples taken earlier."
    )


def method(
    problems,
    teacher: Model,
    helper: Model | None = None,
    *,
    n: int = 2,
    mode: Literal["a", "b"] = "a",
):
    """A title.

    Args:
        helper: an optional one.
        n: draws a problem;
            in a second line.
    """


def test_description_reads_roles_values_and_lines_of_help():
    found = describe_method("method", method)
    assert found.title == "A title." and found.arxiv == ""
    teacher, helper = found.roles
    assert (teacher.name, teacher.annotation, teacher.optional) == ("teacher", Model, False)
    assert (helper.name, helper.optional, helper.help) == ("helper", True, "an optional one.")
    assert [(v.name, v.help) for v in found.values] == [
        ("n", "draws a problem; in a second line."),
        ("mode", ""),
    ]


def test_help_survives_a_python_that_dedents_docstrings():
    def copy(problems, *, n: int = 2):
        pass

    copy.__doc__ = inspect.cleandoc(method.__doc__)  # as Python 3.13 stores it
    assert describe_method("copy", copy).values[0].help == "draws a problem; in a second line."


@dataclasses.dataclass
class Box:
    size: int = 1


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (Model, "Model"),
        (Model | None, "Model | None"),
        (Literal["a", 1], "'a' | 1"),
        (tuple[tuple[str, Any], ...], "tuple[tuple[str, Any], ...]"),
        (Box, "Box"),
        (str | tuple[str, ...], "str | tuple[str, ...]"),
    ],
)
def test_types_are_written_as_a_reader_writes_them(hint, text):
    assert type_name(hint) == text
