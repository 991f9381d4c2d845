"""Tables: results without rows, numbers that are codes, and the schema that a prompt shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_commands import fault_cases

from potstill.data import problems
from potstill.records import Problem
from potstill.runs.sources import pose_all
from potstill.verifiers.sql import results, schema, verifier

TABLE = "CREATE TABLE t (id INTEGER, zip TEXT); INSERT INTO t VALUES (1, '02134'), (2, '2134');"


def judged(gold: str, query: str) -> tuple[str, str]:
    problem = Problem("p", "?", gold, "table", table=TABLE)
    verdict = verifier.judge(problem, f"```sql\n{query}\n```")
    return verdict.status, verdict.reason


@pytest.mark.parametrize(
    "folder", [f for f in fault_cases("judge") if "sql" in f.name], ids=lambda f: f.name
)
def test_a_case_is_judged_as_expected(folder: Path) -> None:
    for item in json.loads((folder / "expected.json").read_text("utf-8"))["expected"]:
        problem = Problem("p", "?", item["gold"], item["kind"], table=item["table"])
        assert verifier.judge(problem, item["text"]).status in item["want"].split("|"), item


def test_no_rows_are_right_with_the_same_columns_and_told():
    gold = "SELECT id, zip FROM t WHERE id > 9"
    assert judged(gold, "SELECT ID, t.zip FROM t WHERE id > 5") == (
        "right",
        "pass: 0 rows: the gold query returns nothing",
    )
    status, reason = judged(gold, "SELECT zip, id FROM t WHERE id > 5")
    assert status == "wrong" and "(zip, id), not (id, zip)" in reason
    assert judged(gold, "SELECT id FROM t WHERE id > 5")[0] == "wrong"
    assert judged("[]", "SELECT id FROM t WHERE id > 5")[0] == "right"


def test_codes_are_no_numbers():
    assert judged("SELECT zip FROM t WHERE id = 1", "SELECT '2134'")[0] == "wrong"
    assert judged("SELECT zip FROM t WHERE id = 2", "SELECT 2134")[0] == "right"
    for text in ("02134", "+49", "1e5", "1 2", "-", ".", "", " 7"):
        assert results.normalise_cell(text) == text
    for text, number in (("0", 0), ("-3", -3), ("0.50", 0.5), (".5", 0.5), ("7", 7)):
        assert results.normalise_cell(text) == number


@pytest.mark.parametrize(
    "folder", [f for f in fault_cases("posed") if "sql" in f.name], ids=lambda f: f.name
)
def test_a_case_is_posed_as_expected(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text("utf-8"))["expected"]
    [trace] = pose_all(problems.load(str(folder / "in.jsonl")))
    assert expected["prompt_has"] in str(trace.prompt)


def test_the_prompt_shows_the_schema_and_no_rows():
    problem = Problem("p", "Which zips?", "SELECT zip FROM t", "table", table=TABLE)
    prompt = str(pose_all([problem])[0].prompt)
    assert "CREATE TABLE t (id INTEGER, zip TEXT);" in prompt and "02134" not in prompt
    assert "Which zips?" in prompt


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("name,age\nAda,36\n", 'CREATE TABLE "t" ("name" TEXT, "age" BIGINT);'),
        (
            '{"people": [{"name": "Ada", "pay": 1.5}]}',
            'CREATE TABLE "people" ("name" TEXT, "pay" DOUBLE);',
        ),
        (
            "-- rows\nCREATE TABLE a (x);INSERT INTO a VALUES (';');CREATE TABLE b (y);",
            "CREATE TABLE a (x);\nCREATE TABLE b (y);",
        ),
        ("", ""),
        ("{broken", "{broken"),
    ],
)
def test_schemas_of_every_form(table, expected):
    assert schema.schema_text(table) == expected
