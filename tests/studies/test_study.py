"""The contract of a study: how it is found, run once, and written as a page with a figure."""

from __future__ import annotations

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from potstill.cli import main
from potstill.errors import ConfigError
from potstill.studies import chart, fingerprint, study
from potstill.studies.chart import Dot, DotChart, LineChart, render_svg
from potstill.studies.page import markdown_table, render_page
from potstill.studies.study import StudyPage, StudySettings

LABEL = "a < b, and an arm with a name that takes a good deal of room"
CHART = DotChart("Gains & losses", "points", [Dot(LABEL, 1.0, -2.0, 4.0)], reference=0.0)
PAGE = StudyPage(
    "Ten problems.", {"Arms": [{"arm": "a|b", "avg@n": "1.0"}]}, CHART, "Nothing. " * 30
)


def counting_study(runs):
    """A study whose only figure is how often it has run."""

    def run_study(settings, progress):
        runs.append(settings)
        return {"runs": len(runs), "test": settings.sizes["test"]}

    def describe_study(figures):
        table = {"Runs": [{"runs": str(figures["runs"])}]}
        return StudyPage(f"{figures['test']} problems.", table, CHART, "It ran.")

    return SimpleNamespace(
        QUESTION="Does it run?",
        SIZES={"test": 8},
        ROLES={"student": "world:student"},
        run_study=run_study,
        describe_study=describe_study,
    )


def made_up_fingerprint(name, settings):
    return {"id": "study-1", "seeds": settings.seeds}


@pytest.fixture
def runs(monkeypatch):
    """The settings with which the study `counting` has run."""
    made = []
    monkeypatch.setattr(study, "load_study", lambda name: counting_study(made))
    monkeypatch.setattr(
        fingerprint,
        "study_fingerprint",
        lambda name, settings: {"id": "study-1", "seeds": settings.seeds},
    )
    monkeypatch.setattr("potstill.cli.study.require_extra", lambda *names: None)
    return made


def test_studies_are_found_by_their_questions():
    studies = study.list_studies()
    assert "objectives" in studies and "rewriting" not in studies and "arms" not in studies
    assert all(listed.question.endswith("?") for listed in studies.values())
    with pytest.raises(ConfigError, match="no study 'objektives'"):
        study.load_study("objektives")


@pytest.mark.parametrize("name", study.list_studies())
def test_every_study_keeps_the_contract(name):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    module = study.load_study(name)
    listed = study.list_studies()[name]
    assert (listed.question, listed.sizes, listed.roles) == (
        module.QUESTION,
        module.SIZES,
        module.ROLES,
    )
    assert callable(module.run_study) and callable(module.describe_study)


@pytest.mark.parametrize("sizes", ["", "SIZES = make_sizes()"])
def test_a_study_without_literal_sizes_says_so(sizes, tmp_path):
    text = f"QUESTION = 'Why?'\nROLES: dict = {{}}\n{sizes}\n"
    (tmp_path / "why_not.py").write_text(text)
    with pytest.raises(ConfigError, match=r"why_not\.py is a study, and its SIZES is missing"):
        study.list_studies(tmp_path)


def test_a_study_is_named_after_its_file(tmp_path):
    (tmp_path / "why_not.py").write_text("QUESTION = 'Why?'\nROLES: dict = {}\nSIZES = {'n': 1}\n")
    assert study.list_studies(tmp_path) == {"why-not": ("Why?", {"n": 1}, {}, {})}


def test_the_list_has_sizes_and_models(capsys):
    assert main(["study"]) == 0
    out = capsys.readouterr().out
    assert "train=300" in out and "student=world:student" in out
    assert main(["study", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert listed["objectives"]["sizes"]["n"] == 4


def test_the_command_runs_it_and_writes_page_and_figure(runs, tmp_path, capsys):
    out, docs = tmp_path / "out", tmp_path / "docs"
    words = ["study", "counting", "--size", "test=3", "--out", str(out), "--docs", str(docs)]
    assert main([*words, "--quiet"]) == 0
    assert runs[0].sizes == {"test": 3} and runs[0].seeds == 3
    page = (docs / "counting.md").read_text()
    assert page.startswith("# Does it run?\n") and "![Gains & losses](counting.svg)" in page
    assert "potstill study counting --seeds 3 --size test=3 --docs docs/studies" in page
    assert "study-1" in page and str(tmp_path) not in page
    assert (out / "counting.svg").read_text() == (docs / "counting.svg").read_text()
    assert json.loads((out / "figures.json").read_text()) == {"runs": 1, "test": 3}
    assert "It ran." in capsys.readouterr().out


def test_a_folder_of_other_sizes_is_refused_and_more_seeds_are_not(runs, tmp_path, capsys):
    words = ["study", "counting", "--out", str(tmp_path), "--quiet", "--json"]
    assert main([*words, "--seeds", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == {"runs": 1, "test": 8}
    assert main([*words, "--seeds", "2"]) == 0
    assert main([*words, "--size", "test=9"]) == 2
    assert len(runs) == 2 and "other settings" in capsys.readouterr().out


def test_a_page_is_written_again_from_the_figures_alone(runs, tmp_path, capsys):
    words = ["study", "counting", "--out", str(tmp_path), "--quiet"]
    assert main([*words, "--page-only"]) == 2
    assert "There is no" in capsys.readouterr().err
    assert main(words) == 0
    (tmp_path / "counting.md").unlink()
    assert main([*words, "--page-only"]) == 0
    assert "study-1" in (tmp_path / "counting.md").read_text() and len(runs) == 1
    assert main([*words, "--page-only", "--seeds", "2"]) == 2
    assert "are of 3 seeds" in capsys.readouterr().err


def test_figures_of_another_version_are_said_to_be_that(runs, tmp_path, capsys):
    words = ["study", "counting", "--out", str(tmp_path), "--quiet"]
    assert main(words) == 0
    (tmp_path / "figures.json").write_text('{"runs": 1}')
    page = (tmp_path / "counting.md").read_text()
    assert main([*words, "--page-only"]) == 2
    message = capsys.readouterr().err
    assert "have no 'test': another version of potstill wrote them" in message
    assert "the same command without --page-only" in message
    assert (tmp_path / "counting.md").read_text() == page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "tests=9"], "no size 'tests'"),
        (["--size", "test=no"], "--size test: 'no' is not a whole number"),
        (["--role", "studnet=world:student"], "no role 'studnet'"),
    ],
)
def test_what_the_study_does_not_have_is_refused(runs, flags, message, tmp_path, capsys):
    assert main(["study", "counting", "--out", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err and not runs


def test_a_page_holds_everything_and_fills_its_lines():
    text = render_page("x", PAGE, question="Why?", fingerprint={"id": "f", "seeds": 3}, command="c")
    assert "| a\\|b | 1.0 |" in text and "- seeds: `3`" in text
    assert max(map(len, text.splitlines())) <= 120
    assert markdown_table([{"a": "1"}, {"a": "2"}]) == "| a |\n|---|\n| 1 |\n| 2 |"


LINES = LineChart("Curve", "tokens", "%", {LABEL: [(1, 2), (100, 4)], "b": [(10, 3)]}, log_x=True)


@pytest.mark.parametrize("drawn", [CHART, LINES], ids=["dots", "lines"])
def test_a_figure_is_an_svg_with_every_label_inside_it(drawn):
    root = ElementTree.fromstring(render_svg(drawn))
    width, height = float(root.get("width")), float(root.get("height"))
    texts = [node for node in root if node.tag.endswith("text")]
    assert {drawn.title} < {node.text for node in texts}
    for node in texts:
        # About 6 pixels a character, from where it is anchored.
        length = 6 * len(node.text)
        start = float(node.get("x")) - length * {"end": 1, "middle": 0.5}.get(
            node.get("text-anchor"), 0
        )
        assert start >= 0 and start + length <= width and 0 <= float(node.get("y")) <= height
    assert len([node for node in root if node.tag.endswith("circle")]) >= 1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-2, 4, [-2, 0, 2, 4]),
        (3, 3, [2.4, 2.6, 2.8, 3, 3.2, 3.4, 3.6]),
    ],
)
def test_ticks_are_round_and_hold_the_interval(low, high, ticks):
    assert chart.round_ticks(low, high) == ticks or chart.round_ticks(low, high)[0] <= low
    assert chart.round_ticks(low, high)[-1] >= high
    assert chart.log_ticks(3, 250) == [1, 10, 100, 1000]


def test_the_fingerprint_holds_models_sources_and_versions(monkeypatch, tmp_path):
    model = SimpleNamespace(id="hf-1")
    monkeypatch.setattr(fingerprint, "load_model", lambda spec: model)
    settings = StudySettings(tmp_path, 2, {"test": 8}, {"student": "world:student"})
    first = fingerprint.study_fingerprint("x", settings)
    assert first["models"] == {"student": "world:student (hf-1)"} and "python" in first["versions"]
    model.id = "hf-2"
    assert fingerprint.study_fingerprint("x", settings)["id"] != first["id"]


def test_a_folder_that_was_worked_on_with_other_sources_says_so(tmp_path):
    assert fingerprint.note_version(tmp_path, "sources", "one") == "one"
    assert fingerprint.note_version(tmp_path, "sources", "one") == "one"
    assert fingerprint.note_version(tmp_path, "sources", "two") == ["one", "two"]
    assert fingerprint.note_version(tmp_path, "versions", {"torch": "2"}) == {"torch": "2"}


def test_sources_count_whole_and_what_only_prints_does_not(tmp_path):
    (tmp_path / "cli").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "cli" / "b.py").write_text("1")
    before = fingerprint.sources_digest(tmp_path)
    (tmp_path / "cli" / "b.py").write_text("2")
    assert fingerprint.sources_digest(tmp_path) == before
    (tmp_path / "a.py").write_text("2")
    assert fingerprint.sources_digest(tmp_path) != before


def worldly_study(runs):
    """A study of two worlds, whose page can be written at any time."""
    study_of_one = counting_study(runs)
    study_of_one.WORLDS = {"small": {}, "large": {"sizes": {"test": 80}}}
    study_of_one.collect_figures = lambda settings: {"runs": -1, "test": settings.sizes["test"]}

    def describe_study(figures):
        rows = [{"world": world, "runs": str(one["runs"])} for world, one in figures.items()]
        return StudyPage("Two worlds.", {"Runs": rows}, CHART, "It ran.", {"Seen": "- a"}, {"n": 2})

    study_of_one.describe_study = describe_study
    return study_of_one


def test_a_study_of_worlds_has_a_folder_for_each_and_one_page(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "load_study", lambda name: worldly_study(runs))
    words = ["study", "counting", "--out", str(tmp_path), "--quiet", "--json"]
    assert main([*words, "--seeds", "1"]) == 0
    assert main([*words, "--world", "large"]) == 0
    assert [(run.world, run.sizes["test"]) for run in runs] == [("small", 8), ("large", 80)]
    capsys.readouterr()
    assert main([*words, "--world", "large", "--page-only"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == {
        "small": {"runs": 1, "test": 8},
        "large": {"runs": -1, "test": 80},
    }
    page = (tmp_path / "counting.md").read_text()
    written = " ".join(page.split())
    assert "--seeds 1 --world small" in written and "--seeds 3 --world large" in written
    assert "## Seen\n\n- a" in page
    assert json.loads((tmp_path / "counting.json").read_text()) == {"n": 2}
    assert main([*words, "--world", "middle"]) == 2
    assert "no world 'middle'" in capsys.readouterr().out
