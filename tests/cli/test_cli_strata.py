"""`--by` and `--where`: problems are scored apart and chosen by their metadata, and mistakes are told beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.runs import sources


def test_arms_of_a_run_are_compared_by_level(finished: Path, potstill) -> None:
    strata = potstill("compare", finished, "--by", "level", "--json").json["strata"]["level"]
    assert [row["stratum"] for row in strata] == ["3", "3"]
    assert strata[0]["arm"].endswith(":untrained") and "comparison" in strata[1]
    outcome = potstill("compare", finished, "--by", "level", "--by", "length")
    assert "by level" in outcome.out and "by length" in outcome.out
    assert "not corrected for how many there are" in outcome.out


def test_a_report_shows_what_is_asked_for(finished: Path, tmp_path: Path, potstill) -> None:
    report = tmp_path / "report.html"
    assert potstill("report", finished, "--by", "length", "--out", report).code == 0
    assert "By length" in report.read_text()
    assert potstill("report", finished, "--by", "rating", "--out", report).code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "rating"], "no problem has the metadata 'rating'"),
        (["--where", "rating>2"], "no problem has the metadata 'rating'"),
        (["--where", "level"], "no condition on metadata"),
        (["--where", "level>3"], "no problem is left: level>3 holds for 0 of 1 problems"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(
    here: Path, potstill, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(sources, "load_model", None)
    outcome = potstill("evaluate", "--model", "world:student", "--problems", "test.jsonl", *words)
    assert outcome.code == 2 and message in outcome.err


def test_a_run_takes_the_problems_that_meet_its_conditions(here: Path, potstill) -> None:
    words = ["--problems", "train.jsonl", "--teacher", "scripted:teacher.json", "--rows-only"]
    outcome = potstill("run", "sft", *words, "--where", "level=2", "--where", "length<2", "--json")
    assert outcome.code == 2 and "length<2 holds for 0 of" in outcome.out
    outcome = potstill("run", "sft", *words, "--where", "level=2", "--out", "ran", "--json")
    assert outcome.code == 0
    assert outcome.json["notes"][0].startswith("Chosen from train.jsonl: level=2 holds for")


def test_problems_are_parted_by_how_often_another_arm_solved_them(
    finished: Path, tmp_path: Path, potstill
) -> None:
    solved = f"solved={finished}:untrained"
    document = potstill("compare", finished, "--by", solved, "--json").json["strata"]
    [(name, strata)] = document.items()
    assert name == f"solved by {finished}:untrained"
    assert strata[0]["stratum"] in ("0 of 2", "1 of 2", "2 of 2")
    report = tmp_path / "report.html"
    assert potstill("report", finished, "--by", solved, "--out", report).code == 0
    assert "By solved by" in report.read_text()
    outcome = potstill("compare", finished, "--by", f"solved={finished}")
    assert outcome.code == 2 and "names 2 evaluations" in outcome.err


def test_a_reference_on_other_problems_is_refused_before_anything_is_measured(
    finished: Path, here: Path, potstill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "load_model", None)
    words = ["evaluate", "--model", "world:student", "--problems", "train.jsonl"]
    outcome = potstill(*words, "--by", f"solved={finished}:untrained")
    assert outcome.code == 2 and "it was asked none of these problems" in outcome.err


def test_strata_of_several_seeds_are_refused(finished: Path, potstill) -> None:
    outcome = potstill("compare", finished, finished, "--over-seeds", "--by", "level")
    assert outcome.code == 2 and "--by with --over-seeds" in outcome.err
