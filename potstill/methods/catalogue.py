"""What a method is, read from its signature and docstring: name, title, paper, roles, values with defaults and help."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from potstill import plugins
from potstill.errors import ConfigError
from potstill.methods import METHODS

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_ARG = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class Value(NamedTuple):
    """A parameter after `*`: its annotation, default and help; `fields` where it is a settings object."""

    name: str
    annotation: Any
    default: Any
    help: str
    fields: tuple[Value, ...] = ()


class Role(NamedTuple):
    """A parameter before `*`: what the model in it must be able to do, and whether it may be left out."""

    name: str
    annotation: Any
    optional: bool
    help: str


class Entry(NamedTuple):
    """One method of the catalogue."""

    name: str
    title: str
    arxiv: str
    method: Callable[..., Any]
    roles: tuple[Role, ...]
    values: tuple[Value, ...]


def entry(name: str) -> Entry:
    """The catalogue entry of a method; see `find_method` for what a name may be."""
    return describe(short_name(name), find_method(name))


def short_name(name: str) -> str:
    """What a method is called in tables and folders: of `FILE.py:NAME` the name."""
    return name.rpartition(":")[2] if plugins.is_object_path(name) else name


def find_method(name: str) -> Callable[..., Any]:
    """A method by its name in the package, as an entry point of another one, or as `FILE.py:NAME`.

    Raises:
        ConfigError: nothing is called so; the nearest name is suggested.
    """
    if name in METHODS:
        return METHODS[name]
    if plugins.is_object_path(name):
        method = plugins.load_object(name)
    elif name in plugins.plugin_names("methods"):
        method = plugins.load_plugin("methods", name)
    else:
        raise ConfigError(
            f"There is no method {name!r}.",
            available=method_names(),
            wanted=name,
            fix="potstill methods lists them; a method of your own is FILE.py:NAME",
        )
    if not inspect.isgeneratorfunction(method):
        raise ConfigError(
            f"{name} is no method: it is no generator function.",
            expected="a function that yields Stage(...), as docs/adding-a-method.md shows",
        )
    return method  # type: ignore[no-any-return]


def method_names() -> list[str]:
    """The methods of the package, then those that installed packages bring."""
    return [*METHODS, *plugins.plugin_names("methods")]


def describe(name: str, method: Callable[..., Any]) -> Entry:
    """Read a method function: parameters before `*` (after the problems) are roles, after it values."""
    doc = inspect.getdoc(method) or ""
    hints, helps = typing.get_type_hints(method), _helps(method)
    roles, values = [], []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        hint, text = hints.get(parameter.name, Any), helps.get(parameter.name, "")
        if parameter.kind is parameter.KEYWORD_ONLY:
            values.append(Value(parameter.name, hint, parameter.default, text, _fields(hint)))
        else:
            roles.append(Role(parameter.name, hint, parameter.default is not parameter.empty, text))
    found = _ARXIV.search(doc) or _ARXIV.search(inspect.getdoc(inspect.getmodule(method)) or "")
    return Entry(
        name, doc.split("\n", 1)[0], found[1] if found else "", method, tuple(roles), tuple(values)
    )


def _fields(hint: Any) -> tuple[Value, ...]:
    if not dataclasses.is_dataclass(hint) or not isinstance(hint, type):
        return ()
    hints, helps = typing.get_type_hints(hint), _helps(hint)
    return tuple(
        Value(f.name, hints[f.name], f.default, helps.get(f.name, ""))
        for f in dataclasses.fields(hint)
    )


def _helps(of: Any) -> dict[str, str]:
    """Argument -> help, from the Args section of a docstring."""
    doc = inspect.cleandoc(of.__doc__ or "")  # Python 3.13 takes the indentation away itself
    section = doc.split("Args:\n", 1)[-1] if "Args:\n" in doc else ""
    return {m[1]: " ".join(m[2].split()) for m in _ARG.finditer(section)}


def as_json(found: Entry) -> dict[str, Any]:
    """An entry as plain data."""
    return {
        "name": found.name,
        "title": found.title,
        "arxiv": found.arxiv,
        "roles": [
            {
                "name": r.name,
                "needs": type_name(r.annotation),
                "optional": r.optional,
                "help": r.help,
            }
            for r in found.roles
        ],
        "parameters": [_value(v) for v in found.values],
    }


def _value(value: Value) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": value.name,
        "type": type_name(value.annotation),
        "help": value.help,
    }
    if value.fields:
        return plain | {"fields": [_value(f) for f in value.fields]}
    return plain | {"default": value.default}


def type_name(hint: Any) -> str:
    """An annotation as a reader writes it."""
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(a) for a in typing.get_args(hint))
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b[\w.]+\.(\w+)", r"\1", text)
