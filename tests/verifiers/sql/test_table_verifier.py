"""SQL: where the query stands, what it may do, and when two results are the same."""

from __future__ import annotations

import json
import time

import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers.sql import results, statements, verifier

SCHEMA = """
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, pay REAL, city TEXT);
INSERT INTO people VALUES (1,'Ada',36,10.5,'London'),(2,'Bob',41,0.1,NULL),
  (3,'Cleo',36,0.2,'Rome'),(4,'Dan',7,NULL,'Rome');
"""
ROWS = [
    {"id": 1, "name": "Ada", "age": 36},
    {"id": 2, "name": "Bob", "age": 41},
    {"id": 3, "name": "Cleo", "age": 36},
]
CSV = "name,age\nAda,36\nBob,41\n"


def judged(gold: str, query: str, schema: str = SCHEMA) -> tuple[str, str]:
    """Status and class."""
    found = verifier.judge(Problem("p", "?", gold, "table", table=schema), f"```sql\n{query}\n```")
    assert found.verifier == verifier.VERSION
    return found.status, found.reason.split(":")[0]


@pytest.mark.parametrize(
    ("gold", "query"),
    [
        ("SELECT name FROM people", "SELECT name FROM people ORDER BY age, name DESC"),
        ("SELECT name, age FROM people", "select p.name AS n, p.age as years from people p -- all"),
        ("SELECT 0.1 + 0.2", "SELECT 0.3"),
        ("SELECT count(*) FROM people", "SELECT 4.0"),
        ("SELECT age FROM people", "SELECT CAST(age AS TEXT) FROM people"),
        ("SELECT sum(pay) FROM people WHERE id > 1", "SELECT 0.3"),
        ("SELECT city FROM people WHERE id = 2", "SELECT NULL"),
        ("SELECT name FROM people ORDER BY age", "SELECT name FROM people ORDER BY age, name DESC"),
        (
            "SELECT name, age FROM people ORDER BY age",
            "SELECT name, age FROM people ORDER BY age, name DESC",
        ),
        ("SELECT age FROM people ORDER BY 1 DESC", "SELECT age FROM people ORDER BY age DESC"),
        ("SELECT name FROM (SELECT * FROM people ORDER BY name DESC)", "SELECT name FROM people"),
        (
            "WITH o AS (SELECT * FROM people) SELECT name FROM o WHERE age > 7",
            "SELECT name FROM people WHERE age > 7;",
        ),
        ("SELECT name FROM people WHERE age > 99", "SELECT p.Name FROM people p WHERE 0"),
        (
            '[["Ada", 36], ["Cleo", 36]]',
            "SELECT name, age FROM people WHERE age = 36 ORDER BY name DESC",
        ),
        ("4", "SELECT count(*) FROM people"),
        ("Ada", "SELECT name FROM people WHERE id = 1"),
        (
            '{"rows": [["Dan"], ["Cleo"]], "ordered": true}',
            "SELECT name FROM people WHERE city='Rome' ORDER BY id DESC",
        ),
        ("SELECT name FROM people WHERE id=1", "SELECT 1; SELECT name FROM people WHERE id = 1;"),
        (
            "SELECT 5",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT max(i) FROM n",
        ),
    ],
)
def test_the_same_result_passes(gold: str, query: str) -> None:
    if (
        gold == "SELECT name FROM people ORDER BY age"
    ):  # the key is no column of the result: ties can't be told
        assert judged(gold, query) == ("wrong", "wrong")
    else:
        assert judged(gold, query) == ("right", "pass")


@pytest.mark.parametrize(
    ("gold", "query", "kind"),
    [
        ("SELECT name FROM people", "SELECT name FROM people WHERE id < 4", "wrong"),
        ("SELECT city FROM people", "SELECT DISTINCT city FROM people", "wrong"),
        ("SELECT name, age FROM people", "SELECT age, name FROM people", "wrong"),
        ("SELECT name FROM people", "SELECT name, age FROM people", "wrong"),
        (
            "SELECT name FROM people ORDER BY name",
            "SELECT name FROM people ORDER BY name DESC",
            "wrong",
        ),
        (
            "SELECT name, age FROM people ORDER BY age",
            "SELECT name, age FROM people ORDER BY age DESC",
            "wrong",
        ),
        ("SELECT 9007199254740993", "SELECT 9007199254740992", "wrong"),
        ("SELECT NULL", "SELECT 0", "wrong"),
        ("SELECT ''", "SELECT NULL", "wrong"),
        ("SELECT 1", "SELECT 1.001", "wrong"),
        ("SELECT 1", "SELEC 1", "syntax"),
        ("SELECT 1", "SELECT (1", "syntax"),
        ("SELECT 1", "SELECT nix FROM people", "runtime"),
        ("SELECT 1", "SELECT * FROM nowhere", "runtime"),
        ("SELECT 1", "DROP TABLE people", "refused"),
        ("SELECT 1", "DELETE FROM people; SELECT 1", "refused"),
        ("SELECT 1", "WITH x AS (SELECT 1) DELETE FROM people", "refused"),
        ("SELECT 1", "WITH x AS (SELECT 1) INSERT INTO people(id) SELECT 9", "refused"),
        ("SELECT 1", "ATTACH '/etc/passwd' AS x", "refused"),
        ("SELECT 1", "PRAGMA table_info(people)", "refused"),
        ("SELECT 1", "SELECT load_extension('x')", "refused"),
        ("SELECT 1", "SELECT * FROM pragma_database_list", "refused"),
        ("SELECT 1", "SELECT random()", "refused"),
        ("SELECT 1", "SELECT zeroblob(100000000)", "memory"),
        ("SELECT 1", "SELECT '" + "x" * 30_000 + "'", "refused"),
    ],
)
def test_each_failure_has_its_class(gold: str, query: str, kind: str) -> None:
    assert judged(gold, query) == ("wrong", kind)
    assert judged("SELECT count(*) FROM people", "SELECT 4") == ("right", "pass"), (
        "the tables are as they were"
    )


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"


@pytest.mark.parametrize("what", ["count(*)", "i", "group_concat(i)"])
@pytest.mark.slow
def test_a_query_without_end_is_stopped(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "QUERY_S", 0.3)
    start = time.monotonic()
    status, kind = judged("SELECT 1", ENDLESS.format(what))
    assert (status, kind) in (("wrong", "time"), ("wrong", "wrong"), ("wrong", "memory"))
    assert what != "count(*)" or kind == "time"
    assert time.monotonic() - start < 10
    assert judged("SELECT 2", "SELECT 1+1") == ("right", "pass")


@pytest.mark.slow
def test_what_sqlite_does_not_look_up_from_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "QUERY_S", 1e9)
    monkeypatch.setattr(verifier, "LIMIT_S", 0.5)
    assert judged("SELECT 1", ENDLESS.format("count(*)")) == ("wrong", "time")


def test_a_bad_gold_query_is_unjudged_and_found_before_a_run() -> None:
    assert judged("SELECT nix", "SELECT 1") == ("unjudged", "the gold query fails")
    good = Problem("g", "?", "SELECT name FROM people ORDER BY age", "table", table=SCHEMA)
    written = Problem("w", "?", '[["it\'s", null, 1.5], ["b", 2, -3]]', "table", table=SCHEMA)
    bad = Problem("b", "?", "SELECT name FROM nobody", "table", table=SCHEMA)
    files = Problem("f", "?", "SELECT 1", "table", table="CREATE TABLE a(b); ATTACH '/tmp/x' AS y;")
    failing = verifiers.check_gold([good, written, bad, files])
    assert [(p.id, v.status) for p, v in failing] == [("b", "unjudged"), ("f", "unjudged")]
    assert (
        verifier.judge(Problem("n", "?", None, "table"), "```sql\nSELECT 1\n```").status
        == "unjudged"
    )


@pytest.mark.parametrize(
    "schema",
    [
        json.dumps({"people": ROWS}),
        json.dumps(
            {
                "tables": {
                    "people": {
                        "columns": ["id", "name", "age"],
                        "rows": [list(r.values()) for r in ROWS],
                    }
                }
            }
        ),
        json.dumps(ROWS).replace("people", "t"),
    ],
)
def test_tables_of_json(schema: str) -> None:
    name = "people" if "people" in schema else "t"
    assert judged("41", f"SELECT max(age) FROM {name}", schema) == ("right", "pass")
    assert judged('"Bob"', f"SELECT name FROM {name} WHERE age > 40", schema) == ("right", "pass")


def test_a_table_of_csv() -> None:
    assert judged("SELECT 77", "SELECT sum(age) FROM t", CSV) == ("right", "pass")
    hostile = 'a"b; DROP,c\n1,2\n'
    assert judged("[[1, 2]]", "SELECT * FROM t", hostile) == ("right", "pass")


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Try\n```sql\nSELECT 0\n```\nNo:\n```sql\nSELECT 1;\n```\nDone.", "SELECT 1;"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("```python\nprint(1)\n```\n```sql\nSELECT 1\n```\n```text\nSELECT 9\n```", "SELECT 1"),
        (
            "<think>```sql\nSELECT 0\n```</think>So:\nSELECT a\nFROM b;\n\nThat is it.",
            "SELECT a\nFROM b",
        ),
        ("<answer>SELECT 1</answer>", "SELECT 1"),
        (
            "The query:\n\nWITH x AS (\nSELECT 1)\nSELECT * FROM x",
            "WITH x AS (\nSELECT 1)\nSELECT * FROM x",
        ),
        ("```sql\nSELECT 1", "SELECT 1"),
        ("I would select the right rows with care.", ""),
        ("", ""),
        ("<think>```sql\nSELECT 3\n```</think>", ""),
    ],
)
def test_where_the_query_stands(text: str, query: str) -> None:
    assert statements.extract_query(text) == query
    if not query:
        assert verifier.judge(Problem("p", "?", "SELECT 1", "table"), text).reason == "no sql"


def test_order_at_the_top_level_only() -> None:
    assert statements.order_terms("SELECT a FROM (SELECT a FROM b ORDER BY a)") is None
    assert statements.order_terms("SELECT a FROM b -- ORDER BY a") is None
    assert statements.order_terms("SELECT 'ORDER BY' FROM b") is None
    assert statements.order_terms(
        'SELECT a FROM b ORDER BY b."Name" DESC NULLS LAST, count(*), 2 LIMIT 3'
    ) == [
        "name",
        "count(*)",
        "2",
    ]
    assert statements.split_statements("SELECT ';' /* ; */; ; SELECT 2") == [
        "SELECT ';'",
        "SELECT 2",
    ]


def test_near_rows_match_whatever_their_order() -> None:
    gold = [((i + 1) / 7, "x") for i in range(200)]
    found = [((i + 1) / 7 * (1 + 1e-7), "x") for i in reversed(range(200))]
    assert results.find_difference(gold, found, None, ordered=False) == ""
    assert (
        results.find_difference(gold, [(0.5, "x"), *found[1:]], None, ordered=False) == "other rows"
    )
    assert results.find_difference(gold, found, None, ordered=True) == "the rows in another order"


@pytest.mark.parametrize(
    "text",
    [
        "```sql\n" * 50_000,
        "SELECT\n" * 100_000,
        "(" * 500_000,
        "'" * 500_000,
        "```sql\n" + "(" * 19_000,
        "-- \n" * 99_999,
    ],
)
def test_hostile_replies_cost_no_time(text: str) -> None:
    start = time.process_time()
    assert verifier.judge(Problem("p", "?", "SELECT 1", "table", table=SCHEMA), text).status in (
        "wrong",
        "unparsed",
    )
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "schema",
    [
        "-- duckdb\n" + SCHEMA,
        "-- engine: DuckDB\n" + SCHEMA,
        json.dumps({"engine": "duckdb", "people": ROWS}),
    ],
)
def test_a_table_for_another_engine_is_unjudged_and_says_so(schema: str) -> None:
    problem = Problem("p", "?", "SELECT 1", "table", table=schema)
    verdict = verifier.judge(problem, "```sql\nSELECT 1\n```")
    assert verdict.status == "unjudged"
    assert "asks for duckdb, and queries run in sqlite only" in verdict.reason
    [(_, gold_verdict)] = verifiers.check_gold([problem])
    assert gold_verdict == verdict


@pytest.mark.parametrize(
    "schema",
    ["-- sqlite\n" + SCHEMA, json.dumps({"engine": "sqlite", "people": ROWS})],
)
def test_a_table_may_name_sqlite(schema: str) -> None:
    assert judged("41", "SELECT max(age) FROM people", schema) == ("right", "pass")


def test_a_table_of_json_may_be_called_engine() -> None:
    schema = json.dumps({"engine": [{"power": 3}]})
    assert judged("3", "SELECT power FROM engine", schema) == ("right", "pass")
