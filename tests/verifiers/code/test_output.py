"""What a program comes to: arithmetic is computed in this process, and to the same end as in the sandbox."""

from __future__ import annotations

import sys

import pytest

from potstill.verifiers.code import execute, output, straight_line
from potstill.verifiers.code.sandbox import Limits

ARITHMETIC = {
    "    a = 3\n    b = a * 2\n    return b / 4": ("1.5", ""),
    '    "What it does."\n    a = 0.1 + 0.2\n    return a': ("0.3", ""),
    "    return 53.99999999999999": ("54", ""),
    "    a = 7\n    return -a // 2 % 5": ("1", ""),
    "    a = 7": ("None", ""),
    "    total = 7\n    return totel": ("", "NameError: name 'totel' is not defined"),
    "    a = 1 / 0\n    return a": ("", "ZeroDivisionError: division by zero"),
    "    a = (3\n    return a": ("", "SyntaxError: '(' was never closed"),
}
# Whatever is not certain to end the same way is left to the sandbox.
ELSE = (
    "    return round(2.5)",
    "    a = 10\n    return a ** a ** a",
    "    b = a\n    a = 3\n    return b",
    "    return sum",
    "    return solution",
    "    return __file__",
    "    a = 99999999999999999999\n    return a * a * a",
    "    while True:\n        pass",
    "    import os\n    return os.getpid()",
    "    return '5'",
    "    return 5\n    yield",
    "    return 5\n    break",
    "    __debug__ = 5\n    return 5",
    "    return " + "-" * 3000 + "1",
    "    return 1" + "+1" * 1900,
    "    return " + "(" * 200 + "1" + ")" * 200,
)


@pytest.mark.parametrize("body", ARITHMETIC)
def test_arithmetic_is_computed_without_a_sandbox(body, monkeypatch):
    monkeypatch.setattr(execute, "run_program", None)
    text = f"Here it is:\n```python\ndef solution():\n{body}\n```\nDone."
    assert output.run_text(text, Limits()) == ARITHMETIC[body]


@pytest.mark.parametrize("body", ELSE)
def test_anything_else_is_left_to_the_sandbox(body):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # as other libraries do
    try:
        assert straight_line.compute(f"def solution():\n{body}") is None
    finally:
        sys.setrecursionlimit(before)


def test_a_text_without_a_program_says_so():
    assert output.run_text("It is 5.", Limits()) == ("", "no program")


@pytest.mark.slow
def test_the_sandbox_comes_to_the_same(monkeypatch):
    monkeypatch.setattr(straight_line, "compute", lambda source: None)
    texts = [f"def solution():\n{body}" for body in ARITHMETIC]
    assert output.run_all(texts) == list(ARITHMETIC.values())


@pytest.mark.slow
def test_programs_that_call_print_or_fail_run_in_the_sandbox():
    texts = [
        "def solution():\n    return round(2.6)",
        "n = 3\nprint('no')\nprint(n)",
        "import os\nx",
    ]
    assert output.run_all(texts) == [
        ("3", ""),
        ("3", ""),
        ("", "NameError: name 'x' is not defined"),
    ]
