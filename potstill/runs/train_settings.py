"""Settings and keywords of a training without a method, from `key=value` settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill import config, objectives
from potstill.config import Mistakes, Override, Place, Tree
from potstill.data import yaml
from potstill.errors import ModelError
from potstill.training.objective_config import LOOP_KEYWORDS
from potstill.training.objective_keywords import convert_keywords, keyword_settings
from potstill.training.settings import ALIASES, SETTINGS, TrainingSettings


class TrainingKeywords(NamedTuple):
    """What a training is told: settings of the loop, and keywords of the objective, which `bind` takes."""

    settings: TrainingSettings
    keywords: Tree


def read_keywords(
    objective: str, sets: Sequence[str | Override] = (), *, seed: int = 0, threads: int = 0
) -> TrainingKeywords:
    """Sort `key=value` settings into training settings and keywords of the objective.

    `training.KEY` is a training setting. A bare key is a constant or option of the objective, or a keyword of its loop,
    where there is one of that name, else a training setting.

    Args:
        objective: its name.
        sets: `key=value` texts, or overrides.
        seed: of the training, unless a setting says otherwise.
        threads: CPU threads, unless a setting says otherwise.

    Raises:
        ConfigError: lists every mistake in the settings.
    """
    objectives.entry(objective)
    mistakes = Mistakes()
    places: dict[str, Place] = {}
    training: Tree = {"seed": seed, "threads": threads}
    keywords: Tree = {}
    settings = keyword_settings(objective)
    training_names = config.names_of(config.settings_of(TrainingSettings))
    keyed_overrides: list[tuple[str, Override]] = []
    for override in config.read_overrides(sets, yaml.read_untyped, mistakes):
        path = override.key.split(".")
        if path[0] == "training" and len(path) > 1:
            tree, path, schema = training, path[1:], TrainingSettings
        elif path[0] in LOOP_KEYWORDS or path[0] in objectives.keywords(objective):
            tree, schema = keywords, None
        elif path[0] in training_names:
            tree, schema = training, TrainingSettings
        else:
            message = config.unknown_name(
                "setting",
                path[0],
                [*objectives.keywords(objective), *LOOP_KEYWORDS, *SETTINGS],
                aliases={name: alias for alias, name in ALIASES.items()},
            )
            mistakes.add("", f"{override.source}: {message}")
            continue
        places[".".join(path)] = Place(override.source, override.key)
        name = path[0] if tree is keywords else training_names.get(path[0], path[0])
        keyed_overrides.append((".".join([name, *path[1:]]), override))
        config.apply_override(tree, path, override, mistakes, schema=schema)
    config.refuse_two_names(keyed_overrides, mistakes)
    if training.pop("objective_config", None):
        mistakes.add(
            "",
            "training.objective_config is for recipes: give --objective, and --set KEY=VALUE for its keywords",
        )
    built = config.build(TrainingSettings, training, "", mistakes)
    converted = convert_keywords(settings, keywords, "", mistakes)
    mistakes.raise_if_any("--set", places=places, fix="potstill train --help")
    return TrainingKeywords(built, converted)


def convert_training_keywords(objective: str, keywords: Mapping[str, Any]) -> Tree:
    """The keywords of a training from Python, those that are training settings converted to their types.

    Raises:
        ConfigError: lists every training setting of another type.
    """
    mistakes = Mistakes()
    schema = config.settings_of(TrainingSettings)
    names = config.names_of(schema)
    own_names = (*objectives.keywords(objective), *LOOP_KEYWORDS)
    training = {}
    for name, value in keywords.items():
        if name in names and name not in own_names:
            training[name] = value
    keyed = config.merge_layers(schema, [("", training)], mistakes)
    converted = config.convert_settings(schema, keyed, mistakes)
    mistakes.raise_if_any(f"objective {objective}", fix="docs/training.md lists the settings")
    others = {name: value for name, value in keywords.items() if name not in training}
    return others | converted


def match_chat_mode(settings: TrainingSettings, student: Any, spec: str) -> TrainingSettings:
    """The settings with the student's own chat mode: a student is trained as it is asked.

    Raises:
        ModelError: the student reads plain text, and rows are rendered by a chat template.
    """
    chat_mode: Any = getattr(getattr(student, "encoder", None), "chat", "auto")
    if chat_mode == "plain":
        raise ModelError(
            f"{spec} is read as plain text; rows are rendered by a chat template",
            expected="a student with a chat template",
            fix="leave ?chat=plain out, and copy a chat_template.jinja into the checkpoint if it has none",
        )
    if settings.chat != "auto":
        return settings
    return dataclasses.replace(settings, chat=chat_mode)
