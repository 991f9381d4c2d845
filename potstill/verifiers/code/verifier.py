"""Python programs against tests, in a sandbox (`sandbox.py`): standard input and output, or unit tests.

`problem.tests` holds strings, each of one of these forms:

- `{"stdin": "3 4\\n", "stdout": "7\\n"}` (JSON): run the program as `__main__`; optional `tolerance` for numbers;
- `{"unit": "def check(candidate): …", "entry": "name", "prefix": "def name(…): …"}`: HumanEval's, where the prefix is
  what an answer may continue, and runs on the tests' side too; `check(entry)` is called where the tests do not;
- anything else is source of asserts, MBPP's; such strings are run together, in order, in one process.

A JSON test may have `seconds` and `memory_mb`. A reason begins with the class: pass, wrong, time, memory, output (too
much of it), runtime, syntax, no code. Only the standard library can be imported. How unit tests are kept from their
programs: `inside/`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any, NamedTuple

from potstill.records import Problem, Verdict
from potstill.verifiers.code import execute, extract, sandbox
from potstill.verifiers.code.execute import Ended
from potstill.verifiers.code.sandbox import Limits
from potstill.verifiers.workers import pool

VERSION = "code@2"
CLASSES = ("pass", "wrong", "time", "memory", "output", "runtime", "syntax", "no code")
_SHOWN = 2_000  # characters of a program in its verdict
_SAID = 60  # characters of what was printed in a reason


class Unit(NamedTuple):
    """Asserts, the name that they call, and what a completion continues."""

    source: str
    entry: str = ""
    prefix: str = ""
    limits: Limits = Limits()


class Case(NamedTuple):
    """An input and the output that it must give."""

    stdin: str
    stdout: str
    tolerance: float = 0.0
    limits: Limits = Limits()


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the answer's program passes all of the problem's tests."""
    return judge_all([(problem, text)])[0]


def judge_all(
    items: Sequence[tuple[Problem, str]], *, kind: str | None = None, limits: Limits | None = None
) -> list[Verdict]:
    """Judge many at once, one a core.

    Args:
        kind: the sandbox, where it is not the best that works here.
        limits: in place of the usual ones; a test's own go before them.
    """
    box = sandbox.chosen(kind)
    with ThreadPoolExecutor(
        min(len(items), pool.core_count()) or 1, thread_name_prefix="code"
    ) as threads:
        return list(
            threads.map(lambda item: _judge(*item, box=box, limits=limits or Limits()), items)
        )


def where() -> str:
    """The sandbox that programs are run in here, for people."""
    return f"programs run in: {sandbox.chosen()}"


def gold_text(problem: Problem) -> str:
    """The reference solution as an answer."""
    return f"```python\n{problem.solution or ''}\n```"


def _judge(problem: Problem, text: str, *, box: str, limits: Limits) -> Verdict:
    try:
        tests = read_tests(problem.tests, limits)
    except (ValueError, TypeError, KeyError) as error:
        return Verdict("unjudged", None, f"its tests can't be read: {error}"[:200], VERSION)
    if not tests:
        return Verdict("unjudged", None, "the problem has no tests", VERSION)
    unit = next((test for test in tests if isinstance(test, Unit)), Unit(""))
    program = extract.read(text, prefix=unit.prefix, entry=unit.entry)
    if program is None:
        return Verdict("unparsed", None, "no code: nothing that could be a program", VERSION)
    outcome, why = _run(program.variants, tests, box)
    answer = program.text[:_SHOWN]
    if outcome in ("unserved", "sandbox"):
        return Verdict("unjudged", answer, f"{outcome}: {why} [{box}]", VERSION)
    return Verdict(
        "right" if outcome == "pass" else "wrong", answer, f"{outcome}: {why} [{box}]", VERSION
    )


def read_tests(tests: Sequence[str], limits: Limits) -> list[Unit | Case]:
    """The tests of a problem; asserts that stand alone become one unit."""
    found: list[Unit | Case] = []
    asserts: list[str] = []
    for text in tests:
        content = _object(text)
        if content is None:
            asserts.append(text)
            continue
        own = limits._replace(
            seconds=math.ceil(content.get("seconds", limits.seconds)),
            memory=int(content["memory_mb"]) << 20 if "memory_mb" in content else limits.memory,
        )
        if "unit" in content:
            found.append(
                Unit(content["unit"], content.get("entry", ""), content.get("prefix", ""), own)
            )
        else:
            tolerance = float(content.get("tolerance", 0.0))
            found.append(Case(str(content["stdin"]), str(content["stdout"]), tolerance, own))
    return found + ([Unit("\n".join(asserts), limits=limits)] if asserts else [])


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that a test is, if it is one of ours."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return (
        content
        if isinstance(content, dict) and ("unit" in content or "stdout" in content)
        else None
    )


def _run(variants: list[list[str]], tests: Iterable[Unit | Case], box: str) -> tuple[str, str]:
    """The class of the first test that fails, or of all that passed, and why."""
    passed, why = 0, ""
    for number, test in enumerate(tests, 1):
        ended = _unit(variants, test, box) if isinstance(test, Unit) else _case(variants, test, box)
        if ended.outcome != "pass":
            place = "" if isinstance(test, Unit) else f"test {number}: "
            return ended.outcome, f"{place}{ended.why}"
        passed, why = passed + 1, ended.why
    return "pass", why or f"{passed} tests"


def _unit(variants: list[list[str]], test: Unit, box: str) -> Ended:
    prefix = [f"{test.prefix}\n    pass\n"] if test.prefix else []
    content = {"prefix": prefix, "tests": test.source, "entry": test.entry}
    return execute.unit(box, variants, content, test.limits)


def _case(variants: list[list[str]], test: Case, box: str) -> Ended:
    ended = execute.whole(box, variants, test.stdin, test.limits)
    if ended.outcome != "pass":
        return ended
    printed = ended.output.decode("utf-8", "replace")
    if same_output(printed, test.stdout, test.tolerance):
        return Ended("pass", "")
    return Ended(
        "wrong", f"prints {printed.strip()[:_SAID]!r}, not {test.stdout.strip()[:_SAID]!r}"
    )


def same_output(printed: str, expected: str, tolerance: float = 0.0) -> bool:
    """Equal line by line but for white space at their ends and empty lines at the end; numbers within a tolerance."""
    ours, theirs = (text.replace("\r\n", "\n").rstrip().split("\n") for text in (printed, expected))
    pairs = zip_longest(ours, theirs)
    return all(
        a is not None and b is not None and _same_line(a.rstrip(), b.rstrip(), tolerance)
        for a, b in pairs
    )


def _same_line(ours: str, theirs: str, tolerance: float) -> bool:
    if ours == theirs or not tolerance:
        return ours == theirs
    words = list(zip_longest(ours.split(), theirs.split(), fillvalue=""))
    return all(a == b or _near(a, b, tolerance) for a, b in words)


def _near(ours: str, theirs: str, tolerance: float) -> bool:
    try:
        a, b = float(ours), float(theirs)
    except ValueError:
        return False
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
