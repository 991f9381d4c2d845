"""Run a method on problems and models that are there already, in a folder of its own: `potstill.run(...)` in Python.

The run is the one that a recipe of the same arm makes; what the recipe says of models and problems in words is what
they are called, so that the folder of another run is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.budget import flags
from potstill.errors import ConfigError
from potstill.methods.catalogue import MethodEntry, method_entry
from potstill.methods.role_annotations import list_key
from potstill.models.model import Model
from potstill.records import Progress, Trace, digest, no_progress
from potstill.runs import recipe as recipes
from potstill.runs.experiment import open_run, run_arms
from potstill.runs.finished import Run
from potstill.runs.open_folder import JUDGE
from potstill.runs.run_journal import Publish, publish_nothing
from potstill.runs.sources import load_model
from potstill.verifiers import reads_thoughts


@dataclasses.dataclass(frozen=True, slots=True)
class RunSettings:
    """What decides a run beside its method, problems and models.

    Args:
        n: answers a problem when measuring.
        budget: what may be spent.
        seed: from which every random choice is derived.
        threads: CPU threads; 0 is one a core.
        training: training settings, as in a recipe.
        values: the method's values.
    """

    n: int = 4
    budget: str = ""
    seed: int = 0
    threads: int = 0
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run_method(
    method: str,
    problems: Sequence[Trace],
    tests: Sequence[Trace],
    models: Mapping[str, Model | str | Sequence[Model | str]],
    settings: RunSettings,
    *,
    out: Path,
    name_model: Callable[[Model], str],
    progress: Progress = no_progress,
    publish: Publish = publish_nothing,
) -> Run:
    """Drive a method, train its student and measure it; the finished run.

    Args:
        method: its name, or `FILE.py:NAME`.
        problems: blank traces to train on.
        tests: blank traces to measure on; nothing is measured where there are none.
        models: by role, loaded or as specs; a list where several play one.
        settings: what decides the run beside these.
        out: the run folder.
        name_model: what people call a model.
        progress: called with (label, done, total).
        publish: called with the results now and then, and at the end of the run, whatever ended it.
    """
    loaded: dict[str, Model] = {}
    specs: dict[str, str] = {}
    for role, model in spread_models(method_entry(method), models).items():
        specs[role] = model if isinstance(model, str) else name_model(model)
        loaded[role] = load_model(model) if isinstance(model, str) else model
    recipe = recipes.from_data(
        {
            "method": method,
            "values": dict(settings.values),
            "training": dict(settings.training),
            "roles": specs,
            "problems": name_problems(problems),
            "evaluate": {"problems": name_problems(tests) if tests else "", "n": settings.n},
            "seed": settings.seed,
            "answers_in_thoughts": reads_thoughts(),
        },
        budget_settings(settings.budget),
    )
    with open_run(
        recipe,
        out,
        progress=progress,
        threads=settings.threads,
        models=loaded,
        problems=list(problems),
        tests=list(tests),
    ) as run:
        run_arms(run, publish=publish)
    return Run(out)


def spread_models(
    method: MethodEntry, models: Mapping[str, Model | str | Sequence[Model | str]]
) -> dict[str, Model | str]:
    """The models by key (`methods.role_annotations`).

    Raises:
        ConfigError: several models in a role that one plays.
    """
    list_roles = [role.name for role in method.roles if role.is_list]
    by_key: dict[str, Model | str] = {}
    for role, model_or_models in models.items():
        if isinstance(model_or_models, list | tuple):
            several = list(model_or_models)
            if several and role not in list_roles:
                raise ConfigError(f"The role {role} of {method.name} takes one model, not a list.")
        else:
            several = [model_or_models]
        for number, model in enumerate(several, start=1):
            key = list_key(role, number) if role in list_roles else role
            by_key[key] = model
    return by_key


def split_roles(
    method: MethodEntry, roles_and_values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The models by role, and the method's values; `judge` is a role of every run.

    Raises:
        ConfigError: a name that is neither.
    """
    roles = [role.name for role in method.roles] + [JUDGE]
    values = [value.name for value in method.values]
    unknown = [name for name in roles_and_values if name not in roles and name not in values]
    if unknown:
        raise ConfigError(
            f"{method.name} has no role or value {unknown[0]!r}.",
            available=(*roles, *values),
            wanted=unknown[0],
            fix="training settings go into training={…}",
        )
    models: dict[str, Any] = {}
    method_values: dict[str, Any] = {}
    for name, value in roles_and_values.items():
        (models if name in roles else method_values)[name] = value
    return models, method_values


def budget_settings(budget: str) -> list[str]:
    """A budget such as "5usd" or "teacher=3usd,2Mtok" as the settings of a recipe."""
    amounts = [amount.strip() for amount in budget.split(",") if amount.strip()]
    return [f"{key}={json.dumps(value)}" for key, value in flags.parse_budget(amounts).items()]


def name_problems(problems: Sequence[Trace]) -> str:
    """What a list of problems is called in a recipe: its content."""
    return "python:" + digest("problems", [[trace.problem, trace.prompt] for trace in problems])
