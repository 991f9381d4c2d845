"""The methods: families, the methods of one, or one method with what it asks, shows, needs and cites.

Calls are counted and prompts are shown from a rehearsal on eight stories of the built-in world, with scripted models.

examples:
  potstill methods
  potstill methods errors
  potstill methods --needs teacher,student
  potstill methods --search "shorter chains without losing accuracy"
  potstill methods orion
  potstill methods my_method.py:star
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from potstill import plugins
from potstill.cli import options, show
from potstill.errors import ConfigError
from potstill.methods import METHODS, listing
from potstill.methods.docstring import LEARNS_FROM
from potstill.methods.listing import MethodListing
from potstill.methods.search import search_methods

if TYPE_CHECKING:
    from potstill.runs.rehearsal import Rehearsal

SHOWN_LINES = 24  # of a prompt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a family, a method, or one of your own (FILE.py:NAME)",
    )
    parser.add_argument(
        "--needs",
        metavar="ROLES",
        help="only the methods that run with models in these roles and in no others: teacher,student",
    )
    parser.add_argument(
        "--search",
        metavar="QUESTION",
        help="the methods that fit a question in plain words best, the best first (ten at most); docs/methods.md says "
        "which method when",
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the families, some methods, or one."""
    families = listing.list_families()
    is_filtered = args.needs is not None or args.search is not None
    if args.name is None and not is_filtered:
        _show_families(families.values(), as_json=args.json)
    elif args.name is None or args.name in families:
        listings = list(listing.list_methods().values())
        if args.name is not None:
            listings = [method for method in listings if method.family == args.name]
        listings = _with_roles(listings, args)
        unknown_words: Sequence[str] = ()
        if args.search is not None:
            result = search_methods(listings, args.search, families)
            listings, unknown_words = result.methods, result.unknown_words
        _show_listings(listings, as_json=args.json)
        if unknown_words and not args.json:
            show.print_line(f"no method speaks of: {', '.join(unknown_words)}")
        elif args.search and not listings and not args.json:
            show.print_line("say what you have, or what goes wrong: the words fit every method")
    elif is_filtered:
        raise ConfigError(
            f"--needs and --search choose among methods, and {args.name} is no family.",
            available=families,
            wanted=args.name,
        )
    else:
        _show_method(args.name, families, as_json=args.json)


def _with_roles(listings: Sequence[MethodListing], args: argparse.Namespace) -> list[MethodListing]:
    if args.needs is None:
        return list(listings)
    # A role that no method has is a slip of the pen, not a filter that lets nothing through.
    roles = [role.strip() for role in args.needs.split(",")]
    known_roles = sorted({role.name for method in listings for role in method.roles})
    for role in roles:
        if role not in known_roles:
            raise ConfigError(
                f"--needs {args.needs}: no method has a role {role!r}.",
                available=known_roles,
                wanted=role,
            )
    return listing.with_roles(listings, roles)


def _show_families(families: Iterable[listing.FamilyListing], *, as_json: bool) -> None:
    other_methods = plugins.plugin_names("methods")
    if as_json:
        documents = [dataclasses.asdict(family) for family in families]
        show.print_json({"families": documents, "other_packages": other_methods})
        return
    rows: list[dict[str, Any]] = []
    for family in families:
        rows.append(
            {
                "family": family.name,
                "methods": len(family.methods),
                "begin with": family.begin_with or show.NONE,
                "the student learns from": family.learns_from,
            }
        )
    show.print_table(rows)
    if other_methods:
        show.print_line(f"from other packages: {', '.join(other_methods)}")
    show.print_line(
        "potstill methods FAMILY lists its methods, potstill methods NAME tells all of one, "
        'potstill methods --search "chains are too long" finds those that fit'
    )


def _show_listings(listings: Sequence[MethodListing], *, as_json: bool) -> None:
    if as_json:
        show.print_json([_listing_to_json(method) for method in listings])
        return
    rows: list[dict[str, str]] = []
    for method in listings:
        rows.append(
            {
                "name": method.name,
                "title": method.text.title,
                "models": ", ".join(_role_name(role._asdict()) for role in method.roles),
                "paper": method.text.exactness,
                "arXiv": method.text.arxiv or show.NONE,
                "family": method.family,
            }
        )
    show.print_table(rows)
    if not rows:
        show.print_line("no method")
    show.print_line("potstill methods NAME tells all of one")


def _listing_to_json(method: MethodListing) -> dict[str, Any]:
    return {
        "name": method.name,
        "family": method.family,
        "title": method.text.title,
        "arxiv": method.text.arxiv,
        "learns_from": method.text.section(LEARNS_FROM),
        "exactness": method.text.exactness,
        "roles": [role._asdict() for role in method.roles],
    }


def _show_method(name: str, families: Iterable[str], *, as_json: bool) -> None:
    from potstill.methods import catalogue
    from potstill.runs.rehearsal import rehearse_method

    names = catalogue.method_names()
    if name not in names and not plugins.is_object_path(name):
        raise ConfigError(
            f"There is no method or family {name!r}.",
            available=[*names, *families],
            wanted=name,
            fix="potstill methods lists them, "
            f"potstill methods --search {shlex.quote(name)} asks what fits",
        )
    entry = catalogue.method_entry(name)
    rehearsal = rehearse_method(entry)
    document = describe_method(name)
    document["siblings"] = _siblings(entry.name, entry.family)
    document["rehearsal"] = _rehearsal_to_json(rehearsal)
    if as_json:
        show.print_json(document)
    else:
        _print_method(document, rehearsal)


def _siblings(name: str, family: str) -> list[str]:
    return [
        file.name for file in METHODS.files.values() if file.family == family and file.name != name
    ]


def _rehearsal_to_json(rehearsal: Rehearsal) -> dict[str, Any]:
    rows = [{"objective": objective, "rows": rows} for objective, rows in rehearsal.rows]
    return {
        "cost_class": rehearsal.cost_class,
        "calls": dict(rehearsal.calls),
        "answer_calls": dict(rehearsal.answer_calls),
        "stages": rows,
        "shown": [prompt._asdict() for prompt in rehearsal.shown],
        "learner_prompts": [prompt._asdict() for prompt in rehearsal.learner_prompts],
        "stopped": rehearsal.stopped,
    }


def describe_method(name: str) -> dict[str, Any]:
    """A catalogue entry as JSON values; a parameter that must be given has no default."""
    from potstill.methods import catalogue

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


def _role_name(role: Mapping[str, Any]) -> str:
    return f"[{role['name']}]" if role["optional"] else str(role["name"])


def _print_method(method: Mapping[str, Any], rehearsal: Rehearsal) -> None:
    show.print_line(f"{method['name']}: {method['title']}")
    show.print_line(f"the student learns from {method['learns_from'] or show.NONE}")
    show.print_line(f"against the paper: {_exactness(method)}")
    if method["family"]:
        siblings = ", ".join(method["siblings"]) or "none"
        show.print_line(f"family: {method['family']}; siblings: {siblings}")
    show.print_line(f"cost class: {_cost(rehearsal)}")
    meanings = {item["name"].strip("[]"): item["meaning"] for item in method["needs"]}
    roles = []
    for role in method["roles"]:
        roles.append(
            {
                "role": _role_name(role),
                "needs": role["needs"],
                "it": meanings.get(role["name"]) or show.NONE,
                "calls a problem": _count(rehearsal.calls.get(role["name"], 0)),
                "help": role["help"] or show.NONE,
            }
        )
    show.print_table(
        roles,
        title="models, given as --role NAME=SPEC, --teacher SPEC, --student SPEC ([…]: may be left out)",
    )
    # Values, a settings object by its fields; then the arms that a comparison needs.
    parameters = []
    for parameter in method["parameters"]:
        parameters += _parameter_lines(parameter, "")
    show.print_table(parameters, title="parameters, given as --set NAME=VALUE")
    controls = []
    for item in method["controls"]:
        controls.append({"control": item["name"], "what it shows": item["meaning"] or show.NONE})
    show.print_table(controls, title="control arms, given as --set NAME=VALUE")
    _print_rehearsal(rehearsal)
    if method["bibtex"]:
        show.print_line()
        show.print_block(method["bibtex"])


def _exactness(method: Mapping[str, Any]) -> str:
    parts = [str(method["exactness"])]
    for name in ("departure", "partial"):
        if method[name]:
            parts.append(f"{name}: {method[name]}")
    return "; ".join(parts)


def _cost(rehearsal: Rehearsal) -> str:
    calls = ", ".join(f"{role} {_count(count)}" for role, count in rehearsal.calls.items())
    text = f"{rehearsal.cost_class}; calls a problem in a rehearsal with the defaults: {calls or 'none'}"
    answer_calls = rehearsal.answer_calls
    if answer_calls:
        answer = ", ".join(f"{role} {_count(count)}" for role, count in answer_calls.items())
        text += f"; calls an answer at test time: {answer}"
    if rehearsal.stopped:
        text += f"; the rehearsal stopped, and what comes later is not counted: {rehearsal.stopped}"
    return text


def _count(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _print_rehearsal(rehearsal: Rehearsal) -> None:
    for example in rehearsal.shown:
        show.print_line(f"\n{example.role} is shown, for example:")
        show.print_block(_shorten(example.prompt))
        if example.prefix:
            show.print_line("and goes on from:")
            show.print_block(_shorten(example.prefix))
    for learner_prompt in rehearsal.learner_prompts:
        show.print_line(f"\nthe learner sees, in {100 * learner_prompt.share:.0f} % of the rows:")
        show.print_block(_shorten(learner_prompt.prompt))


def _shorten(text: str) -> str:
    """The beginning and the end of a long prompt: instructions stand at the one, the problem often at the other."""
    lines = text.split("\n")
    if len(lines) <= SHOWN_LINES:
        return text
    half = SHOWN_LINES // 2
    left_out = f"… {len(lines) - 2 * half} lines …"
    return "\n".join([*lines[:half], left_out, *lines[-half:]])


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
