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
from potstill.methods.docstring import (
    DEPARTURE,
    LEARNS_FROM,
    PARTIAL,
    MethodText,
    bibtex,
    parse_args_section,
)
from potstill.methods.role_annotations import Role, make_role


class Value(NamedTuple):
    """A parameter after `*`: its annotation, default and help; `fields` where it is a settings object."""

    name: str
    annotation: Any
    default: Any
    help: str
    fields: tuple[Value, ...] = ()


class MethodEntry(NamedTuple):
    """One method of the catalogue.

    Args:
        name: of the method.
        title: the first line of its docstring.
        arxiv: the number of its paper.
        method: the function.
        roles: its parameters before `*`, without the problems.
        values: those after it.
        family: "" of a method that is not of the package.
        text: its docstrings.
    """

    name: str
    title: str
    arxiv: str
    method: Callable[..., Any]
    roles: tuple[Role, ...]
    values: tuple[Value, ...]
    family: str = ""
    text: MethodText = MethodText("")


def method_entry(name: str) -> MethodEntry:
    """The catalogue entry of a method; see `find_method` for what a name may be."""
    return describe_method(short_name(name), find_method(name))


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


def describe_method(name: str, method: Callable[..., Any]) -> MethodEntry:
    """Read a method function: parameters before `*` (after the problems) are roles, after it values."""
    text = MethodText(inspect.getdoc(method) or "", inspect.getdoc(inspect.getmodule(method)) or "")
    hints = typing.get_type_hints(method)
    role_hints = typing.get_type_hints(method, include_extras=True)
    help_texts = parse_args_section(method)
    roles: list[Role] = []
    values: list[Value] = []
    _, *parameters = inspect.signature(method).parameters.values()
    for parameter in parameters:
        hint = hints.get(parameter.name, Any)
        help_text = help_texts.get(parameter.name, "")
        if parameter.kind is parameter.KEYWORD_ONLY:
            fields = settings_fields(hint, parameter.default)
            values.append(Value(parameter.name, hint, parameter.default, help_text, fields))
        else:
            is_optional = parameter.default is not parameter.empty
            role_hint = role_hints.get(parameter.name, Any)
            roles.append(
                make_role(parameter.name, role_hint, optional=is_optional, help_text=help_text)
            )
    is_of_package = name in METHODS and METHODS[name] is method
    return MethodEntry(
        name=name,
        title=text.title,
        arxiv=text.arxiv,
        method=method,
        roles=tuple(roles),
        values=tuple(values),
        family=METHODS.files[name].family if is_of_package else "",
        text=text,
    )


def settings_fields(hint: Any, settings: Any) -> tuple[Value, ...]:
    """The fields of a settings object with their help; nothing for any other annotation.

    Args:
        hint: the parameter's annotation.
        settings: its default, whose fields may differ from those of the class.
    """
    if not dataclasses.is_dataclass(hint) or not isinstance(hint, type):
        return ()
    hints = typing.get_type_hints(hint)
    help_texts = parse_args_section(hint)
    fields: list[Value] = []
    for field in dataclasses.fields(hint):
        help_text = help_texts.get(field.name, "")
        default = getattr(settings, field.name, field.default)
        fields.append(Value(field.name, hints[field.name], default, help_text))
    return tuple(fields)


def entry_to_json(entry: MethodEntry) -> dict[str, Any]:
    """An entry as plain data."""
    roles: list[dict[str, Any]] = []
    for role in entry.roles:
        roles.append(
            {
                "name": role.name,
                "needs": type_name(role.hint),
                "optional": role.optional,
                "help": role.help,
            }
        )
    text = entry.text
    return {
        "name": entry.name,
        "family": entry.family,
        "title": entry.title,
        "arxiv": entry.arxiv,
        "learns_from": text.section(LEARNS_FROM),
        "needs": [item._asdict() for item in text.needs],
        "controls": [item._asdict() for item in text.controls],
        "exactness": text.exactness,
        "departure": text.section(DEPARTURE),
        "partial": text.section(PARTIAL),
        "bibtex": bibtex(entry.name, text),
        "roles": roles,
        "parameters": [value_to_json(value) for value in entry.values],
    }


def value_to_json(value: Value) -> dict[str, Any]:
    """A parameter as plain data: with its default, or the fields of its settings object."""
    document: dict[str, Any] = {
        "name": value.name,
        "type": type_name(value.annotation),
        "help": value.help,
    }
    if value.fields:
        document["fields"] = [value_to_json(field) for field in value.fields]
    else:
        document["default"] = value.default
    return document


def type_name(hint: Any) -> str:
    """An annotation as a reader writes it."""
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(option) for option in typing.get_args(hint))
    text = str(hint)
    if isinstance(hint, type) and not typing.get_args(hint):
        text = hint.__name__
    # Names without the modules before them.
    return re.sub(r"\b[\w.]+\.(\w+)", r"\1", text)
