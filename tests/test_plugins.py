"""Objects from outside the package: files by path, installed packages by entry point."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from potstill import plugins
from potstill.errors import ConfigError


@pytest.fixture
def entry_points(monkeypatch):
    """A function that makes entry points of a group appear as if packages had brought them."""
    plugins._entry_points.cache_clear()

    def bring(group: str, **values: str) -> None:
        points = [
            metadata.EntryPoint(name, value, f"potstill.{group}") for name, value in values.items()
        ]
        monkeypatch.setattr(
            metadata, "entry_points", lambda group: [p for p in points if p.group == group]
        )

    yield bring
    plugins._entry_points.cache_clear()


def test_an_entry_point_is_imported_when_it_is_asked_for(entry_points):
    entry_points("methods", star="json:dumps", lost="no_such_module_here:x")
    assert plugins.plugin_names("methods") == ["lost", "star"]
    assert plugins.plugin_names("verifiers") == []
    assert plugins.load_plugin("methods", "star").__name__ == "dumps"
    with pytest.raises(ConfigError, match="can't be imported: ModuleNotFoundError"):
        plugins.load_plugin("methods", "lost")
    with pytest.raises(ConfigError, match="nearest:   star"):
        plugins.load_plugin("methods", "starr")


def test_two_packages_that_bring_one_name_are_refused(monkeypatch):
    plugins._entry_points.cache_clear()
    points = [metadata.EntryPoint("star", v, "potstill.methods") for v in ("a:x", "b:x")]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    with pytest.raises(ConfigError, match="Two installed packages bring 'star'"):
        plugins.plugin_names("methods")
    plugins._entry_points.cache_clear()


def test_files_of_one_name_do_not_meet_and_a_changed_file_is_read_anew(tmp_path):
    one, other = tmp_path / "a" / "method.py", tmp_path / "b" / "method.py"
    for file, value in ((one, 1), (other, 2)):
        file.parent.mkdir()
        file.write_text(f"value = {value}")
    assert plugins.load_object(f"{one}:value") == 1
    assert plugins.load_object(f"{other}:value") == 2
    one.write_text("value = 3")
    assert plugins.load_object(f"{one}:value") == 3


def test_a_file_that_fails_leaves_no_half_module(tmp_path):
    file = tmp_path / "half.py"
    file.write_text("value = 1\nraise ValueError('no')")
    with pytest.raises(ConfigError, match="can't be run: ValueError: no"):
        plugins.load_object(f"{file}:value")
    assert not [name for name in sys.modules if name.startswith("potstill_plugin_half")]


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("m.py:star", True),
        ("a/b.py:star", True),
        ("orion", False),
        ("m.py", False),
        ("m.py:", False),
    ],
)
def test_what_names_an_object_of_a_file(text, is_path):
    assert plugins.is_object_path(text) is is_path


@pytest.fixture
def installed(tmp_path, monkeypatch, entry_points):
    """A package of one module on the path, which brings one of each."""
    (tmp_path / "star_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        metadata.EntryPoint(name, f"star_package:{name}", f"potstill.{group}")
        for group, name in (
            ("methods", "star"),
            ("verifiers", "celsius"),
            ("models", "parrot"),
            ("problems", "riddles"),
        )
    ]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [p for p in points if p.group == group]
    )


PACKAGE = """
from types import SimpleNamespace

from potstill.models.model import Completion, Trainable
from potstill.records import Problem, Stage, Verdict
from potstill.traces import keep, right, sample, verify


def star(problems, student: Trainable, *, n: int = 2):
    \"\"\"Learn from one's own right answers (STaR, arXiv:2203.14465).\"\"\"
    yield Stage(student, keep(right, verify(sample(student, problems, n=n))), "sft")


def judge(problem, text):
    status = "right" if problem.answer in text else "wrong"
    return Verdict(status, text, "", "celsius@1")


celsius = SimpleNamespace(VERSION="celsius@1", judge=judge, gold_text=lambda p: p.answer)


class Parrot:
    id = "parrot-1"

    def write(self, requests):
        return [Completion("20 C") for _ in requests]


def parrot(spec):
    return Parrot()


def riddles(spec):
    return [Problem(f"{spec}-{i}", f"How warm is room {i}?", "20 C", kind="celsius") for i in range(3)]
"""


def test_what_an_installed_package_brings_works_together(installed):
    import potstill as ps

    problems = ps.load_problems("riddles:easy")
    answers = ps.verify(ps.sample(ps.load_model("parrot:NAME"), problems))
    assert [trace.verdict.status for trace in answers] == ["right"] * 3
    assert ps.describe_methods("star")[0]["title"].startswith("Learn from")
    assert "star" in [method["name"] for method in ps.describe_methods()]


def test_a_verifier_that_lacks_a_part_is_refused(installed, monkeypatch):
    import potstill as ps

    monkeypatch.setattr(plugins, "load_plugin", lambda group, name: object())
    with pytest.raises(ConfigError, match="has no VERSION, judge, gold_text"):
        ps.judge(ps.Problem("p", "?", "1", kind="celsius"), "1")


@pytest.mark.parametrize("made", ["None", "[{'question': '?'}]"])
def test_a_plugin_that_makes_no_problems_or_no_model_is_a_clear_error(monkeypatch, installed, made):
    import potstill as ps

    monkeypatch.setattr(plugins, "load_plugin", lambda group, name: lambda rest: eval(made))
    with pytest.raises(ConfigError, match="which is no Problem"):
        ps.load_problems("riddles:easy")
    with pytest.raises(ConfigError, match="which is no model"):
        ps.load_model("parrot:NAME")


def test_another_kind_than_the_one_that_a_source_makes_is_refused(installed):
    import potstill as ps

    assert len(ps.load_problems("riddles:easy", kind="celsius")) == 3
    for spec in ("riddles:easy", "world:story?size=2"):
        with pytest.raises(ConfigError, match="can't be judged as 'number'"):
            ps.load_problems(spec, kind="number")


@pytest.mark.parametrize("verdict", ["True", "None", "Verdict('correct', '20', '')"])
def test_a_verifier_that_returns_no_verdict_is_a_clear_error(installed, monkeypatch, verdict):
    import potstill as ps

    verifier = plugins.load_plugin("verifiers", "celsius")
    monkeypatch.setattr(
        verifier, "judge", lambda problem, text: eval(verdict, {"Verdict": ps.Verdict})
    )
    with pytest.raises(ConfigError, match="available: right, wrong, unparsed, unjudged"):
        ps.judge(ps.Problem("p", "?", "1", kind="celsius"), "1")


def test_an_error_lists_each_kind_of_a_package_once_and_suggests_the_nearest(installed):
    import potstill as ps

    with pytest.raises(ConfigError, match="write parrot:NAME") as mistake:
        ps.load_model("parot:NAME")
    assert mistake.value.available.count("parrot") == 1
    with pytest.raises(ps.InputError) as mistake:
        ps.load_problems("ridles:easy")
    assert mistake.value.available.count("riddles:…") == 1
