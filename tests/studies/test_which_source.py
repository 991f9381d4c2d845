"""which-source: what its page says of made-up figures; the study itself in small is long."""

from __future__ import annotations

import pytest

from potstill.records import Problem, Trace, no_progress
from potstill.studies import which_source
from potstill.studies.study import StudySettings, run_in_folder
from potstill.studies.which_source import (
    LONGER,
    MIXED,
    SIZES,
    SOURCES,
    STUDENTS,
    describe_study,
    source_figures,
)

PROBLEMS = [f"p{number}" for number in range(40)]


def arm_runs(right: int, seeds: int = 3) -> list[dict]:
    """An arm that answers the first so many problems right, with every seed."""
    shares = [float(number < right) for number in range(len(PROBLEMS))]
    run = {"problems": PROBLEMS, "shares": shares, "tokens": 50, "calls": {}, "written_tokens": {}}
    return [run] * seeds


def figures(*, long_right: int = 20, long_perplexity: float = 2.0) -> dict:
    """Figures of both students: all arms at 20 of 40, but for the source long, whose lengths are spread more widely."""
    scores = {**dict.fromkeys(["untrained", *SOURCES, MIXED, LONGER], 20), "long": long_right}
    runs = {name: arm_runs(value) for name, value in scores.items()}
    sources = {
        "long": [{"perplexity": long_perplexity, "words": 60.0, "spread": 0.4}] * 3,
        "brief": [{"perplexity": 3.0, "words": 30.0, "spread": 0.2}] * 3,
    }
    return {
        "arms": dict.fromkeys(STUDENTS, runs),
        "sources": dict.fromkeys(STUDENTS, sources),
        "seeds": 3,
        **SIZES,
    }


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ({}, ["lowest perplexity chooses `long`, and neither source is shown to teach more."]),
        ({"long_right": 35}, ["perplexity chooses `long`, which teaches more.", "`long` is above"]),
        ({"long_right": 5}, ["spread of lengths chooses `long`, which teaches less."]),
        ({"long_right": 5, "long_perplexity": 4.0}, ["chooses `brief`, which teaches more."]),
    ],
)
def test_the_finding_is_chosen_by_the_intervals(settings, sentences):
    page = describe_study(figures(**settings))
    assert all(sentence in page.finding for sentence in sentences)
    assert "whose own style is `brief`" in page.finding
    assert len(page.tables["Sources"]) == len(STUDENTS) * len(SOURCES)
    assert "world:oracle" in page.setup and "{" not in page.setup


def test_a_source_is_known_by_its_perplexity_its_length_and_their_spread():
    problem = Problem("p", "?", "1")
    rows = []
    for text, perplexity in (("one two", 2.0), ("one two three four", 4.0)):
        rows.append(Trace(problem, "?", text, operator="", scores={"perplexity": perplexity}))
    found = source_figures(rows)
    assert found == {"perplexity": 3.0, "words": 3.0, "spread": pytest.approx(1 / 3)}


@pytest.mark.slow
@pytest.mark.long
def test_the_study_in_small(tmp_path):
    small = {"train": 12, "test": 4, "n": 1, "steps": 2, "longer_steps": 3}
    settings = StudySettings(tmp_path, 1, small, dict(which_source.ROLES))
    outcome = run_in_folder("which-source", which_source, settings, no_progress)
    page = describe_study(outcome)
    for student in STUDENTS:
        table = {row["arm"]: row for row in page.tables[f"Arms, {student}"]}
        assert list(table) == ["untrained", *SOURCES, MIXED, LONGER]
        assert len({row["rows"] for name, row in table.items() if name != "untrained"}) == 1
    # Each student finds the texts in its own style likelier.
    for student, (_, own_style) in STUDENTS.items():
        [foreign] = set(SOURCES) - {own_style}
        sources = outcome["sources"][student]
        assert sources[own_style][0]["perplexity"] < sources[foreign][0]["perplexity"]
