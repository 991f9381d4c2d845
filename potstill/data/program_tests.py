"""Programming tasks as rows that `data.rows` reads: their tests in one form each. Contests are in `contests`.

HumanEval: prompt, canonical_solution, test, entry_point. MBPP: text or prompt, code, test_list, and what to import or
set up first; its questions show the tests, as the name of the function stands nowhere else. MBPP+ has a program of many
more in test, which is run in the place of the few that are shown. With `--kind code`, also
question, tests (a list of asserts or of {"stdin": …, "stdout": …}) and solution.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from potstill.data import contests
from potstill.records import canonical

RowConverter: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]


def find_converter(columns: Collection[str], kind: str | None) -> RowConverter | None:
    """What makes rows with these columns rows of problems of the kind "code"; None where they are no known layout.

    Args:
        columns: those that every row has.
        kind: the verifier, where it is given; of another kind than "code" the rows stay as they are.
    """
    if kind not in (None, "code"):
        return None
    layouts: list[tuple[set[str], RowConverter]] = [
        ({"prompt", "test", "entry_point"}, _read_humaneval_row),
        ({"test_list", "code"}, _read_mbpp_row),
        (contests.APPS_COLUMNS, contests.read_apps_row),
        (contests.LIVECODE_COLUMNS, contests.read_livecode_row),
    ]
    if kind == "code":
        layouts.append(({"question", "tests"}, _read_plain_row))
    for layout_columns, convert in layouts:
        if layout_columns <= set(columns):
            return convert
    return None


def _read_humaneval_row(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt, solution = str(row["prompt"]), row.get("canonical_solution")
    test = {"unit": str(row["test"]), "entry": str(row["entry_point"]), "prefix": prompt}
    return {
        "id": row.get("task_id"),
        "question": prompt,
        "answer": None,
        "solution": None if solution is None else f"{prompt}{solution}",
        "tests": [canonical(test)],
    }


def _read_plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Our own columns; a solution is a program, and never a text with an answer at its end."""
    columns = {name: row.get(name) for name in ("id", "question", "solution", "tests")}
    return {**columns, "answer": None}


def _read_mbpp_row(row: Mapping[str, Any]) -> dict[str, Any]:
    asserts = [str(line) for line in row["test_list"]]
    setup = [str(line) for line in row.get("test_imports") or []]
    setup.append(str(row.get("test_setup_code") or ""))
    text = str(row.get("text") or row.get("prompt") or "")
    question = ""
    if text:
        question = "\n".join([text, "Your code should pass these tests:", "", *asserts])
    tests = [*setup, *asserts]
    if row.get("test"):
        tests = [*setup, str(row["test"])]
    return {
        "id": row.get("task_id"),
        "question": question,
        "answer": None,
        "solution": row["code"],
        "tests": [line for line in tests if line.strip()],
    }
