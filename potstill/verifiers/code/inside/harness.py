"""The tests' side: run the asserts against a program in another process, of which only plain data ever arrives.

Names that the tests use and nobody here defines are asked of the program and stand for what it holds (`Remote`). What
is compared is always plain data in this process: the program can't see what is expected, nor how it is compared.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback
import types
from typing import Any, NoReturn

from potstill.verifiers.code.inside.protocol import Broken, Link, Reader, Writer, builtin_name
from potstill.verifiers.code.inside.serve import prepare, read_job

_DETAIL_CHARACTERS = 160  # of an exception or a test in the reason
_FUNCTIONS = (types.FunctionType, types.LambdaType, types.MethodType)
_CONTAINERS = (list, dict, set, bytearray)


class Unserved(BaseException):
    """The tests need something that can't cross between two processes; that is not the program's fault."""


class Over(BaseException):
    """The program can't go on; no `except Exception` of a test may catch it."""


class Session:
    """One conversation with the program."""

    def __init__(self, fd: int) -> None:
        """Take over the socket."""
        self.link = Link(fd)
        self.over: tuple[str, str] | None = None  # the outcome and detail that ended it
        self.calls = 0
        self.expects_stop = (
            False  # the tests name StopIteration, so that they may expect it of any call
        )
        self.lent: list[Any] = []  # functions of the tests that the program may call

    def start(self) -> None:
        """Wait until the program has been loaded."""
        reply = self._receive()
        if "ready" not in reply:
            self._raise_failure(reply, loading=True)

    def ask(self, op: str, target: int | None, *args: Any, **options: Any) -> Any:
        """Do one operation on a thing of the program's, and return its result."""
        if self.over:
            raise Over(self.over)
        writer = Writer(self._export)
        message = {
            "op": op,
            "target": target,
            "args": writer.put(list(args)),
            "options": writer.put(options),
        }
        try:
            self.link.send(message)
        except OSError:
            self._end("lost", "the program ended before its tests did")
        # Meanwhile the program may call functions that the tests handed over.
        while "call" in (reply := self._receive()):
            self._answer_call(reply)
        if "value" not in reply:
            if op != "next" and reply.get("failed") == "StopIteration" and not self.expects_stop:
                # As in a generator (PEP 479): `all(map(f, …))` and `zip` would end as if all had gone well.
                reply = {
                    "failed": "RuntimeError",
                    "kind": "RuntimeError",
                    "args": ["raised StopIteration"],
                }
            self._raise_failure(reply)
        return self._read_result(reply, writer.objects)

    def _read_result(self, reply: dict[str, Any], objects: list[Any]) -> Any:
        """The result, after what the call did to its arguments has been done to ours."""
        try:
            reader = Reader(self._resolve, objects)
            value = reader.get(reply["value"])
            states = reply["state"]
            if len(states) != len(objects):
                raise Broken("not a reply")
            for item, state in zip(objects, states, strict=True):
                if type(item) in _CONTAINERS or isinstance(item, dict):
                    reader.fill(item, state)
            return value
        except (
            Broken,
            TypeError,
            ValueError,
            LookupError,
            RecursionError,
            AttributeError,
        ) as error:
            self._end("runtime", f"its result can't be read: {error}"[:_DETAIL_CHARACTERS])

    def _receive(self) -> dict[str, Any]:
        try:
            message = self.link.receive()
        except Broken as error:
            self._end("runtime", f"its result can't be read: {error}")
        if message is None:
            self._end("lost", "the program ended before its tests did")
        if not isinstance(message, dict):
            self._end("runtime", "its result can't be read")
        return dict(message)

    def _end(self, outcome: str, detail: str) -> NoReturn:
        self.over = (outcome, detail)
        raise Over(self.over)

    def _raise_failure(self, reply: dict[str, Any], *, loading: bool = False) -> NoReturn:
        """Raise what the program raised: the builtin class of that name; anything else ends the conversation."""
        name = str(reply.get("failed", ""))
        kind = str(reply.get("kind") or reply.get("failed"))[:_DETAIL_CHARACTERS]
        args = reply.get("args", [])
        detail = kind
        if isinstance(args, list):
            detail = f"{kind}: {', '.join(map(str, args))}"[:_DETAIL_CHARACTERS]

        # What ends the conversation: a program that does not load or stops itself, or an error of no builtin class.
        if name == "SyntaxError" and loading and "why" in reply:
            self._end("syntax", str(reply["why"])[:_DETAIL_CHARACTERS])
        if name == "MemoryError":
            self._end("memory", detail)
        error_class = getattr(builtins, name, None)
        if not isinstance(error_class, type) or not issubclass(error_class, BaseException):
            self._end("runtime", detail)
        if loading or not issubclass(error_class, Exception):
            if name == "AssertionError":
                self._end("wrong", detail or name)
            if name == "SystemExit":
                self._end("runtime", f"{detail or name} (it stopped itself)")
            self._end("runtime", detail or name)
        # Anything else is raised here, so that a test can expect it.
        try:
            error = error_class(*args) if isinstance(args, list) else error_class()
        except TypeError:  # UnicodeDecodeError and its like want arguments of their own
            error = RuntimeError(detail)
        raise error

    def _answer_call(self, message: dict[str, Any]) -> None:
        """Call a function that the tests handed over, with data of the program's."""
        try:
            args = Reader(self._resolve).get(message["args"])
            result = self.lent[message["call"]](*args)
            reply = {"value": Writer(self._export).put(result)}
        except (Broken, LookupError) as error:
            self._end("runtime", f"its call can't be read: {error}")
        except Exception as error:
            # Boundary: what a test's own function raises goes to who called it.
            reply = {"failed": type(error).__name__, "args": [str(error)[:_DETAIL_CHARACTERS]]}
        try:
            self.link.send(reply)
        except OSError:
            self._end("lost", "the program ended before its tests did")

    def _export(self, value: Any) -> list[Any]:
        """A thing that is no data: the program's own by its number there, a builtin by name, a function by number."""
        if isinstance(value, Remote):
            return ["h", object.__getattribute__(value, "_number")]
        named = builtin_name(value)
        if named:
            return named
        if isinstance(value, _FUNCTIONS):
            self.lent.append(value)
            return ["F", len(self.lent) - 1]
        raise Unserved(f"the tests hand over a {type(value).__name__}")

    def _resolve(self, value: list[Any]) -> Any:
        if value[0] == "h" and len(value) == 2 and type(value[1]) is int:
            return Remote(self, value[1])
        raise Broken("not a value")


class Remote:
    """A thing that the program holds. Compared with data it is never equal: its own operators are not asked.

    Reading attributes, calling, indexing, iterating, its length and its text are asked of the program, as those are
    what a test says it wants of it. Arithmetic, order and membership are not: they would show what is expected.
    """

    __slots__ = ("_number", "_session")
    __hash__ = object.__hash__

    def __init__(self, session: Session, number: int) -> None:
        """Stand for the thing of that number."""
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_number", number)

    def _ask(self, op: str, *args: Any, **options: Any) -> Any:
        session: Session = object.__getattribute__(self, "_session")
        session.calls += 1
        return session.ask(op, object.__getattribute__(self, "_number"), *args, **options)

    def __call__(self, *args: Any, **options: Any) -> Any:  # noqa: D102  what the class says
        return self._ask("call", *args, **options)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("put", key, value)

    def __delitem__(self, key: Any) -> None:
        self._ask("delete", key)

    def __len__(self) -> int:
        length = self._ask("length")
        return length if type(length) is int else 0

    def __iter__(self) -> Any:
        iterator = self._ask("iterate")
        return iterator if isinstance(iterator, Remote) else iter(iterator)

    def __next__(self) -> Any:
        return self._ask("next")

    def __str__(self) -> str:
        return str(self._ask("text"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))

    def __bool__(self) -> bool:
        return self._ask("truth") is True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._ask("equal", other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __instancecheck__(self, other: Any) -> bool:
        return isinstance(other, Remote) and self._ask("isinstance", other) is True

    def __enter__(self) -> Any:
        return self._ask("enter")

    def __exit__(self, *_: Any) -> None:
        self._ask("exit")


def main(fd: int, link_fd: int, verdict_fd: int) -> None:
    """Run the tests of a job and write (outcome, detail) as JSON to where only the parent reads."""
    job = read_job(fd)
    prepare(job["limits"])
    outcome, detail = run_job(job, Session(link_fd))
    with open(verdict_fd, "w", encoding="utf-8") as file:
        json.dump([outcome, detail.encode("utf-8", "replace").decode()], file)
        file.flush()
        os._exit(0)  # at once: nothing of the tests runs after the verdict


def run_job(job: dict[str, Any], session: Session) -> tuple[str, str]:
    """Run the tests; return ("pass", …), or the class of what went wrong first."""
    try:
        session.start()
        _run_tests(job, session)
    except Over:
        return session.over or ("lost", "")
    except Unserved as error:
        return "unserved", str(error)
    except ModuleNotFoundError as error:
        if not session.over and not session.calls and error.name in _imported_modules(job["tests"]):
            return "unserved", f"the tests import {error.name}, which is not in the sandbox"
        detail = f"{_failing_line(error)}: {type(error).__name__}: {error}"
        return session.over or ("runtime", detail[: 2 * _DETAIL_CHARACTERS])
    except AssertionError as error:
        return session.over or ("wrong", _failing_line(error))
    except MemoryError:
        return session.over or ("memory", "its result is too large")
    except BaseException as error:
        # Boundary: anything that a test raises is a test that failed.
        detail = f"{_failing_line(error)}: {type(error).__name__}: {error}"
        return session.over or ("runtime", detail[: 2 * _DETAIL_CHARACTERS])
    if session.over:
        return session.over
    if not session.calls:
        return "unserved", "the tests never call the program"
    return "pass", f"{session.calls} calls as expected"


def _run_tests(job: dict[str, Any], session: Session) -> None:
    """Prefix, names of the program, tests; then `check`, or unittest classes, where the tests only define them."""
    session.expects_stop = "StopIteration" in job["tests"]
    sys.meta_path.append(_StandInFinder)
    module = sys.modules["tests"] = types.ModuleType("tests")
    namespace = module.__dict__
    # Tests that are no Python 3 say nothing of the program.
    try:
        prefixes = [compile(part, "<prefix>", "exec", dont_inherit=True) for part in job["prefix"]]
        code = ast.parse(job["tests"])
    except (SyntaxError, ValueError) as error:
        raise Unserved(f"the tests are no Python 3: {error}") from None
    for prefix in prefixes:
        exec(prefix, namespace)
    # Names that the tests use and nobody here defines stand for what the program holds.
    _test_lines[:] = job["tests"].splitlines()
    entry = job["entry"]
    used_names = {
        node.id
        for node in ast.walk(code)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for name in sorted({entry} if entry else used_names):
        _provide_name(name, namespace, session, is_entry=name == entry)
    if entry:
        for name in used_names & sys.stdlib_module_names - set(namespace):
            namespace[name] = importlib.import_module(name)
    # Only calls that the tests make count as calls.
    session.calls = 0
    exec(compile(code, "<tests>", "exec", dont_inherit=True), namespace)
    if not session.calls and entry and callable(namespace.get("check")):
        namespace["check"](namespace[entry])
    if "unittest" in sys.modules:
        _run_test_cases(namespace)


class _StandInFinder:
    """Finds numpy, which the tests of MBPP+ and HumanEval+ import for `allclose`, where only a stand-in can be had."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """Return where the stand-in lies, for this one name."""
        if name != "numpy":
            return None
        path = os.path.join(os.path.dirname(__file__), "small_numpy.py")
        return importlib.util.spec_from_file_location(name, path)


def _imported_modules(source: str) -> set[str]:
    """The modules that a source imports by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names | {name.split(".")[0] for name in names}


def _run_test_cases(namespace: dict[str, Any]) -> None:
    """Run the unittest classes that the tests define."""
    import unittest

    classes = [value for value in namespace.values() if isinstance(value, type)]
    for case in classes:
        if issubclass(case, unittest.TestCase):
            unittest.defaultTestLoader.loadTestsFromTestCase(case).debug()


def _provide_name(
    name: str, namespace: dict[str, Any], session: Session, *, is_entry: bool
) -> None:
    """A name that only the program can define; builtins, modules and what the prefix defines are never asked of it."""
    if not is_entry and (name in namespace or hasattr(builtins, name)):
        return
    if not is_entry and name in sys.stdlib_module_names:
        namespace[name] = importlib.import_module(name)
        return
    namespace.pop(name, None)
    try:
        namespace[name] = session.ask("name", None, name)
    except KeyError:
        return  # using it will be a NameError, as it would be in one process


_test_lines: list[str] = []


def _failing_line(error: BaseException) -> str:
    """The line of the tests that failed."""
    number = 0
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "<tests>" and frame.lineno:
            number = frame.lineno
    if 0 < number <= len(_test_lines):
        return _test_lines[number - 1].strip()[:_DETAIL_CHARACTERS]
    return "before the tests"
