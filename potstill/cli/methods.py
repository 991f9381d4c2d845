"""The methods, with their papers, the models they need and their parameters with defaults.

examples:
  potstill methods
  potstill methods orion
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from potstill.cli import options, show
from potstill.errors import ConfigError
from potstill.methods import METHODS, catalogue


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one method, with its parameters")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the catalogue, or one entry of it."""
    if args.name is None:
        entries = [plain(name) for name in METHODS]
        show.document(entries) if args.json else _listed(entries)
        return
    if args.name not in METHODS:
        raise ConfigError(
            f"no method called {args.name!r}",
            available=METHODS,
            wanted=args.name,
            fix="potstill methods",
        )
    found = plain(args.name)
    show.document(found) if args.json else _told(found)


def plain(name: str) -> dict[str, Any]:
    """A catalogue entry as JSON values; a parameter that must be given has no default."""
    found: dict[str, Any] = catalogue.as_json(catalogue.entry(name))
    found["parameters"] = [_without_empty(value) for value in found["parameters"]]
    return found


def _without_empty(value: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: item for key, item in value.items() if item is not inspect.Parameter.empty}
    return (
        kept | {"fields": [_without_empty(field) for field in value["fields"]]}
        if "fields" in value
        else kept
    )


def _listed(entries: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        {
            "name": e["name"],
            "title": e["title"],
            "arXiv": e["arxiv"] or "–",
            "roles": ", ".join(map(_role, e["roles"])),
        }
        for e in entries
    ]
    show.table(rows)
    show.say("potstill methods NAME lists a method's parameters")


def _role(role: Mapping[str, Any]) -> str:
    return f"[{role['name']}]" if role["optional"] else str(role["name"])


def _told(found: Mapping[str, Any]) -> None:
    show.say(f"{found['name']}: {found['title']}")
    roles = [
        {"role": _role(r), "needs": r["needs"], "help": r["help"] or "–"} for r in found["roles"]
    ]
    show.table(roles, title="models, given as --ROLE SPEC ([…]: may be left out)")
    values = [row for value in found["parameters"] for row in _rows(value, "")]
    show.table(values, title="parameters, given as --set NAME=VALUE")


def _rows(value: Mapping[str, Any], where: str) -> list[dict[str, str]]:
    name = where + value["name"]
    if "fields" in value:
        return [row for field in value["fields"] for row in _rows(field, f"{name}.")]
    default = value.get("default", "must be given")
    return [
        {"name": name, "default": str(default), "type": value["type"], "help": value["help"] or "–"}
    ]
