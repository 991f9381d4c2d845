"""Python programs against tests, in a sandbox (`sandbox.py`): standard input and output, or unit tests.

`problem.tests` holds strings, each of one of these forms:

- `{"stdin": "3 4\\n", "stdout": "7\\n"}` (JSON): run the program as `__main__`; with `tolerance`, numbers that are
  written with a point or an exponent may lie so far apart, and integers are compared exactly;
- `{"unit": "def check(candidate): …", "entry": "name", "prefix": "def name(…): …"}`: HumanEval's, where the prefix is
  what an answer may continue, and runs on the tests' side too; `check(entry)` is called where the tests do not;
- anything else is source of asserts, MBPP's; such strings are run together, in order, in one process.

A JSON test may have `seconds` and `memory_mb`; `starter`, what a program may begin with and the tests do not need; and
`contest`, where the harness of the benchmark imports the usual modules before the program. A reason begins with the
class: pass, wrong, time, memory, output (too much of it), runtime, syntax, no code. Only the standard library can be
imported. How unit tests are kept from their programs: `inside/`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple

from potstill.records import Problem, Status, Verdict
from potstill.verifiers.code import execute, extract, sandbox, usual_imports
from potstill.verifiers.code.sandbox import Limits
from potstill.verifiers.workers import pool

VERSION = "code@4"
_PROGRAM_CHARACTERS = 2_000  # of a program in its verdict
_CALLED_NAME = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s*\(")
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?")
_EXACT = 1 << 53  # integers beyond are not all floats
_OUTPUT_CHARACTERS = 60  # of what was printed in a reason


class UnitTests(NamedTuple):
    """Asserts, the name that they call, and what a completion continues."""

    source: str
    entry: str = ""
    prefix: str = ""
    limits: Limits = Limits()
    starter: str = ""
    contest: bool = False


class Case(NamedTuple):
    """An input and the output that it must give."""

    stdin: str
    stdout: str
    tolerance: float = 0.0
    limits: Limits = Limits()
    contest: bool = False


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the answer's program passes all of the problem's tests."""
    return judge_all([(problem, text)])[0]


def judge_all(
    items: Sequence[tuple[Problem, str]], *, kind: str | None = None, limits: Limits | None = None
) -> list[Verdict]:
    """Judge many at once, one a core.

    Args:
        items: a problem and an answer, each.
        kind: the sandbox, where it is not the best that works here.
        limits: in place of the usual ones; a test's own go before them.

    Raises:
        ConfigError: no sandbox works here.
    """
    sandbox_kind = sandbox.choose_sandbox(kind)
    usual_limits = limits or Limits()

    def judge_item(item: tuple[Problem, str]) -> Verdict:
        return _judge_answer(*item, sandbox_kind=sandbox_kind, limits=usual_limits)

    workers = min(len(items), pool.core_count()) or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="code") as threads:
        return list(threads.map(judge_item, items))


def gold_text(problem: Problem) -> str:
    """Return the reference solution as an answer."""
    return f"```python\n{problem.solution or ''}\n```"


def read(problem: Problem, text: str) -> str | None:
    """Return the text's program; nothing is run."""
    try:
        wanted = _wanted_program(read_tests(problem.tests, Limits()))
    except (ValueError, TypeError, KeyError):
        wanted = extract.ANY_PROGRAM  # tests that can't be read say nothing about the program
    program = extract.extract_program(text, wanted)
    return None if program is None else program.text[:_PROGRAM_CHARACTERS]


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two programs are one text, but for white space at the ends of lines."""
    lines = [[line.rstrip() for line in program.strip().split("\n")] for program in (first, second)]
    return lines[0] == lines[1]


def _judge_answer(problem: Problem, text: str, *, sandbox_kind: str, limits: Limits) -> Verdict:
    try:
        tests = read_tests(problem.tests, limits)
    except (ValueError, TypeError, KeyError) as error:
        return Verdict("unjudged", None, f"its tests can't be read: {error}"[:200], VERSION)
    if not tests:
        return Verdict("unjudged", None, "the problem has no tests", VERSION)

    program = extract.extract_program(text, _wanted_program(tests))
    if program is None:
        return Verdict("unparsed", None, "no code: nothing that could be a program", VERSION)

    # Tests that can't be run, or a sandbox that does not start, say nothing of the program.
    variants = program.variants
    if any(test.contest for test in tests):
        # The first variant has all that any of them has, the starter too.
        imports = usual_imports.imports_for("\n".join(variants[0]))
        variants = [[imports, *variant] for variant in variants]
    outcome, detail = _run_tests(variants, tests, sandbox_kind)
    answer = program.text[:_PROGRAM_CHARACTERS]
    status: Status = "right" if outcome == "pass" else "wrong"
    if outcome in ("unserved", "sandbox"):
        status = "unjudged"
    return Verdict(status, answer, f"{outcome}: {detail} [{sandbox_kind}]", VERSION)


def _wanted_program(tests: Sequence[UnitTests | Case]) -> extract.Wanted:
    """What the tests say of the program: the first unit's beginning and entry, the names that asserts call."""
    for test in tests:
        if isinstance(test, UnitTests):
            names = frozenset(_CALLED_NAME.findall(test.source))
            return extract.Wanted(test.starter or test.prefix, test.entry, names)
    return extract.Wanted(reads_input=bool(tests))


def read_tests(tests: Sequence[str], limits: Limits) -> list[UnitTests | Case]:
    """Return the tests of a problem; asserts that stand alone become one unit, which runs last.

    Raises:
        ValueError, TypeError, KeyError: a test is of none of the forms.
    """
    parsed: list[UnitTests | Case] = []
    asserts: list[str] = []
    for text in tests:
        content = _test_object(text)
        if content is None:
            asserts.append(text)
            continue
        own_limits = _limits_of_test(content, limits)
        contest = bool(content.get("contest", False))
        if "unit" in content:
            entry, prefix = content.get("entry", ""), content.get("prefix", "")
            starter = content.get("starter", "")
            parsed.append(UnitTests(content["unit"], entry, prefix, own_limits, starter, contest))
        else:
            tolerance = float(content.get("tolerance", 0.0))
            stdin, stdout = str(content["stdin"]), str(content["stdout"])
            parsed.append(Case(stdin, stdout, tolerance, own_limits, contest))
    if asserts:
        parsed.append(UnitTests("\n".join(asserts), limits=limits))
    return parsed


def _test_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a test is, if it is one of ours."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if isinstance(content, dict) and ("unit" in content or "stdout" in content):
        return content
    return None


def _limits_of_test(content: dict[str, Any], limits: Limits) -> Limits:
    seconds = math.ceil(content.get("seconds", limits.seconds))
    memory = limits.memory
    if "memory_mb" in content:
        memory = int(content["memory_mb"]) << 20
    return limits._replace(seconds=seconds, memory=memory)


def _run_tests(
    variants: list[list[str]], tests: Sequence[UnitTests | Case], sandbox_kind: str
) -> tuple[str, str]:
    """The class of the first test that fails, or of all that passed, and the detail."""
    detail = ""
    for number, test in enumerate(tests, 1):
        if isinstance(test, UnitTests):
            result, place = _run_unit_tests(variants, test, sandbox_kind), ""
        else:
            result, place = _run_case(variants, test, sandbox_kind), f"test {number}: "
        if result.outcome != "pass":
            return result.outcome, f"{place}{result.detail}"
        detail = result.detail
    return "pass", detail or f"{len(tests)} tests"


def _run_unit_tests(
    variants: list[list[str]], test: UnitTests, sandbox_kind: str
) -> execute.RunResult:
    prefix = [extract.close_prefix(test.prefix)] if test.prefix else []
    content = {"prefix": prefix, "tests": test.source, "entry": test.entry}
    return execute.run_unit_tests(sandbox_kind, variants, content, test.limits)


def _run_case(variants: list[list[str]], test: Case, sandbox_kind: str) -> execute.RunResult:
    result = execute.run_program(sandbox_kind, variants, test.stdin, test.limits)
    if result.outcome != "pass":
        return result
    printed = result.output.decode("utf-8", "replace")
    if same_output(printed, test.stdout, test.tolerance):
        return execute.RunResult("pass", "")
    beginning = printed.strip()[:_OUTPUT_CHARACTERS]
    expected = test.stdout.strip()[:_OUTPUT_CHARACTERS]
    return execute.RunResult("wrong", f"prints {beginning!r}, not {expected!r}")


def same_output(printed: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether outputs are equal line by line, but for white space at line ends and empty lines at the end.

    Args:
        printed: what the program printed.
        expected: what it must print.
        tolerance: how far numbers with a point or an exponent may lie apart, relative or absolute; 0 compares texts.
    """
    printed_lines, expected_lines = _output_lines(printed), _output_lines(expected)
    if len(printed_lines) != len(expected_lines):
        return False
    for line, expected_line in zip(printed_lines, expected_lines, strict=True):
        if not _same_line(line.rstrip(), expected_line.rstrip(), tolerance):
            return False
    return True


def _output_lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").rstrip().split("\n")


def _same_line(line: str, expected: str, tolerance: float) -> bool:
    if line == expected or not tolerance:
        return line == expected
    words, expected_words = line.split(), expected.split()
    if len(words) != len(expected_words):
        return False
    for word, expected_word in zip(words, expected_words, strict=True):
        if word != expected_word and not _is_near(word, expected_word, tolerance):
            return False
    return True


def _is_near(word: str, expected: str, tolerance: float) -> bool:
    """Whether two numbers are near; integers, and any that a float can't tell apart, must be equal."""
    if not (_NUMBER.fullmatch(word) and _NUMBER.fullmatch(expected)):
        return False
    value, expected_value = Decimal(word), Decimal(expected)
    if value == expected_value:
        # 1 and 1.0 are one number; 7 and 007 need not be.
        return all(
            _INTEGER.fullmatch(text) or "." in text or "e" in text.lower()
            for text in (word, expected)
        )
    if _INTEGER.fullmatch(expected) and (_INTEGER.fullmatch(word) or abs(expected_value) >= _EXACT):
        return False
    near = math.isclose(value, expected_value, rel_tol=tolerance, abs_tol=tolerance)
    return near and math.isfinite(float(value))
