"""HumanEval's and MBPP's rows become programming problems with tests in one form each."""

from __future__ import annotations

import json

import pytest

from potstill import verifiers
from potstill.data import problems
from potstill.verifiers.code import sandbox
from potstill.verifiers.code import verifier as code

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from math import *\n\ndef root(x):\n    """The root."""\n',
    "entry_point": "root",
    "canonical_solution": "    return sqrt(x)\n",
    "test": "def check(candidate):\n    assert candidate(4) == 2\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a function to add.",
    "code": "def add(a, b):\n    return a + b",
    "test_list": ["assert add(1, 2) == three()", "assert add(0, 0) == 0"],
    "test_setup_code": "def three(): return 3",
    "challenge_test_list": [],
}


def load(tmp_path, *rows, **options):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return problems.load(str(path), **options)


def test_humaneval(tmp_path):
    [problem] = load(tmp_path, HUMANEVAL)
    assert (problem.kind, problem.id, problem.answer) == ("code", "HumanEval/0", None)
    assert problem.question == HUMANEVAL["prompt"].strip()
    assert problem.solution == HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]
    [unit] = code.read_tests(problem.tests, sandbox.Limits())
    assert (unit.entry, unit.prefix, unit.source) == (
        "root",
        HUMANEVAL["prompt"],
        HUMANEVAL["test"],
    )


def test_mbpp(tmp_path):
    [problem] = load(tmp_path, MBPP)
    assert (problem.kind, problem.id, problem.solution) == ("code", "11", MBPP["code"])
    assert problem.question.startswith(MBPP["text"]) and problem.question.endswith(
        MBPP["test_list"][1]
    )
    assert problem.tests == (MBPP["test_setup_code"], *MBPP["test_list"])
    newer = {**MBPP, "prompt": MBPP["text"], "test_imports": ["import math"]}
    del newer["text"], newer["test_setup_code"]
    assert load(tmp_path, newer)[0].tests == ("import math", *MBPP["test_list"])


@pytest.mark.slow
def test_their_solutions_are_checked(tmp_path):
    if all(map(sandbox.sandbox_obstacle, sandbox.KINDS)):
        pytest.skip(
            "; ".join(f"{kind}: {sandbox.sandbox_obstacle(kind)}" for kind in sandbox.KINDS)
        )
    known = load(tmp_path, HUMANEVAL) + load(tmp_path, MBPP)
    assert verifiers.check_gold(known) == []
    assert problems.describe(known)["without_answer"] == 0
    [wrong] = load(tmp_path, {**HUMANEVAL, "canonical_solution": "    return x\n"})
    [(_, verdict)] = verifiers.check_gold([wrong])
    assert verdict.reason.startswith("wrong: assert candidate(4) == 2")
    [without] = load(tmp_path, {k: v for k, v in HUMANEVAL.items() if k != "canonical_solution"})
    assert not verifiers.has_gold(without)
    assert problems.describe([without])["without_answer"] == 1


def test_standard_input_and_output(tmp_path):
    tests = [{"stdin": "1 2", "stdout": "3"}, {"stdin": "2 2", "stdout": "4", "seconds": 2}]
    row = {"question": "Add.", "solution": "print(sum(map(int, input().split())))", "tests": tests}
    [problem] = load(tmp_path, row, kind="code")
    assert problem.solution == row["solution"] and problem.answer is None
    first, second = code.read_tests(problem.tests, sandbox.Limits())
    assert (first.stdin, first.stdout, second.limits.seconds) == ("1 2", "3", 2)


def test_another_kind_or_layout_is_left_alone(tmp_path):
    row = {"question": "1+1?", "answer": "2", "test": "x"}
    assert load(tmp_path, row)[0].kind == "number"
    assert load(tmp_path, {**HUMANEVAL, "answer": "2"}, kind="number")[0].kind == "number"
