"""Documentation that can't rot: every Python block runs, every link inside the repository leads somewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from slow_cases import slow_except

import potstill

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)[^)]*\)")
FILE = re.compile(r"`((?:potstill|tests|docs|recipes|examples|benchmarks)/[\w./*-]+)`")

# Their examples ask and train models, or wait for servers.
SLOW_PAGES = ("README.md", "api.md", "servers.md")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
pages_by_speed = pytest.mark.parametrize(
    "page",
    slow_except([page for page in PAGES if page.name not in SLOW_PAGES], PAGES),
    ids=lambda page: page.name,
)


@pages_by_speed
def test_python_blocks_run_from_the_top(page, tmp_path, monkeypatch):
    text = page.read_text("utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # two threads on busy cores crawl
    scope: dict[str, object] = {"__name__": page.stem}
    for block in blocks:
        line = text[: block.start(1)].count("\n")  # so that a traceback names the line of the page
        exec(compile("\n" * line + block[1], str(page), "exec"), scope)


@every_page
def test_links_and_named_files_exist(page):
    text = page.read_text("utf-8")
    links = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    named = [file for file in FILE.findall(text) if not list(ROOT.glob(file))]
    assert not links and not named


def test_the_worked_example_is_there_and_is_run():
    page = ROOT / "docs" / "adding-a-method.md"
    blocks = BLOCK.findall(page.read_text("utf-8"))
    assert len(blocks) == 9 and "def short_lema(" in blocks[0] and "drive(short_lema" in blocks[1]
    assert len(blocks[0].splitlines()) < 120


def test_the_architecture_page_names_every_part_of_the_package():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    layout = text.split("## Layout")[1].split("```")[1]
    parts = [
        p
        for p in (ROOT / "potstill").iterdir()
        if (p / "__init__.py").exists() or p.suffix == ".py"
    ]
    missing = [p.name for p in parts if p.name[0] != "_" and f"\n  {p.name}" not in layout]
    assert not missing


def first_column(page: str, header: str) -> list[str]:
    """The names in the first column of the table whose header begins so."""
    _, _, table = (ROOT / page).read_text("utf-8").partition(f"\n{header}")
    rows = table.partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE)


def test_the_readme_has_every_family_of_methods():
    from potstill.methods.listing import list_families

    readme = (ROOT / "README.md").read_text("utf-8")
    for family in list_families().values():
        learns_from = family.learns_from[0].lower() + family.learns_from[1:].removesuffix(".")
        row = f"| `{family.name}` | {learns_from} | `{family.begin_with}` |"
        assert row in readme, f"README.md wants the row: {row}"


def test_a_table_has_every_kind_of_verifier():
    from potstill.verifiers import KINDS

    kinds = first_column("docs/verifiers.md", "| kind | `answer` holds |")
    assert sorted(kinds) == sorted(KINDS)


def test_methods_by_their_names_are_objectives_with_their_keywords():
    from potstill import objectives
    from potstill.training.objective_config import LOOP_KEYWORDS

    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    table = text.partition("## Methods by their names")[2].partition("\n##")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][1:]
    named: list[str] = []
    assert len(rows) > 5
    for row in rows:
        first = [words.split()[0] for words in re.findall(r"`([^`]+)`", row)]
        named = [
            word for word in first if "=" not in word
        ] or named  # "the same with" is of the row before
        assert named and set(named) <= set(objectives.TABLE), row
        known = {
            *LOOP_KEYWORDS,
            *(
                constant
                for name in named
                for constant in (*objectives.constants(name), *objectives.options(name))
            ),
        }
        assert set(re.findall(r"([a-z_]+)(?:\.[a-z_]+)?=", row)) <= known, row


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == potstill.__version__
    assert citation["license"] == "Apache-2.0"
    assert f"({potstill.__version__})" in (ROOT / "CHANGELOG.md").read_text("utf-8")
