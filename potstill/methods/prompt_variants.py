"""The prompts that a method offers: a table in its prompts.py, from which `potstill tune-prompts` chooses.

A method declares them as `PROMPT_VARIANTS`, in the file `prompts.py` beside it or in its own file; nothing is
registered. docs/tuning-prompts.md shows one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from potstill.errors import ConfigError
from potstill.records import Trace

if TYPE_CHECKING:
    from potstill.methods.catalogue import MethodEntry

TABLE = "PROMPT_VARIANTS"

Overrides = Mapping[str, object]
"""Values of a method by their dotted key, such as {"settings.prompt": "paper"}."""


@dataclass(frozen=True, slots=True)
class PromptVariants:
    """What a method can ask for the same thing.

    Args:
        variants: by name, the values that make a method ask so; of equally good ones the first is chosen.
        is_written: whether a trace was written under one of the prompts that are compared.
        controls: by name, values that are measured beside the variants and never chosen.
        values: what is set besides while prompts are compared, such as a single draw a problem.
    """

    variants: Mapping[str, Overrides]
    is_written: Callable[[Trace], bool]
    controls: Mapping[str, Overrides] = field(default_factory=dict)
    values: Overrides = field(default_factory=dict)

    def restricted_to(self, names: Sequence[str]) -> PromptVariants:
        """The table with these variants and controls alone; whole where no names are given.

        Raises:
            ConfigError: a name that is none of its own, or fewer than two variants.
        """
        if not names:
            return self
        for name in names:
            if name not in self.variants and name not in self.controls:
                raise ConfigError(
                    f"there is no prompt {name!r}",
                    available=(*self.variants, *self.controls),
                    wanted=name,
                )
        variants = {name: self.variants[name] for name in self.variants if name in names}
        if len(variants) < 2:
            raise ConfigError(
                f"{len(variants)} prompts to choose from: {', '.join(names)}",
                expected="two or more, beside the controls",
                available=self.variants,
            )
        controls = {name: self.controls[name] for name in self.controls if name in names}
        return replace(self, variants=variants, controls=controls)

    def overrides_of(self, name: str) -> dict[str, object]:
        """All that is set while a variant or a control is measured."""
        overrides = self.variants.get(name)
        if overrides is None:
            overrides = self.controls[name]
        return {**self.values, **overrides}


def find_prompt_variants(entry: MethodEntry) -> PromptVariants:
    """The table of a method.

    Raises:
        ConfigError: it has none, or something else under that name.
    """
    own_module = entry.method.__module__
    # The method's own file, then the prompts beside it.
    package = own_module.rpartition(".")[0]
    modules = [sys.modules.get(own_module)]
    if package and find_spec(f"{package}.prompts") is not None:
        modules.append(import_module(f"{package}.prompts"))
    for module in modules:
        table = getattr(module, TABLE, None)
        if table is None:
            continue
        if not isinstance(table, PromptVariants) or len(table.variants) < 2:
            raise ConfigError(
                f"{TABLE} of {entry.name} is no table of prompts",
                expected="PromptVariants with two variants or more",
            )
        return table
    raise ConfigError(
        f"{entry.name} declares no prompts to choose from",
        expected=f"{TABLE} in its prompts.py (docs/tuning-prompts.md)",
        available=methods_with_variants(),
        fix="potstill tune-prompts orion …",
    )


def methods_with_variants() -> list[str]:
    """The methods of the package that declare prompts."""
    from potstill.methods import METHODS

    names: list[str] = []
    for name, file in METHODS.files.items():
        prompts = file.path.with_name("prompts.py")
        declares = prompts.is_file() and f"\n{TABLE} = " in prompts.read_text("utf-8")
        if declares:
            names.append(name)
    return names
