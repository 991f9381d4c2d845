"""Functions and the values that they bring along, as plain values that have a canonical form.

A function is its name, its syntax tree and its values: what it takes by default, what it closed over, and the constants
and functions of its own module that it names. So a comment or a line break changes nothing, and k=3 and k=5 differ
wherever they stand. A model is its id; any other object its class and attributes, never its address.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, final

MAX_DEPTH = 16  # of what a function's values hold, one inside the other


def plain_function(function: Callable[..., Any]) -> list[Any]:
    """A function as [name, syntax tree], with its values as a third item where it has some; a partial as its parts."""
    return _Describer().function(function)


def plain_value(value: Any) -> Any:
    """Any value as one that has a canonical form."""
    return _Describer().value(value, 0)


@final
class _Describer:
    """Describes a value with all that it holds; an object or a function that occurs again is named, not repeated."""

    def __init__(self) -> None:
        # By address, with the object: no other one gets its address as long as it is held.
        self._described: dict[int, tuple[int, Any]] = {}

    def function(self, function: Callable[..., Any], depth: int = 0) -> list[Any]:
        """A function by its code and values."""
        if isinstance(function, functools.partial):
            arguments = [self.value(value, depth + 1) for value in function.args]
            keywords = self.value(function.keywords, depth + 1)
            return [self.function(function.func, depth + 1), arguments, keywords]
        self._note(function)
        name = getattr(function, "__qualname__", type(function).__name__)
        values = self._values_of(function, depth)
        description = [name, syntax_tree(function)]
        return [*description, values] if values else description

    def value(self, value: Any, depth: int) -> Any:
        """A value by its content."""
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if depth > MAX_DEPTH:
            return f"a {type(value).__qualname__}"
        if isinstance(value, Mapping):
            return {str(key): self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, set | frozenset):
            return sorted((self.value(item, depth + 1) for item in value), key=repr)
        if isinstance(value, functools.partial):
            return self.function(value, depth)
        if id(value) in self._described:
            number, _ = self._described[id(value)]
            return f"number {number} again"  # a function that calls itself, say
        self._note(value)
        if inspect.isfunction(value) or inspect.ismethod(value):
            return self.function(value, depth)
        return self._object(value, depth)

    def _note(self, described: Any) -> None:
        self._described.setdefault(id(described), (len(self._described), described))

    def _object(self, value: Any, depth: int) -> Any:
        if callable(getattr(value, "write", None)) and isinstance(getattr(value, "id", None), str):
            return {"model": value.id}
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, re.Pattern):
            return [str(value.pattern), value.flags]
        if inspect.isclass(value) or inspect.ismodule(value) or inspect.isbuiltin(value):
            return getattr(value, "__qualname__", value.__name__)
        if callable(getattr(value, "tobytes", None)):  # an array
            return hashlib.sha256(value.tobytes()).hexdigest()
        attributes = self._attributes(value, depth)
        shown = repr(value)
        if not attributes and " at 0x" not in shown:
            return shown  # a date, a fraction: what has no attributes says itself what it is
        return [type(value).__qualname__, attributes]

    def _attributes(self, value: Any, depth: int) -> dict[str, Any]:
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value) if field.repr]
        else:
            names = list(getattr(value, "__dict__", ()))
        return {name: self.value(getattr(value, name), depth + 1) for name in names}

    def _values_of(self, function: Any, depth: int) -> dict[str, Any]:
        """The values that a function brings along, by the name under which it uses them."""
        owner = getattr(function, "__self__", None)
        inner = getattr(function, "__func__", function)
        code = getattr(inner, "__code__", None)
        values: dict[str, Any] = {}
        if code is None:
            # A callable object: its attributes. Built-in functions have none.
            return values if inspect.isbuiltin(function) else self._attributes(function, depth)
        if owner is not None and not inspect.ismodule(owner):
            values["self"] = self.value(owner, depth + 1)
        for name, value in _defaults(inner).items():
            values[f"default {name}"] = self.value(value, depth + 1)
        for name, cell in zip(code.co_freevars, inner.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # the name has no value yet
                content = None
            values[f"closure {name}"] = self.value(content, depth + 1)
        # Of the package's own functions the version is recorded.
        if not inner.__module__ or inner.__module__.split(".")[0] != "potstill":
            for name, value in _named_globals(inner).items():
                values[f"global {name}"] = self.value(value, depth + 1)
        return values


def syntax_tree(function: Any) -> str:
    """The syntax tree of a function's source; of several lambdas in one line also what tells them apart."""
    is_object = not callable(getattr(function, "__get__", None))
    is_object = is_object and not inspect.isbuiltin(function)
    code = getattr(function, "__code__", None)
    try:
        source = inspect.getsource(type(function) if is_object else function)
        tree = ast.parse(textwrap.dedent(source))
    except (OSError, TypeError, SyntaxError):
        if code is None:
            return str(getattr(function, "__module__", ""))
        # Typed in, or part of a line: its bytecode, constants and names, which comments are no part of.
        return f"{function.__module__} {code.co_code.hex()} {_names_and_constants(code)}"
    lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    if code is not None and code.co_name == "<lambda>" and len(lambdas) > 1:
        return f"{ast.dump(tree)} {_names_and_constants(code)}"
    return ast.dump(tree)


def _names_and_constants(code: CodeType) -> str:
    constants = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constants.append(_names_and_constants(constant))
        else:
            constants.append(repr(constant))
    return f"{code.co_names} {constants}"


def _defaults(function: Any) -> dict[str, Any]:
    """What the parameters of a function are where they are not given."""
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    by_position = zip(reversed(parameters), reversed(defaults), strict=False)
    return {**dict(by_position), **(function.__kwdefaults__ or {})}


def _named_globals(function: Any) -> dict[str, Any]:
    """Constants and functions of a function's own module that it names; what may change while it runs is left out."""
    found: dict[str, Any] = {}
    for name in sorted(_global_names(function.__code__)):
        value = function.__globals__.get(name)
        is_constant = isinstance(value, str | bytes | int | float | tuple | frozenset | re.Pattern)
        is_table = name.isupper() and isinstance(value, list | dict | set)
        is_own_function = inspect.isfunction(value) and value.__module__ == function.__module__
        if is_constant or is_table or is_own_function or isinstance(value, functools.partial):
            found[name] = value
    return found


def _global_names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names
