"""Rows with a database and rows with a rubric become problems; failing golds are told with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.data import problems
from potstill.errors import InputError
from potstill.runs import sources

SCHEMA = (
    "CREATE TABLE pets (name TEXT, legs INT); INSERT INTO pets VALUES ('Rex', 4), ('Tweety', 2);"
)
ROWS = [
    {"question": "How many pets?", "answer": "SELECT count(*) FROM pets", "schema": SCHEMA},
    {
        "question": "Who has two legs?",
        "answer": [["Tweety"]],
        "schema": {"pets": [{"name": "Tweety", "legs": 2}]},
    },
    {
        "question": "All legs?",
        "answer": "SELECT sum(legs) FROM pets",
        "schema": [{"name": "Rex", "legs": 4}],
    },
]


def save(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_tables_come_from_a_column(tmp_path: Path) -> None:
    loaded = sources.load_problems(save(tmp_path / "sql.jsonl", ROWS[:2]))
    assert [p.kind for p in loaded] == ["table", "table"]
    assert loaded[0].table == SCHEMA
    assert json.loads(loaded[1].table or "") == ROWS[1]["schema"]
    assert loaded[1].answer == '[["Tweety"]]'
    assert problems.describe(loaded)["mapping"]["table"] == "schema"


def test_a_failing_gold_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError
    ) as raised:  # the third row's table is called `t`, as it has no name
        sources.load_problems(save(tmp_path / "sql.jsonl", ROWS))
    assert "1 of 3 gold answers in" in raised.value.found
    assert "line 3, " in raised.value.found
    assert "no such table: pets" in raised.value.found


@pytest.mark.parametrize(
    ("kind", "answer"), [("math", "x" * 400), ("number", "many"), ("regex", "("), ("format", "…")]
)
def test_every_kind_checks_its_golds(tmp_path: Path, kind: str, answer: str) -> None:
    rows: list[dict[str, object]] = [{"id": "a", "question": "?", "answer": answer}]
    with pytest.raises(InputError, match="line 1, a: "):
        sources.load_problems(save(tmp_path / "p.jsonl", rows), kind=kind)


def test_a_rubric_goes_with_its_problem(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": "Why?", "answer": "Because.", "rubric": ["says why", "is short"]},
        {"question": "How?", "answer": "", "rubric": "says how"},
    ]
    loaded = sources.load_problems(save(tmp_path / "p.jsonl", rows), kind="judge")
    assert [p.tests for p in loaded] == [("says why", "is short"), ("says how",)]
    assert [p.kind for p in loaded] == ["judge", "judge"]
