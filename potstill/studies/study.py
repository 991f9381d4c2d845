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
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

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
    "WORLDS",
)  # of a study's file; literals, since they are read and not run
OPTIONAL_CONSTANTS = ("WORLDS",)


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What a study is run with.

    Args:
        out: the study's folder.
        seeds: how often each arm is repeated, with seeds 0, 1, 2 …
        sizes: how many problems, answers or steps, under the names of the study's `SIZES`.
        roles: the models by role, as specs, under the names of the study's `ROLES`.
        retry_errors: ask again where a recorded generation failed.
        world: of a study with `WORLDS`, in which of them it is run; its folder `out` is then that world's.
    """

    out: Path
    seeds: int = DEFAULT_SEEDS
    sizes: Mapping[str, int] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    retry_errors: bool = False
    world: str = ""


@dataclass(frozen=True, slots=True)
class StudyPage:
    """What people read of a study's figures.

    Args:
        setup: how it was done, as paragraphs of Markdown: problems, arms, what is equal for all of them, what is not,
            and which models are stand-ins. It stands before the tables.
        tables: by title; each a list of rows, a row by column.
        chart: the figure.
        finding: one paragraph that answers the question, chosen from the figures. It also says what they do not show.
        sections: further Markdown by title, below the tables.
        summary: what other pages quote, as JSON; it is written beside the page where there is any.
        charts: a figure for each of these sections, by the section's title.
    """

    setup: str
    tables: Mapping[str, Sequence[Mapping[str, str]]]
    chart: Chart
    finding: str
    sections: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    charts: Mapping[str, Chart] = field(default_factory=dict)


class StudyModule(Protocol):
    """What the module of a study defines.

    Args:
        QUESTION: what it asks, in one sentence.
        SIZES: its sizes with their defaults, a literal; `--size NAME=N` changes one.
        ROLES: its models by role, as specs, a literal; `--role NAME=SPEC` changes one, and so does an edit of the file.

    A study may be made in several worlds (problems with a teacher and a student): a literal `WORLDS` names them, the
    default first, each with the "sizes" and "roles" that differ there. Each world has a folder of its own in the
    study's folder, and `describe_study` gets the figures of all worlds that are there, by name.
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


@runtime_checkable
class UnfinishedStudy(Protocol):
    """A study whose page can be written before it has come to its end."""

    def collect_figures(self, settings: StudySettings) -> dict[str, Any]:
        """The figures of what the folder holds by now, read beside a running study; nothing is run."""
        ...


@runtime_checkable
class StudyOfWorlds(Protocol):
    """A study that may be made in several worlds."""

    WORLDS: Mapping[str, Mapping[str, Mapping[str, Any]]]


class StudyListing(NamedTuple):
    """What the file of a study says of it; the fields are its `QUESTION`, `SIZES`, `ROLES` and `WORLDS`."""

    question: str
    sizes: Mapping[str, int]
    roles: Mapping[str, str]
    worlds: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({})

    def sizes_in(self, world: str) -> dict[str, int]:
        """The sizes of the study in one of its worlds; "" for a study without any."""
        return {**self.sizes, **self._world(world).get("sizes", {})}

    def roles_in(self, world: str) -> dict[str, str]:
        """The models of the study in one of its worlds; "" for a study without any."""
        return {**self.roles, **self._world(world).get("roles", {})}

    def _world(self, world: str) -> Mapping[str, Mapping[str, Any]]:
        return self.worlds[world] if world else {}


@cache
def list_studies(folder: Path = Path(__file__).parent) -> dict[str, StudyListing]:
    """The studies of a folder by name, read from the files without importing them."""
    studies: dict[str, StudyListing] = {}
    for path in sorted(folder.glob("*.py")):
        constants = read_constants(path)
        if "QUESTION" in constants:
            name = path.stem.replace("_", "-")
            values = [constants[key] for key in LISTED_CONSTANTS if key in constants]
            studies[name] = StudyListing(*values)
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
        if name in OPTIONAL_CONSTANTS and name not in expressions:
            continue
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


def listing_of(module: StudyModule) -> StudyListing:
    """What a loaded study says of itself."""
    worlds = module.WORLDS if isinstance(module, StudyOfWorlds) else {}
    return StudyListing(module.QUESTION, module.SIZES, module.ROLES, worlds)


def choose_world(name: str, listing: StudyListing, world: str) -> str:
    """The world that was asked for, or the study's first one; "" for a study without worlds.

    Raises:
        ConfigError: the study has none of that name.
    """
    if not world:
        return next(iter(listing.worlds), "")
    if world not in listing.worlds:
        raise ConfigError(
            f"The study {name} has no world {world!r}.",
            available=list(listing.worlds) or ["none: the study is made in one place"],
            wanted=world,
            fix="potstill study lists the worlds of each",
        )
    return world


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
    chosen: dict[str, Any] = {
        "study": name,
        "sizes": dict(settings.sizes),
        "roles": dict(settings.roles),
    }
    if settings.world:
        chosen["world"] = settings.world
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


def collect_unfinished(
    name: str, study: UnfinishedStudy, settings: StudySettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of what a folder holds by now, and the fingerprint with which it was begun; nothing is run.

    Raises:
        InputError: the study was not begun in this folder.
    """
    file = settings.out / FINGERPRINT_FILE
    if not file.exists():
        raise InputError(
            f"There is no {file}.",
            expected="a folder in which the study was begun",
            fix="the same command without --page-only",
        )
    check_folder(name, settings)
    figures = study.collect_figures(settings)
    write_json(settings.out / FIGURES_FILE, figures)
    return figures, json.loads(file.read_text("utf-8"))


def settings_from_json(stored: Mapping[str, Any], seeds: int) -> StudySettings:
    """The settings that `check_folder` noted; where the folder lies is not among them."""
    return StudySettings(
        out=Path(), seeds=seeds, sizes=stored["sizes"], roles=stored["roles"], world=stored["world"]
    )


class WorldFigures(NamedTuple):
    """What the folders of a study's worlds hold, by world, in the order of `WORLDS`."""

    figures: dict[str, dict[str, Any]]
    fingerprints: dict[str, dict[str, Any]]
    settings: dict[str, dict[str, Any]]


def read_worlds(folder: Path, listing: StudyListing) -> WorldFigures:
    """The figures of all worlds whose folders in the study's folder have any."""
    worlds = WorldFigures({}, {}, {})
    for world in listing.worlds:
        files = [folder / world / name for name in (FIGURES_FILE, FINGERPRINT_FILE, SETTINGS_FILE)]
        if not all(file.exists() for file in files):
            continue
        # Whole documents: each is written at once, also by a study that still runs.
        documents = [json.loads(file.read_text("utf-8")) for file in files]
        worlds.figures[world], worlds.fingerprints[world], worlds.settings[world] = documents
    return worlds


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


def describe_figures(
    name: str, study: StudyModule, figures: Mapping[str, Any], folder: Path
) -> StudyPage:
    """The page of the figures that a folder holds.

    Raises:
        StoreError: they are of another version of the study. A process that was started before a change reads figures
            of other worlds that a newer one has written meanwhile, and the other way round.
    """
    try:
        return study.describe_study(figures)
    except KeyError as error:
        fix = "the same command without --page-only"
        if isinstance(study, UnfinishedStudy):
            fix = f"potstill study {name} --out {folder} --page-only, with --world for each world that is there"
        raise StoreError(
            f"The figures in {folder} have no {error}: another version of potstill wrote them.",
            expected="figures of the version that writes the page",
            fix=f"write them again with this version: {fix}",
        ) from error


def write_json(file: Path, document: Mapping[str, Any]) -> None:
    """Write a document whole; its folder is made where it is missing."""
    write_text(file, json.dumps(document, indent=1, allow_nan=False) + "\n")
