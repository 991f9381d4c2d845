"""What the settings objects of methods share: groups of call settings, and arms as overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    SettingsObject = TypeVar("SettingsObject", bound=DataclassInstance)
else:
    SettingsObject = TypeVar("SettingsObject")

Options: TypeAlias = tuple[tuple[str, Any], ...]
"""Keywords of one call as a field of a frozen settings object: `sample(model, traces, **dict(settings.sampling))`."""

Arms: TypeAlias = Mapping[str, Mapping[str, object]]
"""The method and its controls by name, each as the settings in which it differs."""


def options(**keywords: Any) -> Options:
    """Make a field's value of keywords: `sampling: Options = options(temperature=0.6, top_p=0.9)`."""
    return tuple(keywords.items())


def apply_arm(settings: SettingsObject, overrides: Mapping[str, object]) -> SettingsObject:
    """Return the settings of an arm: `settings = apply_arm(settings, ARMS[arm])`; what it names wins over what is set.

    Args:
        settings: a frozen settings object.
        overrides: the arm's row of the method's table.
    """
    return replace(settings, **overrides)
