"""docs/papers.md: it is what the methods' docstrings say, and what it names exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from potstill.methods import METHODS, listing

ROOT = Path(__file__).resolve().parents[1]
# The table of the issue that asks for these papers, by family.
ASKED = {
    "chains": (57, 101, 104, 106, 120, 155),
    "errors": (1, 37, 77, 88, 89, 99, 144),
    "rewriting": (5, 24, 56, 59, 92, 122, 132),
    "selecting": (7, 22, 42, 51, 64, 72, 171),
    "searching": (6, 52, 86, 110),
    "roles": (43, 70, 97, 116),
    "judges": (9, 112, 133, 168),
    "programs": (20, 40, 45, 68, 100, 107),
    "knowledge": (14, 119),
    "testtime": (80, 81, 85, 123, 177),
    "questions": (135,),
    "distributions": (44, 108, 113, 128, 131, 148, 150, 152, 154, 167, 182, 184, 194),
    "rewards": (2, 12, 13, 15, 36, 58, 69, 82, 90),
}
STATUSES = ("exact", "departs", "partial", "from the abstract", "not yet")


def load_maker():
    spec = importlib.util.spec_from_file_location("make_papers", ROOT / "docs" / "make_papers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
PAPERS = {paper.number: paper for paper in maker.read_papers()}
PAGE = maker.PAGE.read_text("utf-8")


def test_the_page_is_what_the_docstrings_and_the_table_say():
    assert maker.make_page() == PAGE, "run `make papers` and commit docs/papers.md"


def test_every_paper_of_the_list_stands_there_once():
    assert list(PAPERS) == [*(f"R{n}" for n in range(1, 7)), *(str(n) for n in range(1, 195))]


def test_every_method_names_rows_that_there_are_and_its_own_family():
    for method in listing.list_methods().values():
        for number in method.text.papers:
            assert number in PAPERS, f"{method.name}: docs/papers.csv has no row {number}"
            assert PAPERS[number].family == method.family, f"{method.name}: family of {number}"
            assert not PAPERS[number].why_not_yet, f"{method.name}: {number} is said to be missing"


def test_every_paper_that_was_asked_for_has_a_status():
    rows = dict(re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE))
    for family, numbers in ASKED.items():
        for number in numbers:
            assert rows[str(number)].startswith(STATUSES), number
            assert PAPERS[str(number)].family == family, number


def test_every_command_of_the_page_exists():
    commands = re.findall(r"`potstill run (\w+)`", PAGE)
    assert set(commands) <= set(METHODS) and len(commands) >= len(METHODS)


def test_the_status_is_what_the_docstring_admits():
    paper = maker.Paper("7", "A paper", "errors", "")
    assert maker.paper_row(paper, []).endswith(f"| {maker.PLANNED} |\n")
    orion = listing.list_methods()["orion"]
    row = maker.paper_row(paper, [orion])
    assert "| `potstill run orion` | partial |" in row and "abs/2505.22131" in row
