"""Strata: which problems belong together, their scores equal to those of the problems alone, and what is refused."""

from __future__ import annotations

import pytest

from potstill.errors import ConfigError
from potstill.evaluation.compare import compare
from potstill.evaluation.metrics import average
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.evaluation.strata import (
    label_values,
    mark_solved,
    score_strata,
    strata_names,
    strata_table,
    strata_to_json,
    stratify,
)
from potstill.records import MetadataValue


def evaluation(name: str, rights: dict[str, int], level: dict[str, MetadataValue], task: str = "t"):
    rows = []
    for problem, right in rights.items():
        answers = tuple(Answer("right" if index < right else "wrong") for index in range(4))
        metadata = {"level": level[problem]} if problem in level else {}
        rows.append(Row(problem, answers, metadata={"length": 5, **metadata} if metadata else {}))
    return Evaluation(name, tuple(rows), Fingerprint({"problems": task}, {}))


LEVELS: dict[str, MetadataValue] = {"a": "Level 10", "b": "Level 2", "c": "Level 10"}
BASE = evaluation("base", {"a": 1, "b": 4, "c": 2, "d": 0}, LEVELS)
ARM = evaluation("arm", {"a": 3, "b": 4, "c": 3, "d": 1}, LEVELS)


def test_scores_of_a_stratum_are_those_of_its_problems_alone():
    scores = score_strata([BASE, ARM], "level", base=BASE)
    assert [(s.stratum, s.evaluation.name) for s in scores] == [
        *(("Level 2", "base"), ("Level 2", "arm")),
        *(("Level 10", "base"), ("Level 10", "arm")),
        *(("no level", "base"), ("no level", "arm")),
    ]
    alone = evaluation("arm", {"a": 3, "c": 3}, LEVELS)
    base_alone = evaluation("base", {"a": 1, "c": 2}, LEVELS)
    assert average(scores[3].evaluation) == average(alone)
    assert scores[3].comparison == compare(alone, base_alone) and scores[2].comparison is None


def test_the_table_has_counts_and_intervals_beside_the_shares():
    rows = strata_table([BASE, ARM], "level", base=BASE)
    assert (rows[3]["level"], rows[3]["problems"], rows[3]["right"]) == ("Level 10", "2", "6 of 8")
    assert rows[3]["avg@4"].startswith("75.0 % [") and rows[3]["vs base"].startswith("+37.5 [")
    assert rows[2]["vs base"] == "–" and "vs base" not in strata_table([ARM], "level")[0]
    json_rows = strata_to_json([BASE, ARM], "level", base=BASE)
    assert (json_rows[3]["stratum"], json_rows[3]["right"]) == ("Level 10", 6)
    assert "comparison" not in json_rows[2] and json_rows[3]["comparison"]["difference"] == 0.375


def test_an_arm_that_was_asked_something_else_is_not_compared():
    other = evaluation("other", {"a": 4, "b": 4}, LEVELS, task="u")
    scores = score_strata([BASE, other], "level", base=BASE)
    assert all(s.comparison is None for s in scores)
    assert [s.stratum for s in scores if s.evaluation.name == "other"] == ["Level 2", "Level 10"]


def test_metadata_that_no_problem_has_are_refused():
    with pytest.raises(ConfigError, match="'rating'") as caught:
        stratify([BASE], "rating")
    assert list(caught.value.available) == ["length", "level"]
    assert strata_names([BASE, ARM]) == ["level"]


def test_problems_are_parted_by_how_often_another_evaluation_solved_them():
    teacher = evaluation("teacher", {"a": 0, "b": 4, "c": 1}, {})
    marked = [mark_solved(BASE, teacher), mark_solved(ARM, teacher)]
    scores = score_strata(marked, "solved by teacher", base=marked[0])
    assert [(s.stratum, [row.problem for row in s.evaluation.rows]) for s in scores[1::2]] == [
        ("0 of 4", ["a"]),
        ("1 to 3 of 4", ["c"]),
        ("4 of 4", ["b"]),
        ("not asked", ["d"]),
    ]
    assert BASE.rows[0].metadata == {
        "length": 5,
        "level": "Level 10",
    }  # what was given is as it was


def labels(*values: MetadataValue) -> dict[str, int]:
    """The label of each stratum with how many of the values are in it."""
    named = label_values({str(number): value for number, value in enumerate(values)})
    counts: dict[str, int] = {}
    for label in named.values():
        counts[label] = counts.get(label, 0) + 1
    assert sum(counts.values()) == len(values)
    return counts


def test_many_numbers_are_bands_of_a_quarter_each():
    assert labels(*range(900, 1300, 25)) == dict.fromkeys(
        ("900 to 975", "1,000 to 1,075", "1,100 to 1,175", "1,200 to 1,275"), 4
    )
    # Equal numbers stand in one band, however many there are.
    crowded = labels(*[5] * 20, *range(10, 18))
    assert crowded == {"5": 20, "10": 1, "11 to 17": 7}


def test_dates_are_years_or_the_months_of_one_year():
    months = [f"2024-{month:02}-{day:02}" for month in (3, 1) for day in range(1, 6)]
    assert labels(*months) == {"2024-01": 5, "2024-03": 5}
    assert labels("2023-05-01", *months) == {"2023": 1, "2024": 10}


def test_many_texts_are_the_most_frequent_and_the_others():
    values = [f"topic {letter}" for letter in "abcdefghij"] + ["topic a"]
    counted = labels(*values)
    assert counted["topic a"] == 2 and counted["3 others"] == 3 and len(counted) == 8
