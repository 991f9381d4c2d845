"""The methods, with their papers, the models they need and their parameters with defaults.

examples:
  potstill methods
  potstill methods orion
  potstill methods my_method.py:star
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from potstill.cli import options, show
from potstill.methods import catalogue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="one method, or one of your own (FILE.py:NAME)"
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the catalogue, or one entry of it."""
    if args.name is None:
        entries = [describe_method(name) for name in catalogue.method_names()]
        show.print_json(entries) if args.json else _print_catalogue(entries)
        return
    method = describe_method(args.name)
    show.print_json(method) if args.json else _print_method(method)


def describe_method(name: str) -> dict[str, Any]:
    """A catalogue entry as JSON values; a parameter that must be given has no default."""
    method: dict[str, Any] = catalogue.entry_to_json(catalogue.method_entry(name))
    method["parameters"] = [_drop_missing_default(value) for value in method["parameters"]]
    return method


def _drop_missing_default(parameter: Mapping[str, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in parameter.items():
        if value is not inspect.Parameter.empty:
            plain[key] = value
    if "fields" in parameter:
        plain["fields"] = [_drop_missing_default(field) for field in parameter["fields"]]
    return plain


def _print_catalogue(methods: Iterable[Mapping[str, Any]]) -> None:
    lines = []
    for method in methods:
        lines.append(
            {
                "name": method["name"],
                "title": method["title"],
                "arXiv": method["arxiv"] or show.NONE,
                "roles": ", ".join(_role_name(role) for role in method["roles"]),
            }
        )
    show.print_table(lines)
    show.print_line("potstill methods NAME lists a method's parameters")


def _role_name(role: Mapping[str, Any]) -> str:
    return f"[{role['name']}]" if role["optional"] else str(role["name"])


def _print_method(method: Mapping[str, Any]) -> None:
    show.print_line(f"{method['name']}: {method['title']}")
    roles = []
    for role in method["roles"]:
        line = {"role": _role_name(role), "needs": role["needs"], "help": role["help"] or show.NONE}
        roles.append(line)
    show.print_table(
        roles,
        title="models, given as --role NAME=SPEC, --teacher SPEC, --student SPEC ([…]: may be left out)",
    )
    parameters = []
    for parameter in method["parameters"]:
        parameters += _parameter_lines(parameter, "")
    show.print_table(parameters, title="parameters, given as --set NAME=VALUE")


def _parameter_lines(parameter: Mapping[str, Any], prefix: str) -> list[dict[str, str]]:
    """A line for a parameter, or one for each field of a settings object."""
    name = prefix + parameter["name"]
    if "fields" not in parameter:
        default = str(parameter.get("default", "must be given"))
        help_text = parameter["help"] or show.NONE
        return [{"name": name, "default": default, "type": parameter["type"], "help": help_text}]
    lines = []
    for field in parameter["fields"]:
        lines += _parameter_lines(field, f"{name}.")
    return lines
