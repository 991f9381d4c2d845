"""The contract of a study: a module of this folder that asks one question and answers it with figures.

A study `NAME` is the file `NAME.py` (a hyphen of the name is an underscore there) with what `StudyModule` lists. It is
found by its file, and `potstill study NAME` runs it, writes its figures into the run folder, and its page and figure
beside them (`page.py`). A folder goes on where it stopped. `arms.py` trains and measures the arms of recipes seed by
seed, and makes their tables. docs/adding-a-study.md shows one.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from potstill.data.atomic_write import write_text
from potstill.errors import ConfigError, StoreError
from potstill.records import Progress
from potstill.studies.chart import Chart

FIGURES_FILE = "figures.json"
SETTINGS_FILE = "study.json"
DEFAULT_SEEDS = 3


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What a study is run with.

    Args:
        out: the study's folder.
        seeds: how often each arm is repeated, with seeds 0, 1, 2 …
        sizes: how many problems, answers or steps, under the names of the study's `SIZES`.
        roles: the models by role, as specs, under the names of the study's `ROLES`.
        retry_errors: ask again where a recorded generation failed.
    """

    out: Path
    seeds: int = DEFAULT_SEEDS
    sizes: Mapping[str, int] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    retry_errors: bool = False


@dataclass(frozen=True, slots=True)
class StudyPage:
    """What people read of a study's figures.

    Args:
        setup: how it was done, as paragraphs of Markdown: problems, arms, what is equal for all of them, what is not,
            and which models are stand-ins. It stands before the tables.
        tables: by title; each a list of rows, a row by column.
        chart: the figure.
        finding: one paragraph that answers the question, chosen from the figures. It also says what they do not show.
    """

    setup: str
    tables: Mapping[str, Sequence[Mapping[str, str]]]
    chart: Chart
    finding: str


class StudyModule(Protocol):
    """What the module of a study defines.

    Args:
        QUESTION: what it asks, in one sentence.
        SIZES: its sizes with their defaults; `--size NAME=N` changes one.
        ROLES: its models by role, as specs; `--role NAME=SPEC` changes one, and so does an edit of the file.
    """

    QUESTION: str
    SIZES: Mapping[str, int]
    ROLES: Mapping[str, str]

    def run_study(self, settings: StudySettings, progress: Progress) -> dict[str, Any]:
        """Do all the work; what was done before in the same folder is not done again.

        Returns:
            Every figure that the page shows, as plain JSON, the same ones when it runs again.
        """
        ...

    def describe_study(self, figures: Mapping[str, Any]) -> StudyPage:
        """What the figures say: a pure function of them, so that it can be tested without a training."""
        ...


@cache
def study_questions() -> dict[str, str]:
    """The studies with their questions, read from the files without importing them."""
    questions: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QUESTION":
                questions[path.stem.replace("_", "-")] = ast.literal_eval(node.value)
    return questions


def load_study(name: str) -> StudyModule:
    """The module of a study.

    Raises:
        ConfigError: there is no such study.
    """
    if name not in study_questions():
        raise ConfigError(
            f"There is no study {name!r}.",
            available=study_questions(),
            wanted=name,
            fix="potstill study lists them",
        )
    module: Any = import_module(f"potstill.studies.{name.replace('-', '_')}")
    return module  # type: ignore[no-any-return]


def merge_choices(
    name: str, what: str, defaults: Mapping[str, Any], choices: Mapping[str, Any]
) -> dict[str, Any]:
    """The study's sizes or roles with those that were asked for in their places.

    Raises:
        ConfigError: the study has none of that name.
    """
    for choice in choices:
        if choice not in defaults:
            raise ConfigError(
                f"The study {name} has no {what} {choice!r}.",
                available=defaults,
                wanted=choice,
                fix=f"potstill study {name} --help",
            )
    return {**defaults, **choices}


def run_in_folder(
    name: str, study: StudyModule, settings: StudySettings, progress: Progress
) -> dict[str, Any]:
    """Run a study, and write its figures into its folder.

    Raises:
        StoreError: the folder holds the study with other sizes or models. More seeds may be added to one.
    """
    chosen = {"study": name, "sizes": dict(settings.sizes), "roles": dict(settings.roles)}
    file = settings.out / SETTINGS_FILE
    if file.exists():
        stored = json.loads(file.read_text("utf-8"))
        if stored != chosen:
            raise StoreError(
                f"{settings.out} holds a study of other settings: {json.dumps(stored)}",
                expected=json.dumps(chosen),
                fix="another --out",
            )
    else:
        settings.out.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(chosen) + "\n")
    figures = study.run_study(settings, progress)
    write_text(settings.out / FIGURES_FILE, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    return figures
