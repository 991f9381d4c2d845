"""A prepared comparison, whole: data, trainings, measurements, a page and a figure. Without a name: which there are.

examples:
  potstill study
  potstill study objectives --seeds 3 --docs docs/studies
  potstill study objectives --seeds 1 --size train=60 --size test=40 --out runs/short-study
  potstill study orion-arms --world real --role student=transformers:models/warm
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.cli.results import noting_kept_work
from potstill.cli.retry import failure_notes_of_folder
from potstill.errors import ConfigError
from potstill.extras import TRAINING, require_extra
from potstill.store import database

if TYPE_CHECKING:
    from potstill.studies.study import StudyListing, StudyModule, StudySettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("study", nargs="?", metavar="NAME", help="one of those that are listed")
    parser.add_argument("--seeds", type=options.positive_int, default=3, help="repetitions (3)")
    parser.add_argument(
        "--world",
        default="",
        metavar="NAME",
        help="of a study that is made in several: problems with a teacher and a student (the first one)",
    )
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME=N",
        help="one of the study's sizes, which `potstill study` lists",
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="another model in one of the study's roles",
    )
    parser.add_argument(
        "--out",
        type=options.expand_path,
        metavar="DIR",
        help="run folder, which also gets the page (runs/study-NAME)",
    )
    parser.add_argument(
        "--docs",
        type=options.expand_path,
        metavar="DIR",
        help="write the page and its figure here too: docs/studies in a checkout",
    )
    parser.add_argument(
        "--page-only",
        action="store_true",
        help="write page and figure again from the figures of the folder, and run nothing",
    )
    options.add_retry_errors(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """List the studies, or run one and write its page."""
    from potstill.studies import study

    if args.study is None:
        _print_studies(study.list_studies(), as_json=args.json)
        return
    require_extra("local", TRAINING)
    from potstill.studies.page import write_page

    name = args.study
    module = study.load_study(name)
    listing = study.listing_of(module)
    folder = args.out or Path(f"runs/study-{name}")
    settings = _read_settings(args, folder, listing)
    figures, fingerprint = _work(args, name, module, settings)
    command = _command_of(name, listing, settings)
    if settings.world:
        # One page of all worlds that have been looked at in this folder.
        worlds = study.read_worlds(folder, listing)
        figures, fingerprint = dict(worlds.figures), dict(worlds.fingerprints)
        commands: list[str] = []
        for world, stored in worlds.settings.items():
            seeds = worlds.fingerprints[world]["seeds"]
            commands.append(_command_of(name, listing, study.settings_from_json(stored, seeds)))
        command = "` and `".join(commands)
    page = study.describe_figures(name, module, figures, folder)
    files: list[str] = []
    for page_folder in dict.fromkeys([folder, args.docs or folder]):
        written = write_page(
            page_folder,
            name,
            page,
            question=module.QUESTION,
            fingerprint=fingerprint,
            command=command,
        )
        files += [str(path) for path in written]
    if args.json:
        show.print_json({"figures": figures, "fingerprint": fingerprint, "files": files})
        return
    for title, rows in page.tables.items():
        show.print_table(rows, title=title)
    show.print_line(f"\n{page.finding}\n")
    # A study has one store, or one a seed.
    for database_file in sorted(settings.out.rglob(database.FILE)):
        for note in failure_notes_of_folder(database_file.parent):
            show.print_line(note)
    for file in files:
        show.print_line(f"written  {file}")


def _work(
    args: argparse.Namespace, name: str, module: StudyModule, settings: StudySettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the study, or with --page-only read what was run; its figures and their fingerprint."""
    from potstill.studies import study
    from potstill.studies.fingerprint import study_fingerprint

    # A study that can be read early is never refused for having seeds to come.
    if args.page_only:
        if isinstance(module, study.UnfinishedStudy):
            return study.collect_unfinished(name, module, settings)
        return study.read_figures(name, settings)
    study.check_folder(name, settings)
    # Before the work: what it is computed with, and not what the files may have become meanwhile.
    fingerprint = study_fingerprint(name, settings)
    if isinstance(module, study.UnfinishedStudy):
        study.write_json(settings.out / study.FINGERPRINT_FILE, fingerprint)
    with noting_kept_work(settings.out), show_progress(args.quiet) as progress:
        figures = study.run_in_folder(name, module, settings, progress)
    study.write_json(settings.out / study.FINGERPRINT_FILE, fingerprint)
    return figures, fingerprint


def _read_settings(args: argparse.Namespace, folder: Path, listing: StudyListing) -> StudySettings:
    """What the study is run with, in the folder of its world where it has any."""
    from potstill.studies import study

    name = args.study
    world = study.choose_world(name, listing, args.world)
    sizes: dict[str, int] = {}
    for size, text in options.parse_pairs(args.size, "--size").items():
        sizes[size] = _read_size(size, text)
    roles = options.parse_pairs(args.role, "--role")
    return study.StudySettings(
        out=folder / world if world else folder,
        seeds=args.seeds,
        sizes=study.merge_choices(name, "size", listing.sizes_in(world), sizes),
        roles=study.merge_choices(name, "role", listing.roles_in(world), roles),
        retry_errors=args.retry_errors,
        world=world,
    )


def _command_of(name: str, listing: StudyListing, settings: StudySettings) -> str:
    """The command that makes the page again, without folders of this machine."""
    from potstill.runs.dataset_card import public_spec

    words = ["potstill", "study", name, "--seeds", str(settings.seeds)]
    if settings.world:
        words += ["--world", settings.world]
    for size, number in settings.sizes.items():
        if number != listing.sizes_in(settings.world)[size]:
            words += ["--size", f"{size}={number}"]
    for role, spec in settings.roles.items():
        if spec != listing.roles_in(settings.world)[role]:
            words += ["--role", f"{role}={public_spec(spec)}"]
    return shlex.join([*words, "--docs", "docs/studies"])


def _print_studies(studies: Mapping[str, StudyListing], *, as_json: bool) -> None:
    if as_json:
        documents: list[dict[str, Any]] = []
        for name, study in studies.items():
            documents.append({"name": name, **study._asdict(), "worlds": dict(study.worlds)})
        show.print_json(documents)
        return
    rows: list[dict[str, str]] = []
    for name, study in studies.items():
        sizes = [f"{size}={number}" for size, number in study.sizes.items()]
        roles = [f"{role}={spec}" for role, spec in study.roles.items()]
        row = {"name": name, "question": study.question, "worlds": ", ".join(study.worlds)}
        rows.append({**row, "sizes": " ".join(sizes), "models": " ".join(roles)})
    show.print_table(rows)
    show.print_line("potstill study NAME runs one; docs/adding-a-study.md adds one")


def _read_size(name: str, text: str) -> int:
    try:
        return options.positive_int(text)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"--size {name}: {error}", fix=f"--size {name}=100") from None
