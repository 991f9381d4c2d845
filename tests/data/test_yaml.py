"""YAML of plain values: object tags, keys twice, endless and exploding values are refused, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from slow_cases import slow_except

from potstill.data import files, yaml
from potstill.errors import ConfigError, InputError
from potstill.runs.recipe import from_file

REFUSED = {
    "object": (
        "a: 1\nb: !!python/object/apply:os.system ['true']\n",
        "line 2, column 4: the tag !!python/object",
    ),
    "name": ("a: !!python/name:os.system\n", "line 1, column 4: the tag !!python/name"),
    "own tag": ("a: !Mine 3\n", "line 1, column 4: the tag !Mine"),
    "twice": ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands on line 1 already"),
    "twice inside": ("x:\n  lr: 1\n  lr: 2\n", "line 3: the key 'lr' stands on line 2 already"),
    "itself": ("a: &a [*a]\n", "line 1, column 4: a value that contains itself"),
    "not YAML": ("a: [1\nb: 2\n", "line 2, column 2: not YAML"),
    "tab": ("a:\n\tb: 1\n", "line 2, column 1: not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2, column 1: not YAML"),
    "NUL": ("a: \0\n", "not YAML"),
    "deep": ("[" * 1500, "nested too deeply"),
}


@pytest.mark.parametrize("name", slow_except(set(REFUSED) - {"deep"}, REFUSED))
def test_refused_with_the_line(name: str, tmp_path: Path) -> None:
    text, found = REFUSED[name]
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        files.read_yaml(path)
    assert (
        found in caught.value.found
        and caught.value.found.startswith(str(path))
        and caught.value.fix
    )
    with pytest.raises(ConfigError):
        from_file(path)


def test_aliases_that_write_out_to_billions_are_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InputError, match="aliases that write out to too much"):
        yaml.load("\n".join(levels), "bomb")


def test_plain_values_anchors_and_merges_are_read(tmp_path: Path) -> None:
    text = "\ufeffbase: &b {n: 4, when: null}\narm: {<<: *b, n: 8}\nlist: [1, 2.5, true, text, 'a: b']\n"
    (tmp_path / "r.yaml").write_text(text, "utf-8")
    assert files.read_yaml(tmp_path / "r.yaml") == {
        "base": {"n": 4, "when": None},
        "arm": {"n": 8, "when": None},
        "list": [1, 2.5, True, "text", "a: b"],
    }
    assert yaml.load("", "empty") is None


def test_a_recipe_with_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "method: sft\nproblem: x.jsonl\nroles: {teacher: a, student: b}\n"
    )
    with pytest.raises(ConfigError, match="nearest: problems"):
        from_file(tmp_path / "r.yaml")
