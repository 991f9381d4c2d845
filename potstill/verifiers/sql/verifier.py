"""SQL against a small database in memory: the rows of the candidate's query are compared with the gold query's.

`problem.table` is the database: SQL (CREATE, INSERT), JSON (`{"people": [{"name": "Ada"}]}`, or per table `columns` and
`rows`), or CSV, which becomes the table `t`; sqlite reads it. `problem.answer` is the gold query or its result: JSON
rows, `{"rows": …, "ordered": true}`, or one value.

Rows are compared as multisets, in order where the gold query has an ORDER BY at its top level (rows that it leaves tied
may swap places); names of columns do not count; 1, 1.0 and '1' are the same. The reason begins with the class: pass,
wrong, time, memory, runtime, syntax, refused (not read-only), no sql.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from potstill.records import Problem, Verdict
from potstill.verifiers.sql import statements
from potstill.verifiers.workers import pool

VERSION = "table@2"
QUERY_S = 2.0  # seconds of computing a query may take, gold and candidate each
LIMIT_S = 10.0  # of both together with making the tables, after which the worker dies


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the candidate's query returns the gold rows."""
    return judge_all([(problem, text)])[0]


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores."""
    return pool.judge_all("table", items, _task, _verdict, limit_s=LIMIT_S)


def gold_text(problem: Problem) -> str:
    """The gold query, or one that says the gold result; a reply that must be judged right."""
    gold = problem.answer or ""
    return f"```sql\n{gold if statements.reads(gold) else problem.solution or _literal(gold)}\n```"


def requested_engine(table: str) -> tuple[str, str]:
    """The database that a table asks for, in lower case ("" for none), and the table without the line that says so.

    A first line `-- duckdb` or `-- engine: duckdb` asks for one, and so does `"engine": "duckdb"` in a table of JSON.
    """
    first_line, _, remainder = table.lstrip().partition("\n")
    comment = re.fullmatch(
        r"--\s*(?:engine:\s*(\w+)|(duckdb|sqlite))\s*", first_line, re.IGNORECASE
    )
    if comment:
        return (comment[1] or comment[2]).lower(), remainder
    if not table.lstrip().startswith("{"):
        return "", table
    try:
        engine = json.loads(table).get("engine", "")
    except ValueError:
        return "", table  # not JSON: the worker says so when it makes the tables
    return engine.lower() if isinstance(engine, str) else "", table


def _literal(gold: str) -> str:
    try:
        data = json.loads(gold)
    except ValueError:
        data = gold.strip()
    rows = (
        data.get("rows", [])
        if isinstance(data, dict)
        else data
        if isinstance(data, list)
        else [[data]]
    )
    lines = [f"({', '.join(map(_cell, row if isinstance(row, list) else [row]))})" for row in rows]
    return f"VALUES {', '.join(lines)}" if lines else "SELECT 1 WHERE 0"


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return (
        repr(value + 0)
        if isinstance(value, int | float)
        else "'" + str(value).replace("'", "''") + "'"
    )


def _task(problem: Problem, text: str) -> Verdict | pool.Task:
    if not (problem.answer or "").strip():
        return Verdict(
            "unjudged", None, "the problem has neither a gold query nor a gold result", VERSION
        )
    engine, table = requested_engine(problem.table or "")
    if engine not in ("", "sqlite"):
        reason = f"the table asks for {engine[:40]}, and queries run in sqlite only: write the table for sqlite"
        return Verdict("unjudged", None, reason, VERSION)
    query = statements.query(text)
    if not query:
        return Verdict("unparsed", None, "no sql", VERSION)
    return table, problem.answer or "", query, str(QUERY_S)


def _verdict(_: pool.Item, task: pool.Task, reply: tuple[str, Any]) -> Verdict:
    shown, (outcome, result) = task[2][:200], reply
    if outcome != "done":
        why = str(result)
        return Verdict(
            "wrong", shown, f"{'time' if 'finish' in why else 'runtime'}: the query {why}", VERSION
        )
    kind, why = result
    if kind == "gold":
        return Verdict("unjudged", shown, f"the gold query fails: {why}"[:200], VERSION)
    return Verdict("right" if kind == "pass" else "wrong", shown, f"{kind}: {why}"[:200], VERSION)
