"""The tree of errors: critiques by kind of error, whose kinds are split and added to as new critiques come."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from potstill.traces import chance

ErrorTree: TypeAlias = Mapping[str, Sequence[str]]
"""The critiques of each leaf, by its path from the root: "sub-table error -> row error"."""

ARROW = " -> "
RANDOM = "random"
SHOWN = 5  # critiques at once
LONGEST_NAME = 60
_NAME = re.compile(r"[^()<>\n]{1,200}")


def show_tree(tree: ErrorTree) -> str:
    """The paths of the leaves, one a line."""
    return "\n".join(tree)


def choose_templates(tree: ErrorTree, route: str, key: str) -> list[str]:
    """Some critiques of a leaf by chance; of the whole tree where the route is no leaf.

    Args:
        tree: of errors.
        route: a leaf's path, or RANDOM.
        key: another one chooses others.
    """
    # Without a route the critic sees critiques of all kinds.
    templates = list(tree.get(route, ()))
    if not templates:
        for of_leaf in tree.values():
            templates += of_leaf
    return sorted(templates, key=lambda template: chance("template", key, template))[:SHOWN]


def add_template(tree: ErrorTree, route: str, template: str) -> dict[str, Sequence[str]]:
    """The tree with one more critique at a leaf."""
    return {**tree, route: (*tree[route], template)}


def split_leaf(
    tree: ErrorTree, route: str, names: Sequence[str], template: str
) -> dict[str, Sequence[str]]:
    """The tree with two leaves in the place of one: the first has its critiques, the second the new one."""
    # In the place of the leaf, so that the order of the paths stays.
    grown: dict[str, Sequence[str]] = {}
    for path, templates in tree.items():
        if path == route:
            grown[f"{route}{ARROW}{names[0]}"] = templates
            grown[f"{route}{ARROW}{names[1]}"] = (template,)
        else:
            grown[path] = templates
    return grown


def extend_tree(tree: ErrorTree, path: str, template: str) -> dict[str, Sequence[str]]:
    """The tree with a new leaf at the first name of a path that it does not have; unchanged behind a leaf."""
    branch: list[str] = []
    for name in read_names(path.split("->")):
        branch.append(name)
        route = ARROW.join(branch)
        if route in tree:
            break  # a leaf has no branches beside its critiques
        if not any(leaf.startswith(route + ARROW) for leaf in tree):
            return {**tree, route: (template,)}
    return dict(tree)


def read_names(texts: Sequence[str]) -> list[str]:
    """Names of kinds of error as a tree can have them: one line each, no marks of a path, not too long."""
    # Names are written by a model and stand in later prompts: what could be read as a path or a mark is none.
    names: list[str] = []
    for text in texts:
        name = " ".join(text.split())
        if _NAME.fullmatch(name) and len(name) <= LONGEST_NAME and "->" not in name:
            names.append(name)
    return names
