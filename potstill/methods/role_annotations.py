"""The roles of a method: what their annotations ask of a model, and the models that play them.

An annotation is a Protocol of `models.model` (`Model`, `Scored`, `Trainable`), one that joins several of them, such as
`class Mentor(Trainable, Scored, Protocol)`, or `Annotated[Trainable, Scored]`; each may stand in `list[…]` or with
`| None`. Models are held by key: the role's name, or for a list `NAME.1`, `NAME.2`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Role(NamedTuple):
    """A parameter before `*`: what the model in it must be able to do, and whether it may be left out.

    Args:
        name: of the parameter.
        annotation: what the models must be able to do; of a list that of each of its models.
        optional: whether the parameter has a default.
        help: from the docstring.
        is_list: whether several models play it.
        hint: the whole annotation, as it is shown.
    """

    name: str
    annotation: Any
    optional: bool
    help: str
    is_list: bool = False
    hint: Any = None


def make_role(name: str, hint: Any, *, optional: bool, help_text: str) -> Role:
    """The role that a parameter's annotation describes."""
    annotation = _without_none(hint)
    is_list = typing.get_origin(annotation) in (list, tuple, Sequence)
    if is_list:
        annotation = typing.get_args(annotation)[0]
    return Role(name, annotation, optional, help_text, is_list, hint)


def missing_abilities(model: Any, annotation: Any) -> list[str]:
    """The names of the Protocols that a role asks for and a model does not have; of alternatives the fewest."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        alternatives = typing.get_args(annotation)
        return min((missing_abilities(model, one) for one in alternatives), key=len)
    missing: list[str] = []
    for protocol in _protocols_in(annotation):
        is_missing = not isinstance(model, protocol)
        # The attribute may be there without a checkpoint in it.
        if hasattr(protocol, "weights") and getattr(model, "weights", None) is None:
            is_missing = True
        # Of a Protocol that joins others, the parts that are missing say it all.
        is_said = any(base.__name__ in missing for base in protocol.__mro__)
        if is_missing and not is_said:
            missing.append(protocol.__name__)
    return missing


def needs_weights(annotation: Any) -> bool:
    """Whether a role asks for weights that a stage can train."""
    return any(hasattr(protocol, "weights") for protocol in _protocols_in(annotation))


def _protocols_in(annotation: Any) -> list[type]:
    """The Protocols that an annotation names, those that they are made of before themselves."""
    if typing.get_origin(annotation) is typing.Annotated:
        protocols: list[type] = []
        for part in typing.get_args(annotation):
            protocols += _protocols_in(part)
        return protocols
    if not isinstance(annotation, type):
        return []
    protocols = []
    for base in reversed(annotation.__mro__):
        is_checked = getattr(base, "_is_protocol", False) and getattr(
            base, "_is_runtime_protocol", False
        )
        if is_checked and base not in (Protocol, Generic):
            protocols.append(base)
    return protocols


def _without_none(hint: Any) -> Any:
    """An annotation without `| None`."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    without = members[0]
    for member in members[1:]:
        without = without | member
    return without


# Models by key.


def role_of(key: str) -> str:
    """The role that a key belongs to."""
    return key.partition(".")[0]


def keys_of(role: str, by_key: Iterable[str]) -> list[str]:
    """The keys of one role, in their order."""
    return [key for key in by_key if role_of(key) == role]


def list_key(role: str, number: int) -> str:
    """The key of the model at a place of a list, counted from 1."""
    return f"{role}.{number}"


def fill_roles(roles: Sequence[Role], by_key: Mapping[str, T]) -> dict[str, T | list[T]]:
    """What a method is called with: each role's model, or all of a list role; roles without one are left out."""
    filled: dict[str, T | list[T]] = {}
    for role in roles:
        models = [by_key[key] for key in keys_of(role.name, by_key)]
        if models:
            filled[role.name] = models if role.is_list else models[0]
    return filled
