"""Programming tasks as rows that `rows.py` reads: their tests in one form each. Contests are in `contests.py`.

HumanEval: prompt, canonical_solution, test, entry_point. MBPP: text or prompt, code, test_list, and what to import or
set up first; its questions show the tests, as the name of the function stands nowhere else. With `--kind code`, also
question, tests (a list of asserts or of {"stdin": …, "stdout": …}) and solution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from potstill.data import contests
from potstill.data.files import checked
from potstill.errors import InputError
from potstill.records import canonical

Row = tuple[str, Mapping[str, Any]]  # where it stands, columns
_HUMANEVAL = {"prompt", "test", "entry_point"}
_MBPP = {"test_list", "code"}
_PLAIN = {"question", "tests"}


def known(rows: Sequence[Row], kind: str | None, spec: str) -> tuple[Sequence[Row], str | None]:
    """The rows in plain columns and the kind "code" where all are of such a layout; else as they were."""
    if kind not in (None, "code") or not rows:
        return rows, kind
    plain = [(_PLAIN, _plain)] if kind == "code" else []
    others = ((contests.APPS, contests.apps), (contests.LIVECODE, contests.livecode))
    for columns, convert in ((_HUMANEVAL, _humaneval), (_MBPP, _mbpp), *others, *plain):
        if all(columns <= set(row) for _, row in rows):
            return list(_converted(rows, convert, spec)), "code"
    return rows, kind


def _converted(
    rows: Sequence[Row], convert: Callable[[Mapping[str, Any]], dict[str, Any]], spec: str
) -> Iterator[Row]:
    for where, row in rows:
        with checked(spec, where, row):
            try:
                yield where, convert(row)
            except InputError as error:
                raise InputError(
                    f"{spec}, {where}: {error.found}", expected=error.expected, fix=error.fix
                ) from None


def _humaneval(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt, solution = str(row["prompt"]), row.get("canonical_solution")
    test = {"unit": str(row["test"]), "entry": str(row["entry_point"]), "prefix": prompt}
    return {
        "id": row.get("task_id"),
        "question": prompt,
        "answer": None,
        "solution": None if solution is None else f"{prompt}{solution}",
        "tests": [canonical(test)],
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Our own columns; a solution is a program, and never a text with an answer at its end."""
    kept = {name: row.get(name) for name in ("id", "question", "solution", "tests")}
    return {**kept, "answer": None}


def _mbpp(row: Mapping[str, Any]) -> dict[str, Any]:
    asserts = [str(line) for line in row["test_list"]]
    setup = [str(line) for line in row.get("test_imports") or []] + [
        str(row.get("test_setup_code") or "")
    ]
    text = str(row.get("text") or row.get("prompt") or "")
    return {
        "id": row.get("task_id"),
        "question": "\n".join([text, "Your code should pass these tests:", "", *asserts])
        if text
        else "",
        "answer": None,
        "solution": row["code"],
        "tests": [line for line in (*setup, *asserts) if line.strip()],
    }
