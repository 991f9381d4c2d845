"""What is known of methods without importing them: their files are read, so that a hundred are listed at once."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from potstill.methods import METHODS
from potstill.methods.discovery import MethodFile, MethodFolders, missing_function
from potstill.methods.docstring import BEGIN_WITH, MethodText, read_section


class ListedRole(NamedTuple):
    """A role's name, and whether it may be left out."""

    name: str
    optional: bool


@dataclass(frozen=True, slots=True)
class MethodListing:
    """A method as its file says.

    Args:
        name: of the method.
        family: that it belongs to.
        text: its docstrings.
        roles: in the order of the signature.
    """

    name: str
    family: str
    text: MethodText
    roles: tuple[ListedRole, ...]

    @property
    def needed_roles(self) -> list[str]:
        """The roles that must be filled."""
        return [role.name for role in self.roles if not role.optional]


@dataclass(frozen=True, slots=True)
class FamilyListing:
    """A family of methods.

    Args:
        name: its folder.
        learns_from: what the student learns from.
        begin_with: the method to begin with; "" where the family has none.
        methods: in the order of names.
    """

    name: str
    learns_from: str
    begin_with: str
    methods: tuple[str, ...]


def list_methods(methods: MethodFolders = METHODS) -> dict[str, MethodListing]:
    """Every method of the package by name."""
    return {name: read_method(file) for name, file in methods.files.items()}


def list_families(methods: MethodFolders = METHODS) -> dict[str, FamilyListing]:
    """Every family by name, those without a method too."""
    families: dict[str, FamilyListing] = {}
    for name, folder in methods.families.items():
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
        members = [file.name for file in methods.files.values() if file.family == name]
        learns_from = " ".join(doc.partition("\n\n")[0].split())
        begin_with = read_section(doc, BEGIN_WITH)
        families[name] = FamilyListing(name, learns_from, begin_with, tuple(members))
    return families


@cache
def read_method(file: MethodFile) -> MethodListing:
    """Read a method's file.

    Raises:
        ConfigError: it has no function of its name.
    """
    tree = ast.parse(file.path.read_text("utf-8"))
    if file.line is not None:
        text = MethodText(file.line.docstring, ast.get_docstring(tree) or "")
        roles = tuple(ListedRole(name, optional=False) for name in file.line.roles)
        return MethodListing(file.name, file.family, text, roles)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == file.name:
            text = MethodText(ast.get_docstring(node) or "", ast.get_docstring(tree) or "")
            return MethodListing(file.name, file.family, text, read_roles(node))
    raise missing_function(file)


def read_roles(function: ast.FunctionDef) -> tuple[ListedRole, ...]:
    """The parameters between the problems and `*`."""
    parameters = [*function.args.posonlyargs, *function.args.args]
    first_optional = len(parameters) - len(function.args.defaults)
    roles: list[ListedRole] = []
    for place, parameter in enumerate(parameters):
        if place > 0:
            roles.append(ListedRole(parameter.arg, optional=place >= first_optional))
    return tuple(roles)


def with_roles(listings: Iterable[MethodListing], roles: Collection[str]) -> list[MethodListing]:
    """The methods that run with models in these roles and in no others."""
    return [listing for listing in listings if set(listing.needed_roles) <= set(roles)]
