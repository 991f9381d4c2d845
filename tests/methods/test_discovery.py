"""Methods are found by the names of their files; none is imported before it is looked up."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.errors import ConfigError
from potstill.methods import METHODS, discovery
from potstill.methods.discovery import MethodFolders


def write_methods(folder: Path, *files: str) -> MethodFolders:
    """A folder of families with these files in it, each of which ends the test if it is imported."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise AssertionError('imported')\n")
    return MethodFolders(folder, "nowhere.methods")


def test_a_file_or_a_folder_of_a_family_is_a_method(tmp_path):
    methods = write_methods(
        tmp_path,
        *(
            "__init__.py",
            "shared.py",
            "errors/__init__.py",
            "errors/_lines.py",
            "empty/__init__.py",
        ),
        *("errors/star.py", "errors/big/__init__.py", "errors/big/big.py", "errors/big/prompts.py"),
    )
    assert list(methods) == ["big", "star"] and list(methods.families) == ["empty", "errors"]
    assert "star" in methods and "prompts" not in methods and len(methods) == 2
    assert methods.files["big"].module == "nowhere.methods.errors.big.big"
    assert methods.files["star"].family == "errors"


def test_two_methods_of_one_name_are_refused(tmp_path):
    files = ("a/__init__.py", "b/__init__.py", "a/star.py", "b/star.py")
    with pytest.raises(ConfigError, match="Two methods are called 'star'"):
        list(write_methods(tmp_path, *files))


def test_a_file_without_its_function_says_so(tmp_path, monkeypatch):
    methods = write_methods(tmp_path, "errors/__init__.py", "errors/star.py")
    monkeypatch.setattr(discovery, "import_module", lambda module: object())
    with pytest.raises(ConfigError, match=r"star\.py has no function 'star'"):
        methods["star"]


@pytest.mark.parametrize("name", METHODS)
def test_every_file_of_the_package_has_its_method(name):
    assert METHODS[name].__name__ == name
