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
from typing import Any, NamedTuple, Protocol

from potstill.data.atomic_write import write_text
from potstill.errors import ConfigError, InputError, StoreError
from potstill.records import Progress
from potstill.studies.chart import Chart

FIGURES_FILE = "figures.json"
FINGERPRINT_FILE = "fingerprint.json"
SETTINGS_FILE = "study.json"
DEFAULT_SEEDS = 3
LISTED_CONSTANTS = (
    "QUESTION",
    "SIZES",
    "ROLES",
)  # of a study's file; literals, since they are read and not run


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
        SIZES: its sizes with their defaults, a literal; `--size NAME=N` changes one.
        ROLES: its models by role, as specs, a literal; `--role NAME=SPEC` changes one, and so does an edit of the file.
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


class StudyListing(NamedTuple):
    """What the file of a study says of it; the fields are its `QUESTION`, `SIZES` and `ROLES`."""

    question: str
    sizes: Mapping[str, int]
    roles: Mapping[str, str]


@cache
def list_studies(folder: Path = Path(__file__).parent) -> dict[str, StudyListing]:
    """The studies of a folder by name, read from the files without importing them."""
    studies: dict[str, StudyListing] = {}
    for path in sorted(folder.glob("*.py")):
        constants = read_constants(path)
        if "QUESTION" in constants:
            name = path.stem.replace("_", "-")
            studies[name] = StudyListing(*[constants[key] for key in LISTED_CONSTANTS])
    return studies


def read_constants(path: Path) -> dict[str, Any]:
    """The listed constants of a file; none of a file that is no study.

    Raises:
        ConfigError: the file has a question, and sizes or roles are missing or no literals.
    """
    # The expressions behind the names, with or without an annotation.
    expressions: dict[str, ast.expr] = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) in LISTED_CONSTANTS:
                expressions[ast.unparse(target)] = node.value
    if "QUESTION" not in expressions:
        return {}
    # Their values, without running anything.
    constants: dict[str, Any] = {}
    for name in LISTED_CONSTANTS:
        try:
            constants[name] = ast.literal_eval(expressions[name])
        except (KeyError, ValueError):
            raise ConfigError(
                f"{path} is a study, and its {name} is missing or no literal.",
                expected=f"{name} = … with plain values",
                fix="docs/adding-a-study.md shows one",
            ) from None
    return constants


def load_study(name: str) -> StudyModule:
    """The module of a study.

    Raises:
        ConfigError: there is no such study.
    """
    if name not in list_studies():
        raise ConfigError(
            f"There is no study {name!r}.",
            available=list_studies(),
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
                fix="potstill study lists its sizes and models",
            )
    return {**defaults, **choices}


def run_in_folder(
    name: str, study: StudyModule, settings: StudySettings, progress: Progress
) -> dict[str, Any]:
    """Run a study, and write its figures into its folder.

    Raises:
        StoreError: the folder holds the study with other sizes or models. More seeds may be added to one.
    """
    check_folder(name, settings)
    figures = study.run_study(settings, progress)
    write_json(settings.out / FIGURES_FILE, figures)
    return figures


def check_folder(name: str, settings: StudySettings) -> None:
    """Note in a new folder which study it holds; refuse one that holds another, or other sizes or models."""
    chosen = {"study": name, "sizes": dict(settings.sizes), "roles": dict(settings.roles)}
    file = settings.out / SETTINGS_FILE
    if not file.exists():
        write_json(file, chosen)
        return
    stored = json.loads(file.read_text("utf-8"))
    if stored != chosen:
        raise StoreError(
            f"{settings.out} holds a study of other settings: {json.dumps(stored)}",
            expected=json.dumps(chosen),
            fix="another --out",
        )


def read_figures(name: str, settings: StudySettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of a folder and the fingerprint that they were made with; nothing is run.

    Raises:
        InputError: there are none, or they are of another number of seeds.
    """
    check_folder(name, settings)
    documents: list[dict[str, Any]] = []
    for file in (settings.out / FIGURES_FILE, settings.out / FINGERPRINT_FILE):
        if not file.exists():
            raise InputError(
                f"There is no {file}.",
                expected="a folder in which the study has come to its end",
                fix="the same command without --page-only",
            )
        documents.append(json.loads(file.read_text("utf-8")))
    figures, fingerprint = documents
    if fingerprint["seeds"] != settings.seeds:
        raise InputError(
            f"The figures of {settings.out} are of {fingerprint['seeds']} seeds.",
            expected=f"{settings.seeds} seeds",
            fix=f"--seeds {fingerprint['seeds']}, or the same command without --page-only",
        )
    return figures, fingerprint


def write_json(file: Path, document: Mapping[str, Any]) -> None:
    """Write a document whole; its folder is made where it is missing."""
    write_text(file, json.dumps(document, indent=1, allow_nan=False) + "\n")
