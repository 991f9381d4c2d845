"""Rows of APPS, TACO and LiveCodeBench become programming problems; packed tests are read, and nothing is unpickled."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from potstill import verifiers
from potstill.data import files, problems
from potstill.errors import InputError
from potstill.records import Problem
from potstill.verifiers.code import sandbox
from potstill.verifiers.code import verifier as code

SUM = "print(sum(map(int, input().split())))"
STDIN = {"inputs": ["1 2\n", ["2 3", "4"]], "outputs": ["3\n", ["5"]]}
APPS = {
    "problem_id": 7,
    "question": "Add.",
    "input_output": json.dumps(STDIN),
    "solutions": json.dumps([SUM, "x"]),
}
CALLED = {"fn_name": "pair", "inputs": [[1, "a"], [2, "b"]], "outputs": [[[1, "a"]], [2, "b"]]}
PAIR = "def pair(n, s):\n    return n, s"
LIVECODE = {
    "question_id": "abc",
    "question_content": "Add.",
    "starter_code": "",
    "metadata": "{}",
    "public_test_cases": json.dumps([{"input": "1 2", "output": "3", "testtype": "stdin"}]),
}


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def load(tmp_path: Path, *rows: dict[str, Any], **more: Any) -> list[Problem]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return problems.load(str(path), **more)


def statuses(problem: Problem, *programs: str) -> list[str]:
    if all(map(sandbox.sandbox_obstacle, sandbox.KINDS)):
        pytest.skip(
            "; ".join(f"{kind}: {sandbox.sandbox_obstacle(kind)}" for kind in sandbox.KINDS)
        )
    return [
        v.status
        for v in verifiers.judge([(problem, f"```python\n{program}\n```") for program in programs])
    ]


def test_apps_standard_input(tmp_path: Path) -> None:
    [problem] = load(tmp_path, APPS)
    assert (problem.kind, problem.id, problem.solution, problem.answer) == ("code", "7", SUM, None)
    assert problem.question.startswith("Add.\n\n") and "standard input" in problem.question
    cases = code.read_tests(problem.tests, sandbox.Limits())
    assert [(case.stdin, case.stdout) for case in cases] == [("1 2\n", "3\n"), ("2 3\n4", "5")]
    assert statuses(problem, SUM, "print(3)") == ["right", "wrong"]
    assert load(tmp_path, APPS, mapping={"solution": ""})[0].solution is None


@pytest.mark.slow
def test_apps_functions_and_methods(tmp_path: Path) -> None:
    [plain] = load(
        tmp_path, {**APPS, "input_output": CALLED, "solutions": ""}
    )  # others have objects
    assert plain.solution is None and "as the function `pair`" in plain.question
    assert statuses(plain, PAIR, "def pair(n, s):\n    return s, n", "def other(): 1") == [
        "right",
        "wrong",
        "wrong",
    ]
    starter = "class Solution:\n    def pair(self, n, s):\n"
    [method] = load(tmp_path, {**APPS, "input_output": json.dumps(CALLED), "starter_code": starter})
    assert starter.rstrip() in method.question
    assert statuses(method, f"{starter}        return [n, s]", f"{starter}        return n") == [
        "right",
        "wrong",
    ]


@pytest.mark.slow
def test_livecodebench_with_hidden_tests(tmp_path: Path) -> None:
    hidden = json.dumps([{"input": "2 2", "output": "4", "testtype": "stdin"}])
    for written in (hidden, packed(hidden)):
        [problem] = load(tmp_path, {**LIVECODE, "private_test_cases": written})
        cases = code.read_tests(problem.tests, sandbox.Limits())
        assert [(case.stdin, case.stdout) for case in cases] == [("1 2", "3"), ("2 2", "4")]
    assert not verifiers.has_gold(problem)
    assert statuses(problem, SUM, "print(3)") == ["right", "wrong"]


def test_livecodebench_functions_take_one_value_a_line(tmp_path: Path) -> None:
    starter = "class Solution:\n    def pair(self, n, s):\n        "
    tests = json.dumps([{"input": '1\n"a"', "output": '[1, "a"]', "testtype": "functional"}])
    row = {
        **LIVECODE,
        "starter_code": starter,
        "metadata": '{"func_name": "pair"}',
        "public_test_cases": tests,
    }
    [problem] = load(tmp_path, row)
    assert statuses(problem, f"{starter}return n, s", f"{starter}return [[1, 'a']]") == [
        "right",
        "wrong",
    ]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    for value in (Trap(tmp_path / "sprung"), 1, ["[]", "[1]"]):
        with pytest.raises(InputError, match="line 1: "):
            load(tmp_path, {**LIVECODE, "private_test_cases": packed(value)})
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"input_output": ""},
        {"input_output": "[]"},
        {"input_output": "[" * 100_000},
        {"input_output": {"inputs": ["1"], "outputs": []}},
        {"input_output": {"inputs": ["1"], "outputs": ["1", "2"]}},
        {"input_output": {"inputs": [1], "outputs": [1], "fn_name": "f"}},
        {"input_output": {"inputs": [[1]], "outputs": [1], "fn_name": "f(1) or g"}},
        {"input_output": '{"inputs": [[NaN]], "outputs": [1], "fn_name": "f"}'},
        {"solutions": "[1"},
    ],
)
def test_bad_rows_are_told_or_left_out(tmp_path: Path, change: dict[str, Any]) -> None:
    bad = {**APPS, "problem_id": 8, **change}
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
        load(tmp_path, APPS, bad)
    with files.skipping(True):
        assert [problem.id for problem in load(tmp_path, APPS, bad)] == ["7"]
        assert [row.where for row in files.skipped()] == ["line 2"]


@pytest.mark.parametrize("tests", ["{", "[1]", "{}", '[{"input": "1"}]'])
@pytest.mark.parametrize("column", ["public_test_cases", "private_test_cases"])
def test_bad_rows_of_livecodebench(tmp_path: Path, column: str, tests: str) -> None:
    with pytest.raises(InputError, match="line 1: "):
        load(tmp_path, {**LIVECODE, column: tests})
