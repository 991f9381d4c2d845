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

APPS = {"question", "input_output"}
LIVECODE = {"question_content", "public_test_cases"}
_MOST = 512 << 20  # bytes of unpacked hidden tests
_PROGRAM = "Write a Python program that reads standard input and writes standard output."
# As APPS judges: tuples are lists, and the value that is wanted may be wrapped in a list.
_SAME = """def _plain(value):
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value

def _same(made, wanted, wrapped):
    made = _plain(made)
    return made == wanted or wrapped and isinstance(wanted, list) and len(wanted) > 0 and made == wanted[0]
"""


def apps(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of APPS or TACO; its first solution is the reference."""
    known = _json(row["input_output"], "input_output")
    if not isinstance(known, Mapping):
        _wrong("input_output is no object with inputs and outputs")
    inputs, outputs = _list(known.get("inputs"), "inputs"), _list(known.get("outputs"), "outputs")
    if len(inputs) != len(outputs):
        _wrong(f"{len(inputs)} inputs and {len(outputs)} outputs")
    starter, name = str(row.get("starter_code") or ""), known.get("fn_name")
    if name:
        calls = list(zip(inputs, outputs, strict=True))
        tests = [_called(str(name), starter, calls, wrapped=True)]
    else:
        tests = [
            _case(_lines(given), _lines(wanted))
            for given, wanted in zip(inputs, outputs, strict=True)
        ]
    solutions = _json(row["solutions"], "solutions") if row.get("solutions") else []
    return {
        "id": row.get("problem_id", row.get("id")),
        "question": _asked(str(row["question"]), starter, str(name or "")),
        "answer": None,
        "solution": str(solutions[0]) if isinstance(solutions, list) and solutions else None,
        "tests": tests,
    }


def livecode(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of LiveCodeBench: its public tests and then the hidden ones; it has no reference."""
    hidden = row.get("private_test_cases")
    tests = [
        *_list(_json(row["public_test_cases"], "public_test_cases"), "public_test_cases"),
        *(
            _list(_json(_unpacked(hidden), "private_test_cases"), "private_test_cases")
            if hidden
            else []
        ),
    ]
    if not all(isinstance(test, Mapping) and {"input", "output"} <= set(test) for test in tests):
        _wrong("a test without input and output")
    details = _json(row["metadata"], "metadata") if row.get("metadata") else None
    name = str(details.get("func_name") or "") if isinstance(details, Mapping) else ""
    starter = str(row.get("starter_code") or "")
    if name:
        calls = [(_arguments(test["input"]), _json(test["output"], "output")) for test in tests]
        made = [_called(name, starter, calls, wrapped=False)]
    else:
        made = [_case(_lines(test["input"]), _lines(test["output"])) for test in tests]
    return {
        "id": row.get("question_id"),
        "question": _asked(str(row["question_content"]), starter, name),
        "answer": None,
        "solution": None,
        "tests": made,
    }


def _asked(question: str, starter: str, name: str) -> str:
    """The question with what is to be written, which an answer can't know."""
    begin = f"\n\n```python\n{starter.rstrip()}\n```" if starter.strip() else ""
    function = "beginning with" if begin else f"as the function `{name}`."
    wanted = f"Write it in Python, {function}" if name else _PROGRAM
    return f"{question.strip()}\n\n{wanted}{begin}" if question.strip() else ""


def _case(given: str, wanted: str) -> str:
    return canonical({"stdin": given, "stdout": wanted})


def _called(name: str, starter: str, calls: Sequence[tuple[Any, Any]], *, wrapped: bool) -> str:
    """A unit of one assert a call; LeetCode's functions are methods of a class Solution."""
    inside = "class Solution" in starter
    function = f"candidate().{name}" if inside else "candidate"
    if not name.isidentifier():
        _wrong(f"{name!r} is no name of a function")
    if not all(isinstance(given, list) for given, _ in calls):
        _wrong("arguments that are no list")
    asserts = [
        f"    assert _same({function}(*{given!r}), {wanted!r}, {wrapped})"
        for given, wanted in calls
    ]
    source = "\n".join([_SAME, "def check(candidate):", *asserts])
    return canonical({"unit": source, "entry": "Solution" if inside else name, "prefix": ""})


def _lines(value: Any) -> str:
    """Standard input or output; some rows have a list of lines."""
    return "\n".join(map(_lines, value)) if isinstance(value, list) else str(value)


def _arguments(value: Any) -> list[Any]:
    """One JSON value a line."""
    return [_json(line, "input") for line in _lines(value).split("\n")]


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        _wrong(f"no {what}")
    return value


def _json(value: Any, what: str) -> Any:
    """A value that may stand in the file as JSON text; numbers that Python can't write again are refused."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_number)
    except (ValueError, RecursionError):
        _wrong(f"{what} is no JSON")


def _number(name: str) -> NoReturn:
    raise ValueError(name)


def _unpacked(value: Any) -> Any:
    """Hidden tests: JSON, or a pickled text that is compressed and written in base64. Nothing is unpickled."""
    if not isinstance(value, str) or value.lstrip().startswith("["):
        return value
    try:
        packed, unzip = base64.b64decode(value, validate=True), zlib.decompressobj()
        data = unzip.decompress(packed, _MOST)
        texts = [arg for code, arg, _ in pickletools.genops(data) if "UNICODE" in code.name]
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError(f"private_test_cases can't be read: {error}", expected=_EXPECTED) from None
    if unzip.unconsumed_tail or len(texts) != 1:
        _wrong("private_test_cases holds something else than one text")
    return texts[0]


_EXPECTED = "tests as APPS, TACO or LiveCodeBench write them"


def _wrong(found: str) -> NoReturn:
    raise InputError(found, expected=_EXPECTED, fix="--skip-bad leaves such rows out")
