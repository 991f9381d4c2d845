"""The keywords of an objective as settings: its constants and options, the loop's keywords, and the training settings.

They are what a stage of a method, `training.objective_config` of a recipe and `potstill train --set` can say.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from potstill import config, objectives
from potstill.config import Mistakes, Setting, Tree
from potstill.training.objective_config import LOOP_KEYWORDS, ObjectiveConfig
from potstill.training.settings import SETTINGS, TrainingSettings

MODEL_KEYWORDS = ("teacher", "reference")  # a checkpoint, or the name of a role
MODELS_KEYWORDS = ("teachers",)  # several of them, by name


def keyword_settings(objective: str) -> dict[str, Setting]:
    """What can be set for an objective, by name. A name of two kinds is the objective's, as in `bind`.

    Args:
        objective: its name, or "" for what can be set for any objective.
    """
    settings = {}
    for setting in config.settings_of(TrainingSettings):
        if setting.name in SETTINGS:
            settings[setting.name] = setting
    settings.update(_loop_settings())
    names = [objective] if objective else list(objectives.TABLE)
    for name in names:
        for keyword, kind in objectives.keyword_types(name).items():
            if not objective and keyword in settings and settings[keyword].kind != kind:
                kind = Any  # two objectives mean different things by it
            settings[keyword] = Setting(keyword, kind)
    return settings


def convert_keywords(
    settings: Mapping[str, Setting], keywords: Mapping[str, Any], key: str, mistakes: Mistakes
) -> Tree:
    """Keywords of an objective, converted; `key` is the dotted key of their mapping."""
    keyed = config.merge_layers(
        list(settings.values()), [(key, keywords)], mistakes, what="keyword"
    )
    return config.convert_settings(list(settings.values()), keyed, mistakes)


def _loop_settings() -> dict[str, Setting]:
    """The keywords of the loop, each of the kind of the field that it sets."""
    kinds = typing.get_type_hints(ObjectiveConfig)
    settings = {}
    for keyword in LOOP_KEYWORDS:
        is_of_models = keyword in (*MODEL_KEYWORDS, *MODELS_KEYWORDS)
        kind = Any if is_of_models else kinds[keyword]
        settings[keyword] = Setting(keyword, kind)
    return settings
