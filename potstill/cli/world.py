"""The built-in world: stories of running totals and walks on a grid, each with a real teacher and student.

examples:
  potstill world problems story --size 3
  potstill world info
  potstill world problems walk --size 3
  potstill world check --family walk
  potstill world build student --work build/world --out build/student
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.errors import StoreError
from potstill.extras import TRAINING, require_extra
from potstill.runs.sources import BUILD_RECORD, CHECKPOINTS
from potstill.world.families import FAMILIES, SHIPPED

CHECK_SIZE = 600  # problems that a build is checked on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="problems|info|build|check"
    )
    _add_problems(actions)
    info = actions.add_parser(
        "info", help="the shipped checkpoints", description="Describe the shipped checkpoints."
    )
    options.add_json(info)
    _add_build(actions)
    _add_check(actions)


def _add_problems(actions: Any) -> None:
    problems = actions.add_parser(
        "problems", help="print some problems", description="Print some problems."
    )
    problems.add_argument(
        "task",
        nargs="?",
        default="story",
        metavar="TASK",
        help="story or walk, each also with -easy and -hard; as program tasks story-code, story-code-easy or "
        "story-code-hard; gym, or gym-FAMILY such as gym-products (story)",
    )
    problems.add_argument(
        "--size", type=options.positive_int, default=5, metavar="N", help="how many (5)"
    )
    problems.add_argument("--split", default="train", help="train, test or any other name (train)")
    problems.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="another seed, other problems (0)",
    )
    options.add_json(problems)


def _add_build(actions: Any) -> None:
    about = "Train a checkpoint; started again on the same folder it goes on. Up to 90 minutes on two cores."
    build = actions.add_parser("build", help="train a checkpoint", description=about)
    build.add_argument("who", choices=tuple(SHIPPED), help="which one")
    build.add_argument(
        "--work",
        type=options.expand_path,
        metavar="DIR",
        help="states and log (build/world/NAME)",
    )
    build.add_argument(
        "--out",
        type=options.expand_path,
        metavar="DIR",
        help="the checkpoint (default: where the package looks for it)",
    )
    build.add_argument(
        "--threads", type=options.positive_int, default=2, metavar="N", help="CPU threads (2)"
    )
    options.add_json(build)


def _add_check(actions: Any) -> None:
    about = "Measure the shipped teachers and students, and whether a student's rewrites depend on its errors."
    check = actions.add_parser("check", help="measure the shipped checkpoints", description=about)
    check.add_argument("--family", choices=tuple(FAMILIES), help="only this family (all)")
    check.add_argument(
        "--size",
        type=options.positive_int,
        default=CHECK_SIZE,
        metavar="N",
        help=f"problems of a family ({CHECK_SIZE})",
    )
    check.add_argument(
        "--threads", type=options.positive_int, default=2, metavar="N", help="CPU threads (2)"
    )
    options.add_json(check)


def execute(args: argparse.Namespace) -> None:
    """Do the action."""
    actions = {"problems": _problems, "info": _info, "build": _build, "check": _check}
    actions[args.action](args)


def _problems(args: argparse.Namespace) -> None:
    from potstill.world.tasks import make_problems

    problems = make_problems(args.task, size=args.size, seed=args.seed, split=args.split)
    if args.json:
        show.print_json(problems)
        return
    for problem in problems:
        show.print_line(f"{problem.id}\n  {problem.question}\n  {problem.solution}\n")


def _info(args: argparse.Namespace) -> None:
    checkpoints = [describe_checkpoint(name) for name in SHIPPED]
    record = _read_build_record()
    if args.json:
        show.print_json({"checkpoints": checkpoints, "build": record})
        return
    show.print_table([_checkpoint_line(checkpoint) for checkpoint in checkpoints])
    for checkpoint in checkpoints:
        if checkpoint["bytes"] is None:
            name = checkpoint["name"].partition(":")[2]
            show.print_line(f"{checkpoint['name']} is missing: potstill world build {name}")
    for family, measured in record.items():
        _print_measurements(family, measured)
    if not record:
        show.print_line(f"no build record ({BUILD_RECORD.name}) is shipped with this version")


def _build(args: argparse.Namespace) -> None:
    require_extra("local", TRAINING)
    from potstill.world.build import build

    out = args.out or CHECKPOINTS / args.who
    work = args.work or Path("build/world") / args.who
    # The build logs a line an evaluation on stdout, which belongs to the one JSON document.
    with contextlib.redirect_stdout(sys.stderr):
        build(args.who, work, out, threads=args.threads)
    family = SHIPPED[args.who].family
    if not args.out and all(describe_checkpoint(name)["bytes"] for name in names_of_family(family)):
        check_checkpoints(family, CHECK_SIZE, args.threads)
    if args.json:
        log = str(work / "log.jsonl")
        show.print_json({"model": args.who, "out": str(out), "log": log})
        return
    show.print_line(f"{args.who}  {out}")


def _check(args: argparse.Namespace) -> None:
    families = (args.family,) if args.family else tuple(FAMILIES)
    record = {family: check_checkpoints(family, args.size, args.threads) for family in families}
    if args.json:
        show.print_json(record)
        return
    for family, measured in record.items():
        _print_measurements(family, measured)


def names_of_family(family: str) -> list[str]:
    """The names of a family's checkpoints: its teacher's, then its student's."""
    return [name for name, checkpoint in SHIPPED.items() if checkpoint.family == family]


def check_checkpoints(family: str, size: int, threads: int) -> dict[str, Any]:
    """Measure a family's shipped checkpoints and write what was measured beside them."""
    from potstill.runs.manifest import write
    from potstill.runs.sources import world_model
    from potstill.studies.rewriting import check, check_at_once

    teacher, student = (world_model(name, threads) for name in names_of_family(family))
    measured = check(teacher, student, task=family, size=size)  # type: ignore[arg-type]
    if FAMILIES[family].is_taught_at_once:
        measured["teacher at once"] = check_at_once(teacher, task=family, size=size)
    write(BUILD_RECORD, _read_build_record() | {family: measured})
    return measured


def describe_checkpoint(name: str) -> dict[str, Any]:
    """A shipped checkpoint: bytes on disk and parameters, read from the files' headers; None where it is missing."""
    folder = CHECKPOINTS / name
    files = [path for path in folder.glob("**/*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    description: dict[str, Any] = {
        "name": f"world:{name}",
        "folder": str(folder),
        "bytes": None,
        "parameters": None,
        "context": None,
    }
    if weights:
        description["bytes"] = sum(path.stat().st_size for path in files)
        description["parameters"] = sum(count_parameters(path) for path in weights)
        description["context"] = _read_context(folder)
    return description


def count_parameters(path: Path) -> int:
    """Numbers in a safetensors file: 8 bytes of length, then a JSON header with every tensor's shape."""
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_size))
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        size = 1
        for side in tensor["shape"]:
            size *= side
        total += size
    return total


def _read_context(folder: Path) -> int:
    from potstill.models.local.checkpoint import read_config

    return int(read_config(folder).get("max_position_embeddings", 0))


def _read_build_record() -> dict[str, Any]:
    """What the build measured, by family; empty where this version ships no record."""
    if not BUILD_RECORD.is_file():
        return {}
    try:
        record = json.loads(BUILD_RECORD.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{BUILD_RECORD} is no JSON ({error})", fix="install potstill again"
        ) from error
    return dict(record)


def _checkpoint_line(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    line = {
        "model": checkpoint["name"],
        "size": "missing",
        "parameters": show.NONE,
        "context": show.NONE,
        "folder": checkpoint["folder"],
    }
    if checkpoint["bytes"] is not None:
        line["size"] = f"{checkpoint['bytes'] / 1e6:.1f} MB"
        line["parameters"] = f"{checkpoint['parameters']:,}"
        line["context"] = f"{checkpoint['context']:,}"
    return line


def _print_measurements(family: str, measured: Mapping[str, Any]) -> None:
    """How well a family's models solve, and how often rewrites verify, by whose errors the prompt showed."""
    models = []
    for name in ("teacher", "teacher at once", "student"):
        if name in measured:
            models.append({"model": name, **_format_shares(measured[name])})
    show.print_table(models, title=f"{family}: held-out problems at temperature 0.6")
    lines = []
    for name, shares in measured.get("rewriting", {}).items():
        lines.append({"shown": f"{name} errors", **_format_shares(shares)})
    show.print_table(
        lines,
        title=f"{family}: the student's rewrites that verify, by whose errors its prompt showed",
    )
    differences = []
    for name, (value, low, high) in measured.get("differences", {}).items():
        points = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
        differences.append({"difference": name, "points": points})
    show.print_table(differences, title=f"{family}: paired differences, with 95 % intervals")


def _format_shares(measured: Mapping[str, Any]) -> dict[str, str]:
    cells = {}
    for name, value in measured.items():
        cells[name] = f"{100 * value:.1f} %" if isinstance(value, float) else f"{value:,}"
    return cells
