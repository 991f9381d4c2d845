"""Conditions on metadata, orders and ranks: what has no value is never taken for another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import Book
from hypothesis import given
from hypothesis import strategies as st

from potstill import api
from potstill.data import files, problems
from potstill.errors import ConfigError, InputError
from potstill.metadata import (
    known_metadata,
    parse_condition,
    ranks_of,
    require_metadata,
    select_problems,
)
from potstill.records import MetadataValue, Problem, blank
from potstill.traces import Session, best, by_metadata, keep, using, where


def problem(name: str, **metadata: MetadataValue) -> Problem:
    return Problem(name, "How many apples are there?", "4", "number", metadata=metadata)


EASY = problem("easy", level="Level 1", rating=800, date="2023-05-01", topic="Algebra")
HARD = problem("hard", level="Level 5", rating=1900, date="2024-02-01", topic="Geometry")
PLAIN = problem("plain")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("rating>=1000", ["hard"]),
        ("rating < 1000", ["easy"]),
        ("rating=800", ["easy"]),
        ("level>=4", ["hard"]),
        ("level==level 1", ["easy"]),
        ("topic=algebra, number theory", ["easy"]),
        ("topic!=Algebra", ["hard"]),
        ("date>2024", []),  # behind the year, as behind a day
        ("date<=2024", ["easy", "hard"]),
        ("date>=2024-02", ["hard"]),
        ("date=2024", ["hard"]),
        ("date<=2023-12-31", ["easy"]),
        ("length=5", ["easy", "hard", "plain"]),
    ],
)
def test_a_condition_holds_where_the_metadata_meet_it(condition: str, expected: list[str]) -> None:
    found = [p.id for p in (EASY, HARD, PLAIN) if parse_condition(condition).holds(p)]
    assert found == expected


@pytest.mark.parametrize("text", ["level", ">=4", "level>=", "level ~ 4", ""])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no condition"):
        parse_condition(text)


@pytest.mark.parametrize("condition", ["topic>=4", "rating<2024-01-01", "date>4"])
def test_values_without_an_order_are_refused(condition: str) -> None:
    with pytest.raises(InputError, match="no order"):
        parse_condition(condition).holds(HARD)


def test_selecting_says_what_was_left_out() -> None:
    selection = select_problems([EASY, HARD, PLAIN], ["rating>=500", "level<3"])
    assert selection.problems == [EASY] and selection.lacking == 1
    assert selection.notes == [
        "rating>=500 holds for 2 of 3 problems; 1 have no rating and are left out",
        "level<3 holds for 1 of 2 problems",
    ]
    with pytest.raises(InputError, match="no problem is left"):
        select_problems([EASY], ["rating>900"])
    with pytest.raises(ConfigError, match="'elo'") as caught:
        select_problems([EASY], ["elo>900"])
    assert list(caught.value.available) == ["level", "rating", "date", "topic", "length"]


def test_a_limit_is_of_what_a_condition_leaves(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"question": f"{n} + 1?", "answer": n + 1, "level": n % 2} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with files.skipping(False):
        loaded = problems.load(str(path), limit=3, where=["level=1"])
        assert files.notes()[0] == "Chosen from p.jsonl: level=1 holds for 4 of 8 problems."
    assert [p.metadata["level"] for p in loaded] == [1, 1, 1]
    world = api.load_problems("world:story?size=20", where="level>=7", limit=2)
    assert len(world) == 2 and all(known_metadata(t.problem)["level"] >= 7 for t in world)


def test_python_is_warned_of_problems_without_the_metadata() -> None:
    with pytest.warns(UserWarning, match="1 have no level and are left out"):
        assert len(api.load_problems([EASY, PLAIN], where="level<3")) == 1


def test_keeping_and_grouping_by_metadata() -> None:
    book, traces = Book(), [blank(p) for p in (EASY, HARD, PLAIN)]
    with using(Session(book)):
        assert keep(where("rating>=1000"), traces) == [traces[1]]
        assert [drop.reason for drop in book.drops] == [
            "its rating does not meet rating>=1000: 800",
            "no rating",
        ]
        assert book.steps[-1][:2] == ("keep", "where(rating>=1000)")
        assert len(best(lambda trace: 1, traces, by=by_metadata("topic"))) == 3


def test_ranks_are_shares_of_lower_problems() -> None:
    others = [problem("a", rating=1), problem("b", rating=2), problem("c", rating=2)]
    ranks = ranks_of("rating", [*others, problem("d", rating=9)], needed_by="the weights")
    assert ranks == {"a": 0.0, "b": 0.5, "c": 0.5, "d": 1.0}
    assert ranks_of("date", [HARD, EASY], needed_by="the weights") == {"hard": 1.0, "easy": 0.0}
    assert ranks_of("level", [HARD], needed_by="the weights") == {"hard": 0.5}


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_the_mean_rank_is_a_half_whatever_the_scale(ratings: list[int]) -> None:
    ranked = [problem(str(number), rating=rating) for number, rating in enumerate(ratings)]
    ranks = ranks_of("rating", ranked, needed_by="the weights")
    assert sum(ranks.values()) / len(ranks) == pytest.approx(0.5)


def test_missing_metadata_are_told_before_anything_is_asked() -> None:
    with pytest.raises(
        InputError, match=r"the weights need the rating .* 1 of 3 have none"
    ) as caught:
        require_metadata(
            ["level", "rating"], [EASY, HARD, problem("x", level=3)], needed_by="the weights"
        )
    assert "--map rating=COLUMN" in caught.value.fix
    with pytest.raises(InputError, match="problem 'hard' has 'Geometry'"):
        ranks_of("topic", [problem("t", topic=3), HARD], needed_by="the weights")
    with pytest.raises(InputError, match="has '2024-02-01'"):
        ranks_of("date", [problem("y", date=2023), HARD], needed_by="the weights")
