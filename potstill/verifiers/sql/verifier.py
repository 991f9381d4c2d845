"""SQL against a small database in memory: the rows of the candidate's query are compared with the gold query's.

`problem.table` is the database: SQL (CREATE, INSERT), JSON (`{"people": [{"name": "Ada"}]}`, or per table `columns` and
`rows`), or CSV, which becomes the table `t`; sqlite reads it. `problem.answer` is the gold query or its result: JSON
rows, `{"rows": …, "ordered": true}`, or one value.

Rows are compared as multisets, in order where the gold query has an ORDER BY at its top level (rows that it leaves tied
may swap places, where the columns that it orders by are among those it returns); names of columns count only where both
results have no rows, as any query without rows would be right otherwise; 1, 1.0 and '1' are the same, '02134' and 2134
are not. The reason begins with the class: pass, wrong, time, memory, runtime, syntax, refused (not read-only), no sql.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from potstill.records import Problem, Status, Verdict
from potstill.verifiers.sql import statements
from potstill.verifiers.sql.execute import parse_written_rows
from potstill.verifiers.sql.similarity import QuerySimilarity, compare_queries
from potstill.verifiers.workers import pool

VERSION = "table@4"
_ENGINE_COMMENT = re.compile(r"--\s*(?:engine:\s*(\w+)|(duckdb|sqlite))\s*", re.IGNORECASE)
QUERY_S = 2.0  # seconds of computing a query may take, gold and candidate each
LIMIT_S = 10.0  # of both together with making the tables, after which the worker dies


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the candidate's query returns the gold rows."""
    return judge_all([(problem, text)])[0]


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores."""
    return pool.judge_all("table", items, _prepare_task, _verdict_of_reply, limit_s=LIMIT_S)


def read(problem: Problem, text: str) -> str | None:
    """Return the text's query; nothing is run."""
    return statements.extract_query(text) or None


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two queries are one text, or return the same rows."""
    return equal_all([(problem, first, second)])[0]


def equal_all(items: Sequence[tuple[Problem, str, str]]) -> list[bool]:
    """Compare many pairs of queries at once, on all cores."""
    tasks: list[pool.Task] = []
    for problem, first, second in items:
        engine, table = requested_engine(problem.table or "")
        if engine in ("", "sqlite") and first.split() != second.split():
            tasks.append((table, first, second, str(QUERY_S)))
    tasks = list(dict.fromkeys(tasks))
    replies = pool.ask("table", tasks, limit_s=LIMIT_S) if tasks else []
    same_rows = set()
    for task, (outcome, result) in zip(tasks, replies, strict=True):
        if outcome == "done" and result[0] == "pass":
            same_rows.add(task[:3])
    compared: list[bool] = []
    for problem, first, second in items:
        table = requested_engine(problem.table or "")[1]
        compared.append(first.split() == second.split() or (table, first, second) in same_rows)
    return compared


def show_all(items: Sequence[tuple[Problem, str]]) -> list[tuple[str, str]]:
    """Run many queries at once, each on its problem's table: ("pass", its rows as lines), or how it failed and why."""
    tasks: list[pool.Task] = []
    for problem, query in items:
        tasks.append((requested_engine(problem.table or "")[1], query, str(QUERY_S)))
    shown: list[tuple[str, str]] = []
    for outcome, result in pool.ask("query", tasks, limit_s=LIMIT_S):
        if outcome == "done":
            shown.append((str(result[0]), str(result[1])))
        else:
            shown.append(("time" if "finish" in str(result) else "runtime", f"the query {result}"))
    return shown


def gold_text(problem: Problem) -> str:
    """Return a reply with the gold query, or with one that says the gold result."""
    query = gold_query(problem) or _query_of_written_rows(problem.answer or "")
    return f"```sql\n{query}\n```"


def gold_query(problem: Problem) -> str:
    """Return the problem's answer where it is a query, else its solution, or ""."""
    answer = problem.answer or ""
    if statements.begins_as_query(answer):
        return answer
    return problem.solution or ""


def compare_with_gold(problem: Problem, text: str) -> QuerySimilarity:
    """Say how alike a text's query and the gold one are; not at all where one is missing."""
    if problem.kind != "table":
        return QuerySimilarity()
    return compare_queries(gold_query(problem), statements.extract_query(text))


def requested_engine(table: str) -> tuple[str, str]:
    """Return the database that a table asks for, in lower case ("" for none), and the table without that line.

    A first line `-- duckdb` or `-- engine: duckdb` asks for one, and so does `"engine": "duckdb"` in a table of JSON.
    """
    first_line, _, following_lines = table.lstrip().partition("\n")
    comment = _ENGINE_COMMENT.fullmatch(first_line)
    if comment:
        return (comment[1] or comment[2]).lower(), following_lines
    if not table.lstrip().startswith("{"):
        return "", table
    try:
        engine = json.loads(table).get("engine", "")
    except ValueError:
        return "", table  # not JSON: the worker says so when it makes the tables
    if not isinstance(engine, str):
        return "", table  # a table of this name
    return engine.lower(), table


def _query_of_written_rows(gold: str) -> str:
    rows, _ = parse_written_rows(gold)
    lines: list[str] = []
    for row in rows:
        cells = row if isinstance(row, list) else [row]
        lines.append(f"({', '.join(_sql_literal(cell) for cell in cells)})")
    return f"VALUES {', '.join(lines)}" if lines else "SELECT 1 WHERE 0"


def _sql_literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int | float):
        return repr(value + 0)  # true is 1
    return "'" + str(value).replace("'", "''") + "'"


def _prepare_task(problem: Problem, text: str) -> Verdict | pool.Task:
    if not (problem.answer or "").strip():
        return Verdict(
            "unjudged", None, "the problem has neither a gold query nor a gold result", VERSION
        )
    engine, table = requested_engine(problem.table or "")
    if engine not in ("", "sqlite"):
        reason = f"the table asks for {engine[:40]}, and queries run in sqlite only: write the table for sqlite"
        return Verdict("unjudged", None, reason, VERSION)
    query = statements.extract_query(text)
    if not query:
        return Verdict("unparsed", None, "no sql", VERSION)
    return table, problem.answer or "", query, str(QUERY_S)


def _verdict_of_reply(_: pool.Item, task: pool.Task, reply: pool.Reply) -> Verdict:
    query = task[2][:200]
    if reply[0] != "done":
        reason = str(reply[1])
        outcome = "time" if "finish" in reason else "runtime"
        return Verdict("wrong", query, f"{outcome}: the query {reason}", VERSION)
    outcome, reason = reply[1]
    if outcome == "gold":
        return Verdict("unjudged", query, f"the gold query fails: {reason}"[:200], VERSION)
    status: Status = "right" if outcome == "pass" else "wrong"
    return Verdict(status, query, f"{outcome}: {reason}"[:200], VERSION)
