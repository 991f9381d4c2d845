"""The built-in world: stories of running totals, with a real teacher and student.

examples:
  potstill world problems story --size 3
  potstill world info
  potstill world check
  potstill world build student --work build/world --out build/student
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.errors import StoreError
from potstill.runs.sources import BUILD_RECORD, CHECKPOINTS

WHO = ("teacher", "student")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="problems|info|build|check"
    )
    problems = actions.add_parser(
        "problems", help="print some problems", description="Print some problems."
    )
    problems.add_argument(
        "task", nargs="?", default="story", metavar="TASK", help="story, story-easy or story-hard"
    )
    problems.add_argument(
        "--size", type=options.positive_int, default=5, metavar="N", help="how many (5)"
    )
    problems.add_argument("--split", default="train", help="train, test or any other name (train)")
    problems.add_argument(
        "--seed", type=options.non_negative_int, default=0, help="another seed, other problems (0)"
    )
    info = actions.add_parser(
        "info", help="the shipped checkpoints", description="Describe the shipped checkpoints."
    )
    about = "Train a checkpoint; started again on the same folder it goes on. Up to 90 minutes on two cores."
    build = actions.add_parser("build", help="train a checkpoint", description=about)
    build.add_argument("who", choices=WHO, help="which one")
    build.add_argument(
        "--work",
        type=options.expand_path,
        default="build/world",
        metavar="DIR",
        help="states and log",
    )
    build.add_argument(
        "--out",
        type=options.expand_path,
        metavar="DIR",
        help="default: where the package looks for it",
    )
    build.add_argument(
        "--threads", type=options.positive_int, default=2, metavar="N", help="CPU threads (2)"
    )
    about = "Measure the shipped teacher and student, and whether the student's rewrites depend on its errors."
    check = actions.add_parser("check", help="measure the shipped checkpoints", description=about)
    check.add_argument(
        "--size", type=options.positive_int, default=600, metavar="N", help="stories (600)"
    )
    check.add_argument(
        "--threads", type=options.positive_int, default=2, metavar="N", help="CPU threads (2)"
    )
    for action in (problems, info, build, check):
        options.add_json(action)


def execute(args: argparse.Namespace) -> None:
    """Do it."""
    {"problems": _problems, "info": _info, "build": _build, "check": _check}[args.action](args)


def _problems(args: argparse.Namespace) -> None:
    from potstill.world import story

    found = story.problems(args.task, size=args.size, seed=args.seed, split=args.split)
    if args.json:
        show.print_json(found)
        return
    for problem in found:
        show.print_line(f"{problem.id}\n  {problem.question}\n  {problem.solution}\n")


def _info(args: argparse.Namespace) -> None:
    checkpoints = [describe(who) for who in WHO]
    built = _built()
    if args.json:
        show.print_json({"checkpoints": checkpoints, "build": built})
        return
    show.print_table([_told(found) for found in checkpoints])
    _measured(built)
    if not built:
        show.print_line(f"no build record ({BUILD_RECORD.name}) is shipped with this version")


def _measured(built: dict[str, Any]) -> None:
    """What the build's check found: how often rewrites verify, by whose errors the prompt showed."""
    rows = [
        {"shown": f"{name} errors", **_shares(found)}
        for name, found in built.get("rewriting", {}).items()
    ]
    show.print_table(
        rows, title="the student's rewrites that verify, by whose errors its prompt showed"
    )
    differences = built.get("differences", {})
    points = [
        {"difference": name, "points": f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"}
        for name, (value, low, high) in differences.items()
    ]
    show.print_table(points, title="paired differences, with 95 % intervals")


def _shares(found: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{100 * value:.1f} %" if isinstance(value, float) else f"{value:,}"
        for name, value in found.items()
    }


def describe(who: str) -> dict[str, Any]:
    """A shipped checkpoint: bytes on disk and parameters, read from the files' headers; None where it is missing."""
    folder = CHECKPOINTS / who
    files = [path for path in folder.glob("**/*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    there = bool(weights)
    return {
        "name": f"world:{who}",
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in files) if there else None,
        "parameters": sum(map(_parameters, weights)) if there else None,
        "context": _context(folder) if there else None,
    }


def _told(found: dict[str, Any]) -> dict[str, str]:
    size = found["bytes"]
    missing = f"missing: potstill world build {found['name'].partition(':')[2]}"
    return {
        "model": found["name"],
        "size": f"{size / 1e6:.1f} MB" if size is not None else missing,
        "parameters": f"{found['parameters']:,}" if size is not None else "–",
        "context": f"{found['context']:,}" if size is not None else "–",
        "folder": found["folder"],
    }


def _parameters(path: Path) -> int:
    """Numbers in a safetensors file: 8 bytes of length, then a JSON header with every tensor's shape."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for side in tensor["shape"]:
                size *= side
            total += size
    return total


def _context(folder: Path) -> int:
    from potstill.models.local.checkpoint import read_config

    return int(read_config(folder).get("max_position_embeddings", 0))


def _built() -> dict[str, Any]:
    if not BUILD_RECORD.is_file():
        return {}
    try:
        found = json.loads(BUILD_RECORD.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{BUILD_RECORD} is no JSON ({error})", fix="install potstill again"
        ) from error
    return dict(found) if isinstance(found, dict) else {"log": found}


def _build(args: argparse.Namespace) -> None:
    from potstill.world.build import build

    out = args.out or CHECKPOINTS / args.who
    # The build logs a line an evaluation on stdout, which belongs to the one JSON document.
    with contextlib.redirect_stdout(sys.stderr):
        build(args.who, args.work, out, threads=args.threads)
    if not args.out and all(describe(who)["bytes"] for who in WHO):
        checked(600, args.threads)
    said = {"model": args.who, "out": str(out), "log": str(args.work / "log.jsonl")}
    show.print_json(said) if args.json else show.print_line(f"{args.who}  {out}")


def _check(args: argparse.Namespace) -> None:
    found = checked(args.size, args.threads)
    if args.json:
        show.print_json(found)
        return
    show.print_table(
        [{"model": who, **_shares(found[who])} for who in WHO],
        title="held-out stories at temperature 0.6",
    )
    _measured(found)


def checked(size: int, threads: int) -> dict[str, Any]:
    """Measure the shipped checkpoints and keep what was found beside them."""
    from potstill.runs.manifest import write
    from potstill.runs.sources import world_model
    from potstill.studies.rewriting import check

    found = check(world_model("teacher", threads), world_model("student", threads), size=size)  # type: ignore[arg-type]
    write(BUILD_RECORD, found)
    return found
