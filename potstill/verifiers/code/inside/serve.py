"""The candidate's side: run the program, then serve calls to what it defines. Nothing here is trusted by the tests.

It never holds the tests or what they expect: only arguments arrive, and only data and handles leave.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from potstill.verifiers.code.inside.confine import confine
from potstill.verifiers.code.inside.protocol import Broken, Link, Reader, Writer

# The module's name: not "__main__", so that a demonstration at the end does not run.
MODULE_NAME = "answer"
SYNTAX, MEMORY = 65, 66  # exit statuses of a whole program


def read_job(fd: int) -> dict[str, Any]:
    """Return the job that the parent left in a file, which is closed afterwards."""
    with open(fd, "rb") as file:
        job: dict[str, Any] = json.load(file)
    return job


def prepare(limits: dict[str, Any]) -> None:
    """Confine this process; without `site`, `exit` and `quit` have to be put where programs expect them."""
    import _sitebuiltins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    sys.set_int_max_str_digits(0)  # contests print integers of any length; the time limit holds
    confine(limits)


def compile_first(variants: Sequence[Sequence[str]]) -> list[types.CodeType]:
    """Compile the first variant of the program that can be: one code object a part.

    Raises:
        SyntaxError: none can be; the first one's error.
    """
    first_error: Exception | None = None
    for variant in variants:
        try:
            return [compile(part, "<answer>", "exec", dont_inherit=True) for part in variant]
        except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
            first_error = first_error or error
    raise SyntaxError(str(first_error))


def program(fd: int) -> None:
    """Run the program as `__main__` on its own standard input and output."""
    job = read_job(fd)
    prepare(job["limits"])
    try:
        codes = compile_first(job["variants"])
    except (SyntaxError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(SYNTAX)
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        for code in codes:
            exec(code, module.__dict__)
    except MemoryError:
        print("MemoryError", file=sys.stderr)
        sys.stderr.flush()
        os._exit(MEMORY)


def serve(fd: int, link_fd: int) -> None:
    """Run the program as a module, then answer calls until the tests hang up."""
    job = read_job(fd)
    link = Link(link_fd)
    prepare(job["limits"])
    module = sys.modules[MODULE_NAME] = types.ModuleType(MODULE_NAME)
    try:
        codes = compile_first(job["variants"])
    except (SyntaxError, MemoryError) as error:
        link.send({"failed": "SyntaxError", "why": str(error)[:300]})
        return
    try:
        for code in codes:
            exec(code, module.__dict__)
    except BaseException as error:  # boundary: whatever the program raises is its result
        link.send(_failure_message(error))
        return
    link.send({"ready": True})
    server = _Server(link, module)
    while (request := link.receive()) is not None:
        link.send(server.answer(request))


def _failure_message(error: BaseException) -> dict[str, Any]:
    """An exception as data: the name of its most special builtin class, its own class's name, and its arguments."""
    builtin_names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        args: list[Any] = []
        for argument in error.args[:5]:
            is_plain = isinstance(argument, str | int | float | bool | None)
            args.append(argument if is_plain else str(argument)[:1000])
        args = json.loads(json.dumps(args)[:20_000])
    except Exception as raised_again:  # boundary: a hostile __str__
        args = [type(raised_again).__name__]
    return {
        "failed": builtin_names[0] if builtin_names else "Exception",
        "kind": type(error).__name__[:100],
        "args": args,
    }


class _Server:
    """Things of the program that the tests hold by number, and the operations on them."""

    def __init__(self, link: Link, module: types.ModuleType) -> None:
        """Serve what a module defines."""
        self.link, self.module = link, module
        self.exported: list[Any] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to one request: the result, and what became of the arguments."""
        reader = Reader(self._resolve)
        args = reader.get(request["args"])
        options = reader.get(request["options"])
        arguments = list(reader.objects)
        try:
            target = self._target(request["target"])
            result = _OPERATIONS[request["op"]](target, *args, **options)
            writer = Writer(self._export, arguments)
            value = writer.put(result)
            return {"value": value, "state": [writer.content(item) for item in arguments]}
        except Broken as error:
            return {"failed": "TypeError", "args": [str(error)]}
        except BaseException as error:  # boundary: whatever the program raises is its result
            return _failure_message(error)

    def callback(self, number: int) -> Callable[..., Any]:
        """Return a function of the tests: calling it asks them, with plain data both ways."""

        def call_tests(*args: Any) -> Any:
            self.link.send({"call": number, "args": Writer(self._export).put(list(args))})
            while (message := self.link.receive()) is not None:
                if "target" in message:  # the function of the tests calls us in its turn
                    self.link.send(self.answer(message))
                    continue
                if "value" in message:
                    return Reader(self._resolve).get(message["value"])
                raise getattr(builtins, message["failed"], Exception)(*message["args"])
            raise SystemExit("the tests hung up")

        return call_tests

    def _target(self, target: Any) -> Any:
        if isinstance(target, int):
            return self.exported[target]
        return self.module

    def _export(self, value: Any) -> list[Any]:
        """A thing that is no data, by its number here."""
        for number, item in enumerate(self.exported):
            if item is value:
                return ["h", number]
        self.exported.append(value)
        return ["h", len(self.exported) - 1]

    def _resolve(self, value: list[Any]) -> Any:
        tag, content = value
        if tag == "h":
            return self.exported[content]
        if tag == "g":
            return getattr(builtins, content)
        if tag == "F":
            return self.callback(content)
        raise Broken("not a value")


def _module_name(module: Any, name: str) -> Any:
    return vars(module)[name]


def _set_item(target: Any, key: Any, value: Any) -> None:
    target[key] = value


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "name": _module_name,
    "call": lambda target, *args, **options: target(*args, **options),
    "get": getattr,
    "set": setattr,
    "item": lambda target, key: target[key],
    "put": _set_item,
    "delete": lambda target, key: target.__delitem__(key),
    "length": len,
    "iterate": iter,
    "next": next,
    "text": str,
    "repr": repr,
    "truth": bool,
    "equal": lambda target, other: bool(target == other),
    "callable": callable,
    "isinstance": lambda target, other: isinstance(other, target),
    "enter": lambda target: target.__enter__(),
    "exit": lambda target: target.__exit__(None, None, None),
}
