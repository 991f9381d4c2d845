"""A value set in a YAML file: everything else stays as it was written."""

from __future__ import annotations

import pytest

from potstill.data import yaml
from potstill.data.yaml_edit import set_value, write_values
from potstill.errors import InputError

KEYS = ("values", "settings", "prompt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "values:\n  n: 5  # five\n  settings:\n    prompt: old  # why\n    k: 1\n",
            "values:\n  n: 5  # five\n  settings:\n    prompt: new  # why\n    k: 1\n",
        ),
        (
            "values:\n  settings:\n    k: 1  # one\n",
            "values:\n  settings:\n    prompt: new\n    k: 1  # one\n",
        ),
        ("values: {n: 5}  # five\n", "values: {settings: {prompt: new}, n: 5}  # five\n"),
        ("values: {}\n", "values: {settings: {prompt: new}}\n"),
        ("values:\nseed: 1\n", "values: {settings: {prompt: new}}\nseed: 1\n"),
        (
            "# a recipe\nmethod: orion\n",
            "# a recipe\nvalues: {settings: {prompt: new}}\nmethod: orion\n",
        ),
        ("", "values: {settings: {prompt: new}}\n"),
    ],
)
def test_the_value_is_set_and_nothing_else_changes(text, expected) -> None:
    changed = set_value(text, KEYS, "new")
    assert yaml.load(changed, "file")["values"]["settings"]["prompt"] == "new"
    assert changed.split() == expected.split() and ("#" in text) == ("#" in changed)


def test_values_that_are_no_plain_words_come_back_as_they_were(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("arms: {a: {values: {n: 5}}}\n")
    for value in ("null", "1e3", "two words", 3, True, ["a", 1]):
        write_values(path, "arms.a.values", {"settings.prompt": value})
        assert yaml.read(path)["arms"]["a"]["values"]["settings"]["prompt"] == value


def test_a_file_that_can_not_be_changed_is_left_alone(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("base: &b {n: 1}\nvalues: *b\n")
    with pytest.raises(InputError, match="can't be changed by itself"):
        write_values(path, "values", {"n": 2})
    assert path.read_text() == "base: &b {n: 1}\nvalues: *b\n"
