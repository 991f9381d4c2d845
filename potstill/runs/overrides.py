"""Settings from the command line, applied to a recipe's data before it is converted: they win over the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from potstill import config
from potstill.config import Mistakes, Override, Place, Tree, join_key
from potstill.data import yaml
from potstill.training.settings import TrainingSettings

# Keys of a recipe that hold for every arm, and that an arm may have of its own.
SHARED_KEYS = ("values", "training")
ARM_KEYS = ("method", *SHARED_KEYS)


def parse_overrides(
    sets: Sequence[str | Override], schema: type, mistakes: Mistakes
) -> list[Override]:
    """`key=value` texts as overrides; a key that the recipe (`schema`) does not have is a value of the method."""
    recipe_keys = {*config.names_of(config.settings_of(schema)), *ARM_KEYS}
    overrides = []
    for override in config.read_overrides(sets, yaml.read_untyped, mistakes):
        if override.key.split(".")[0] in recipe_keys:
            overrides.append(override)
        else:
            overrides.append(dataclasses.replace(override, key=f"values.{override.key}"))
    return overrides


def apply_overrides(
    tree: Tree,
    arm_blocks: dict[str, Tree],
    overrides: Sequence[Override],
    places: dict[str, Place],
    mistakes: Mistakes,
    *,
    schema: type,
    has_arms: bool,
) -> None:
    """Put the overrides into the recipe's data: those of every arm first, so that those of one arm win.

    An arm that the recipe does not have is added by its method, which therefore comes before its other keys.
    """
    split_overrides = list(_split_mappings(overrides))
    keyed = [(_full_key(override, schema), override) for override in split_overrides]
    config.refuse_two_names(keyed, mistakes)
    for override in sorted(split_overrides, key=_order_of):
        first, *deeper = override.key.split(".")
        if first == "method" and has_arms:
            mistakes.add(
                "",
                f"{override.source}: the recipe has arms; set arms.NAME.method, of {', '.join(arm_blocks)}",
            )
        elif first == "arms" and len(deeper) >= 2:
            name, *below = deeper
            if not has_arms:
                mistakes.add(
                    "", f"{override.source}: the recipe has no arms; write {'.'.join(below)}=…"
                )
            elif name not in arm_blocks and below != ["method"]:
                message = config.unknown_name("arm", name, arm_blocks, prefix="arms")
                mistakes.add("", f"{override.source}: {message}, or add it: arms.{name}.method=…")
            else:
                block = arm_blocks.setdefault(name, {})
                _apply(block, below, override, places, mistakes, prefix=f"arms.{name}")
                _apply_to_stages(block, below, override, places, mistakes, prefix=f"arms.{name}")
        elif first == "arms":
            mistakes.add(
                "", f"{override.source}: set a key of one arm, such as arms.NAME.training.lr"
            )
        else:
            _apply(tree, [first, *deeper], override, places, mistakes, prefix="", schema=schema)
            # A stage's own block would win over its arm's; so it gets the setting too.
            _apply_to_stages(tree, [first, *deeper], override, places, mistakes, prefix="")
            for name, block in arm_blocks.items():
                _apply_to_stages(
                    block, [first, *deeper], override, places, mistakes, prefix=f"arms.{name}"
                )
            # An arm's own block would win over the shared one; the command line wins over both.
            for name, block in arm_blocks.items():
                if first in SHARED_KEYS and _has_setting(block, first, deeper):
                    _apply(
                        block, [first, *deeper], override, places, mistakes, prefix=f"arms.{name}"
                    )


def _full_key(override: Override, schema: type) -> str:
    """The key of an override, with the name of the setting where a short one was given."""
    parts = override.key.split(".")
    recipe_names = config.names_of(config.settings_of(schema))
    training_names = config.names_of(config.settings_of(TrainingSettings))
    parts[0] = recipe_names.get(parts[0], parts[0])
    for position, part in enumerate(parts[1:], start=1):
        is_of_arm = parts[position - 1] == "training"
        is_of_stage = position > 1 and parts[position - 2] == "training"
        if is_of_arm or (is_of_stage and parts[position - 1] not in training_names):
            parts[position] = training_names.get(part, part)
    return ".".join(parts)


def _order_of(override: Override) -> tuple[int, bool]:
    """Keys of every arm, then the methods of arms, then the other keys of arms; of each kind those of stages last."""
    parts = override.key.split(".")
    is_of_stage = False
    if "training" in parts[:-2]:
        is_of_stage = parts[parts.index("training") + 1] not in _training_names()
    if parts[0] != "arms":
        return 0, is_of_stage
    return (1 if parts[-1] == "method" else 2), is_of_stage


def _split_mappings(overrides: Iterable[Override]) -> Iterable[Override]:
    """`training={lr: 1, seed: 2}` as an override for each key."""
    for override in overrides:
        value = (
            override.value.value if isinstance(override.value, config.Untyped) else override.value
        )
        parts = override.key.split(".")
        is_stage = parts[-2:-1] == ["training"] and parts[-1] not in _training_names()
        if not isinstance(value, Mapping) or not (parts[-1] in SHARED_KEYS or is_stage):
            yield override
            continue
        for name, item in value.items():
            yield Override(f"{override.key}.{name}", item, override.source)


def _apply(
    tree: Tree,
    path: Sequence[str],
    override: Override,
    places: dict[str, Place],
    mistakes: Mistakes,
    *,
    prefix: str,
    schema: type | None = None,
) -> None:
    """Apply one override to the recipe or to an arm's block (`prefix`), and remember where it came from."""
    first, *deeper = path
    if first == "training" and deeper:
        tree[first] = config.as_mapping(tree.get(first), join_key(prefix, first), mistakes)
        if len(deeper) > 1 and deeper[0] not in _training_names():
            # A setting of one stage.
            label, *deeper = deeper
            key = join_key(prefix, f"{first}.{label}")
            tree[first][label] = config.as_mapping(tree[first].get(label), key, mistakes)
            config.apply_override(
                tree[first][label], deeper, override, mistakes, schema=TrainingSettings
            )
        else:
            config.apply_override(tree[first], deeper, override, mistakes, schema=TrainingSettings)
    else:
        config.apply_override(tree, path, override, mistakes, schema=schema)
    places[join_key(prefix, ".".join(path))] = Place(override.source, override.key)


def _apply_to_stages(
    tree: Tree,
    path: Sequence[str],
    override: Override,
    places: dict[str, Place],
    mistakes: Mistakes,
    *,
    prefix: str,
) -> None:
    """Apply a training setting of all stages to the blocks of single stages that say something about it."""
    first, *deeper = path
    training = tree.get("training")
    if first != "training" or not deeper or deeper[0] not in _training_names():
        return
    if not isinstance(training, Mapping):
        return
    for label, block in list(training.items()):
        is_stage = label not in _training_names() and isinstance(block, Mapping)
        if is_stage and _has_setting({"training": block}, "training", deeper):
            _apply(tree, [first, label, *deeper], override, places, mistakes, prefix=prefix)


def _training_names() -> Mapping[str, str]:
    """The name of a training setting by each key under which it can be set."""
    return config.names_of(config.settings_of(TrainingSettings))


def _has_setting(block: Tree, part: str, path: Sequence[str]) -> bool:
    """Whether an arm's own block says something about a setting, under its name or its alias."""
    own_part = block.get(part)
    if not isinstance(own_part, Mapping) or not path:
        return False
    names = config.names_of(config.settings_of(TrainingSettings)) if part == "training" else {}
    wanted = names.get(path[0], path[0])
    return any(names.get(key, key) == wanted for key in own_part)
