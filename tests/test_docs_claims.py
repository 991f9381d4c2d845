"""docs/claims.md: every claim has an outcome, every open question an answer, and what it names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from potstill.methods import METHODS
from potstill.methods.listing import list_methods
from potstill.studies.study import list_studies

PAGE = Path(__file__).resolve().parents[1] / "docs" / "claims.md"
TEXT = PAGE.read_text("utf-8")
DECIDED = {"reproduced", "contradicted", "undecided"}
OUTCOMES = {*DECIDED, "not testable here", "not yet"}
STATES = {"study", "instrument", "not yet"}
NUMBERS = {"E": 5, "L": 4, "S": 3, "M": 5, "R": 5}
IDS = [f"{letter}-{number}" for letter, count in NUMBERS.items() for number in range(1, count + 1)]
DOTTED = re.compile(r"`((?:evaluation|methods|objectives|traces|studies)\.[\w.]+)`")
STUDY = re.compile(r"\]\(studies/([\w-]+)\.md\)")


def rows_below(heading):
    """The rows of the table below a heading, each a list of its cells."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


CLAIMS, QUESTIONS = rows_below("Claims"), rows_below("Open questions")


def exists(dotted):
    """Whether `potstill.` and this name leads to a module or to what one defines."""
    parts = ["potstill", *dotted.split(".")]
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def test_every_open_question_of_the_review_stands_there_once():
    assert [row[0] for row in QUESTIONS] == IDS


@pytest.mark.parametrize("row", QUESTIONS, ids=IDS)
def test_a_question_names_its_study_its_instrument_or_what_is_missing(row):
    _, question, state, where, missing = row
    assert question.endswith("?") and state in STATES
    if state == "study":
        assert STUDY.search(where)
    elif state == "instrument":
        assert DOTTED.search(where)
    else:
        assert missing


def test_every_claim_has_an_outcome_and_a_reason():
    assert all(outcome in OUTCOMES and why for _, _, outcome, why in CLAIMS)
    for _, _, outcome, why in CLAIMS:
        if outcome in ("reproduced", "contradicted"):
            is_linked = STUDY.search(why) or "](../README.md)" in why
            assert is_linked, f"{why}: an outcome is that of a study, or of the quickstart"


def test_claims_are_of_methods_that_are_there_and_of_every_paper_of_the_review():
    named = {method.strip("`") for method, *_ in CLAIMS}
    papers = {name: listed.text.papers for name, listed in list_methods().items()}
    assert {name for name in papers if "R" in "".join(papers[name])} <= named
    decided = {method.strip("`") for method, _, outcome, _ in CLAIMS if outcome in DECIDED}
    assert decided <= set(METHODS)


@pytest.mark.parametrize("dotted", sorted(set(DOTTED.findall(TEXT))))
def test_every_named_instrument_exists(dotted):
    if dotted.startswith("objectives"):
        pytest.importorskip("torch", reason="needs the extra potstill[local]")
    assert exists(dotted)


def test_every_linked_study_can_be_run():
    assert set(STUDY.findall(TEXT)) <= set(list_studies())


def test_the_check_of_instruments_can_fail():
    assert exists("evaluation.metrics.pass_at") and not exists("evaluation.metrics.pass_it")
    assert not exists("evaluation.nowhere")


@pytest.mark.parametrize(
    "page", sorted(PAGE.parent.glob("studies/*.md")), ids=lambda page: page.stem
)
def test_a_page_of_a_study_is_whole_and_its_study_is_there(page):
    text = page.read_text("utf-8")
    assert page.stem in list_studies() and page.with_suffix(".svg").exists()
    assert text.startswith(f"# {list_studies()[page.stem].question}\n")
    assert f"potstill study {page.stem} " in text and "## Fingerprint" in text
    assert f"](studies/{page.stem}.md)" in TEXT, "docs/claims.md links it"
