"""Programs that were once judged otherwise than their benchmarks judge them, and kin of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_commands import fault_cases

from potstill.data import problems
from potstill.records import Problem
from potstill.verifiers.code import extract, sandbox, usual_imports
from potstill.verifiers.code import verifier as code


@pytest.fixture(scope="module", autouse=True)
def sandboxed():
    obstacles = [sandbox.sandbox_obstacle(kind) for kind in sandbox.KINDS]
    if all(obstacles):
        pytest.skip(f"no sandbox works here: {obstacles}")


def load(tmp_path: Path, row: dict, **options) -> Problem:
    path = tmp_path / "row.jsonl"
    path.write_text(json.dumps(row))
    [problem] = problems.load(str(path), **options)
    return problem


def status(problem: Problem, program: str) -> str:
    return code.judge(problem, f"```python\n{program}\n```").status


CASES = fault_cases("code")


@pytest.mark.slow
@pytest.mark.skipif(not CASES, reason="no faults/cases in the shared folder (POTSTILL_SHARED)")
@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_case_is_judged_as_expected(folder: Path) -> None:
    case = json.loads((folder / "expected.json").read_text("utf-8"))
    kind = case["args"][0] if case["args"] else None
    problem = problems.load(str(folder / "in.jsonl"), kind=kind)[0]
    answers = json.loads((folder / "answers.json").read_text("utf-8"))
    verdicts = code.judge_all([(problem, answer) for answer in answers])
    assert [verdict.status for verdict in verdicts] == case["expected"], verdicts


def test_what_a_program_uses_is_imported_and_nothing_else():
    lines = usual_imports.imports_for("h: List[int] = []\nheappush(h, math.inf)\nprint(sum(h))")
    assert "from typing import List" in lines and "from heapq import heappush" in lines
    assert "import math" in lines and "sum" not in lines and "from operator" not in lines
    exec(compile(lines, "<imports>", "exec"), {})


@pytest.mark.slow
def test_a_body_continues_the_starter_of_a_contest(tmp_path):
    row = {
        "question_id": "q",
        "question_content": "The least.",
        "starter_code": "class Solution:\n    def least(self, nums: List[int]) -> int:\n        ",
        "public_test_cases": json.dumps([{"input": "[3, 1]", "output": "1"}]),
        "metadata": json.dumps({"func_name": "least"}),
    }
    problem = load(tmp_path, row)
    assert status(problem, "return min(nums)") == "right"
    assert status(problem, "return max(nums)") == "wrong"
    whole = "class Solution:\n    def least(self, nums):\n        return reduce(min, nums)"
    assert status(problem, whole) == "right"


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("0.5", "0.50", True),
        ("1", "1.0", True),
        ("1.0", "1", True),
        ("1e2", "100.0", True),
        ("0.3333333", "0.333333333333", True),
        ("0.334", "0.333333333333", False),
        ("12345678901234567890", "12345678901234567891", False),
        ("1.2345678901234567e+19", "12345678901234567890", False),
        ("1000001", "1000000", False),
        ("007", "7", False),
        ("1e9999", "1e9998", False),
        ("nan", "nan", True),
        ("inf", "1e400", False),
        ("1_000", "1000", False),
        ("yes 2.0", "yes 2", True),
        ("0.1 0.2", "0.1", False),
    ],
)
def test_numbers_of_a_contest(printed, expected, same):
    assert code.same_output(printed, expected, 1e-6) is same


@pytest.mark.slow
def test_integers_longer_than_python_prints_by_itself(tmp_path):
    digits = "9" * 5_000
    row = {
        "question": "Echo.",
        "input_output": f'{{"fn_name": "f", "inputs": [[{digits}]], "outputs": [{digits}]}}',
        "starter_code": "",
    }
    called = load(tmp_path, row)
    assert status(called, "def f(n):\n    return int(str(n))") == "right"
    assert status(called, "def f(n):\n    return n - 1") == "wrong"


MBPP_PLUS = {
    "task_id": 1,
    "prompt": "Half of each.",
    "code": "def half(x): return [a / 2 for a in x]",
    "test_imports": [],
    "test_list": ["assert half([2]) == [1.0]"],
    "test": (
        "import numpy as np\nfrom math import inf\n"
        "def assertion(out, exp, atol):\n"
        "    if out != exp and atol != 0:\n        assert np.allclose(out, exp, rtol=1e-07, atol=atol)\n"
        "    else:\n        assert out == exp\n"
        "for x in ([2], [3, 5]):\n    assertion(half(x), [a * 0.5 for a in x], 1e-6)\n"
    ),
}


@pytest.mark.slow
def test_all_tests_of_mbpp_plus_are_run(tmp_path):
    problem = load(tmp_path, MBPP_PLUS)
    assert status(problem, MBPP_PLUS["code"]) == "right"
    assert status(problem, "def half(x): return [a / 2 + 1e-9 for a in x]") == "right"
    assert status(problem, "def half(x): return [1.0]") == "wrong"


@pytest.mark.slow
def test_tests_that_import_what_is_not_there_say_nothing_of_the_program():
    tests = ("import pandas\nassert f() == 1",)
    problem = Problem(id="p", question="?", kind="code", tests=tests)
    verdict = code.judge(problem, "```python\ndef f(): return 1\n```")
    assert verdict.status == "unjudged" and "import pandas" in verdict.reason


STOPS = "def f(x):\n    raise StopIteration"
ENDING_EARLY = {
    "filter": "assert not list(filter(lambda a: f(a) != a, [1, 2]))",
    "loop": "for a in map(f, [1]):\n    assert a == 1",
    "sum": "assert sum(f(a) for a in [1]) == 1",
    "sorted": "assert sorted(map(f, [])) == [] and all(map(f, [1]))",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDING_EARLY)
def test_a_program_that_stops_an_iteration_passes_nothing(name):
    problem = Problem(id="p", question="?", kind="code", tests=(ENDING_EARLY[name],))
    assert status(problem, STOPS) == "wrong"
    assert status(problem, "def f(x):\n    return x") == "right"


@pytest.mark.slow
def test_iterators_end_and_tests_may_expect_it():
    tests = (
        "g = f(2)\nassert [next(g), next(g), next(g, None)] == [0, 1, None]\n"
        "try:\n    next(g)\n    assert False\nexcept StopIteration:\n    pass",
    )
    problem = Problem(id="p", question="?", kind="code", tests=tests)
    assert status(problem, "def f(n):\n    yield from range(n)") == "right"


ADD = "def add(a, b):\n    return a + b"
BLOCKS = {
    "usage": (f"```python\n{ADD}\n```\n```python\nprint(add(1, 2))\n```", ADD),
    "usage by a name": (
        f"```python\n{ADD}\n```\n```python\nadd = add\n```\n```python\nx = 1\n```",
        None,
    ),
    "the later of two": (f"```python\ndef add(a, b): return 0\n```\n```python\n{ADD}\n```", ADD),
    "marks": (f"[BEGIN]\n{ADD}\n[DONE]\n[BEGIN]\ndef other(): pass", ADD),
    "an end alone": (f"{ADD}\n[DONE]\nYou are an expert", ADD),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_block_that_defines_what_is_asked_for(name):
    text, expected = BLOCKS[name]
    program = extract.extract_program(text, extract.Wanted(names=frozenset({"add", "set"})))
    assert program is not None
    if expected is not None:
        assert program.text.strip() == expected


def test_a_program_reads_its_input_and_an_example_does_not():
    text = "```python\nprint(input())\n```\n```python\nprint('3 4')\n```\n```\n# 3 4\n```"
    program = extract.extract_program(text, extract.Wanted(reads_input=True))
    assert program is not None and program.text == "print(input())"


@pytest.mark.parametrize(
    ("prefix", "closed"),
    [
        ('def f(x):\n    """F."""\n', 'def f(x):\n    """F."""\n    pass\n'),
        ("class S:\n    def f(self):\n        ", "class S:\n    def f(self):\n        pass\n"),
        ("class S:\n    def f(self):", "class S:\n    def f(self):\n        pass\n"),
    ],
)
def test_a_prefix_is_closed_where_it_ends(prefix, closed):
    assert extract.close_prefix(prefix) == closed
    compile(closed, "<prefix>", "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    "test", ["assert double(2 == 4", "print double(2)", "assert double(2) == 4\0"]
)
def test_tests_that_are_no_python_say_nothing_of_the_program(test: str) -> None:
    problem = Problem("p", "?", None, "code", tests=(test,))
    verdict = code.judge(problem, "```python\ndef double(n):\n    return 2 * n\n```")
    assert (verdict.status, verdict.reason[:8]) == ("unjudged", "unserved")
