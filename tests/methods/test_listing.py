"""Methods are listed from their files: none is imported, and a hundred are read at once."""

from __future__ import annotations

import pytest

from potstill.errors import ConfigError
from potstill.methods import METHODS, discovery, listing
from potstill.methods.catalogue import method_entry
from potstill.methods.discovery import MethodFolders

METHOD = '''"""A file."""
raise AssertionError("imported")
def {name}(problems, teacher, student, helpers=(), *, n: int = 1):
    """{name}: a title (arXiv:2401.00001).

    Learns from: {learns_from}.
    """
'''


@pytest.fixture
def hundred(tmp_path):
    """A hundred methods of one family."""
    folder = tmp_path / "errors"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Wrong\nattempts.\n\nBegin with: m7\n"""\n')
    for number in range(100):
        text = METHOD.format(name=f"m{number}", learns_from=f"errors of kind {number % 10}")
        (folder / f"m{number}.py").write_text(text)
    return MethodFolders(tmp_path, "nowhere")


def test_a_hundred_methods_are_listed_from_their_files(hundred):
    methods = listing.list_methods(hundred)
    assert len(methods) == 100 and methods["m7"].text.title == "m7: a title (arXiv:2401.00001)."
    assert [tuple(role) for role in methods["m7"].roles] == [
        ("teacher", False),
        ("student", False),
        ("helpers", True),
    ]
    family = listing.list_families(hundred)["errors"]
    assert (family.learns_from, family.begin_with) == ("Wrong attempts.", "m7")
    assert len(family.methods) == 100


def test_needs_are_roles_that_must_be_filled(hundred):
    methods = listing.list_methods(hundred).values()
    assert len(listing.with_roles(methods, ["student", "teacher", "coder"])) == 100
    assert listing.with_roles(methods, ["student"]) == []


def test_a_file_without_its_function_is_named(tmp_path):
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "__init__.py").write_text("")
    (tmp_path / "errors" / "star.py").write_text("def other(): pass\n")
    with pytest.raises(ConfigError, match=r"star\.py has no function 'star'"):
        listing.list_methods(MethodFolders(tmp_path, "nowhere"))


@pytest.mark.parametrize("name", METHODS)
def test_what_is_read_from_the_file_is_what_is_imported(name):
    listed, entry = listing.list_methods()[name], method_entry(name)
    assert listed.text == entry.text and listed.family == entry.family
    assert [tuple(role) for role in listed.roles] == [(r.name, r.optional) for r in entry.roles]


@pytest.mark.parametrize(
    "words",
    [[], ["errors"], ["--needs", "teacher,student"], ["--search", "wrong"], ["--json"]],
    ids=lambda words: " ".join(words) or "families",
)
def test_no_method_is_imported_to_be_listed(words, monkeypatch, potstill_command):
    monkeypatch.setattr(discovery, "import_module", None)
    assert potstill_command("methods", *words) == 0


@pytest.fixture
def potstill_command(capsys):
    from potstill.cli import main

    return lambda *words: main(list(words))
