"""Contest problems in the layouts of APPS (TACO's too) and LiveCodeBench, as rows with tests in our one form.

APPS: question, input_output (JSON of inputs and outputs, with fn_name where a function is called), solutions (JSON),
starter_code. LiveCodeBench: question_content, public_test_cases, private_test_cases, starter_code, metadata; its hidden
tests are packed as a pickle, of which the text is read and nothing is run.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from potstill.errors import InputError
from potstill.records import canonical

APPS_COLUMNS = {"question", "input_output"}
LIVECODE_COLUMNS = {"question_content", "public_test_cases"}

TOLERANCE = 1e-6
"""How far printed numbers with a point may lie from the expected ones, relative or absolute.

Departure: APPS takes numpy's `allclose` (1e-5), LiveCodeBench compares decimals exactly; contests themselves say 1e-6.
"""

_MAX_UNPACKED_BYTES = 512 << 20  # of hidden tests
_DIGITS_AT_ONCE, _LONG_BITS = (
    4_000,
    13_000,
)  # what Python converts from and to decimal digits without refusing
_STDIN_PROGRAM = "Write a Python program that reads standard input and writes standard output."
_EXPECTED = "tests as APPS, TACO or LiveCodeBench write them"
# As APPS judges: tuples are lists, and the value that is wanted may be wrapped in a list.
_SAME = """def _plain(value):
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value

def _same(made, wanted, wrapped):
    made = _plain(made)
    return made == wanted or wrapped and isinstance(wanted, list) and len(wanted) > 0 and made == wanted[0]
"""


def read_apps_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of APPS or TACO; its first solution is the reference."""
    cases = _parse_json(row["input_output"], "input_output")
    if not isinstance(cases, Mapping):
        _refuse("input_output is no object with inputs and outputs")
    inputs = _check_list(cases.get("inputs"), "inputs")
    outputs = _check_list(cases.get("outputs"), "outputs")
    if len(inputs) != len(outputs):
        _refuse(f"{len(inputs)} inputs and {len(outputs)} outputs")

    # Either calls of a function, or what a program reads and prints.
    pairs = list(zip(inputs, outputs, strict=True))
    starter = str(row.get("starter_code") or "")
    function_name = str(cases.get("fn_name") or "")
    if function_name:
        tests = [_call_test(function_name, starter, pairs, wrapped=True)]
    else:
        tests = []
        for stdin, stdout in pairs:
            tests.append(_stdin_test(_join_lines(stdin), _join_lines(stdout)))
    solutions = _parse_json(row["solutions"], "solutions") if row.get("solutions") else []
    has_solution = isinstance(solutions, list) and bool(solutions)
    return {
        "id": row.get("problem_id", row.get("id")),
        "question": _ask_for_program(str(row["question"]), starter, function_name),
        "answer": None,
        "solution": str(solutions[0]) if has_solution else None,
        "tests": tests,
    }


def read_livecode_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of LiveCodeBench: its public tests and then the hidden ones; it has no reference."""
    public_tests = _parse_json(row["public_test_cases"], "public_test_cases")
    cases = list(_check_list(public_tests, "public_test_cases"))
    if row.get("private_test_cases"):
        hidden_tests = _parse_json(_unpack(row["private_test_cases"]), "private_test_cases")
        cases += _check_list(hidden_tests, "private_test_cases")
    for case in cases:
        if not isinstance(case, Mapping) or not {"input", "output"} <= set(case):
            _refuse("a test without input and output")

    metadata = _parse_json(row["metadata"], "metadata") if row.get("metadata") else None
    function_name = ""
    if isinstance(metadata, Mapping):
        function_name = str(metadata.get("func_name") or "")
    starter = str(row.get("starter_code") or "")
    if function_name:
        calls = []
        for case in cases:
            arguments = _parse_arguments(case["input"])
            calls.append((arguments, _parse_json(case["output"], "output")))
        tests = [_call_test(function_name, starter, calls, wrapped=False)]
    else:
        tests = []
        for case in cases:
            tests.append(_stdin_test(_join_lines(case["input"]), _join_lines(case["output"])))
    return {
        "id": row.get("question_id"),
        "question": _ask_for_program(str(row["question_content"]), starter, function_name),
        "answer": None,
        "solution": None,
        "tests": tests,
    }


def _ask_for_program(question: str, starter: str, function_name: str) -> str:
    """The question with what is to be written, which an answer can't know."""
    if not question.strip():
        return ""
    code_block = f"\n\n```python\n{starter.rstrip()}\n```" if starter.strip() else ""
    task = _STDIN_PROGRAM
    if function_name:
        how = "beginning with" if code_block else f"as the function `{function_name}`."
        task = f"Write it in Python, {how}"
    return f"{question.strip()}\n\n{task}{code_block}"


def _stdin_test(stdin: str, stdout: str) -> str:
    test = {"stdin": stdin, "stdout": stdout, "tolerance": TOLERANCE, "contest": True}
    return canonical(test)


def _call_test(name: str, starter: str, calls: Sequence[tuple[Any, Any]], *, wrapped: bool) -> str:
    """A unit of one assert a call; LeetCode's functions are methods of a class Solution.

    Args:
        name: of the function.
        starter: code that the answer begins with.
        calls: arguments and the value that is wanted.
        wrapped: whether that value may stand in a list.
    """
    is_method = "class Solution" in starter
    function, entry = "candidate", name
    if is_method:
        function, entry = f"candidate().{name}", "Solution"
    if not name.isidentifier():
        _refuse(f"{name!r} is no name of a function")
    asserts = []
    for arguments, wanted in calls:
        if not isinstance(arguments, list):
            _refuse("arguments that are no list")
        call = f"{function}(*{_literal(arguments)})"
        asserts.append(f"    assert _same({call}, {_literal(wanted)}, {wrapped})")
    source = "\n".join([_SAME, "def check(candidate):", *asserts])
    return canonical({"unit": source, "entry": entry, "starter": starter, "contest": True})


def _literal(value: Any) -> str:
    """Data of JSON as Python source; integers too long for decimal digits (4,300) are written in hexadecimal."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        items = [f"{key!r}: {_literal(item)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    is_long = type(value) is int and value.bit_length() > _LONG_BITS
    return hex(value) if is_long else repr(value)


def _join_lines(value: Any) -> str:
    """Standard input or output; some rows have a list of lines."""
    if isinstance(value, list):
        return "\n".join(_join_lines(line) for line in value)
    return str(value)


def _parse_arguments(value: Any) -> list[Any]:
    """One JSON value a line."""
    return [_parse_json(line, "input") for line in _join_lines(value).split("\n")]


def _check_list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        _refuse(f"no {what}")
    return value


def _parse_json(value: Any, what: str) -> Any:
    """A value that may stand in the file as JSON text; numbers that Python can't write again are refused."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_refuse_constant, parse_int=_parse_integer)
    except (ValueError, RecursionError):
        _refuse(f"{what} is no JSON")


def _parse_integer(digits: str) -> int:
    """An integer of any length: Python reads at most 4,300 digits at once."""
    if len(digits) <= _DIGITS_AT_ONCE:
        return int(digits)
    sign = -1 if digits.startswith("-") else 1
    value = 0
    digits = digits.lstrip("-")
    for start in range(0, len(digits), _DIGITS_AT_ONCE):
        part = digits[start : start + _DIGITS_AT_ONCE]
        value = value * 10 ** len(part) + int(part)
    return sign * value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unpack(value: Any) -> Any:
    """Hidden tests: JSON, or a pickled text that is compressed and written in base64. Nothing is unpickled."""
    if not isinstance(value, str) or value.lstrip().startswith("["):
        return value
    try:
        packed = base64.b64decode(value, validate=True)
        unzip = zlib.decompressobj()
        data = unzip.decompress(packed, _MAX_UNPACKED_BYTES)
        texts = []
        for opcode, argument, _ in pickletools.genops(data):
            if "UNICODE" in opcode.name:
                texts.append(argument)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError(f"private_test_cases can't be read: {error}", expected=_EXPECTED) from None
    if unzip.unconsumed_tail or len(texts) != 1:
        _refuse("private_test_cases holds something else than one text")
    return texts[0]


def _refuse(reason: str) -> NoReturn:
    raise InputError(reason, expected=_EXPECTED, fix="--skip-bad leaves such rows out")
