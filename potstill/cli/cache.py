"""A run's store: what is in it, whether it is sound, what nobody needs; its completions as a file and back.

examples:
  potstill cache stats runs/sft
  potstill cache verify runs/sft
  potstill cache gc runs/sft --delete
  potstill cache export runs/sft --out completions.jsonl
  potstill cache import runs/other completions.jsonl
"""

from __future__ import annotations

import argparse
from typing import Any

from potstill.cli import options, show
from potstill.errors import StoreError
from potstill.store import Store, maintain

_HELP = {
    "stats": "how many completions, judgements, traces and students, by whom and at what cost",
    "verify": "check every key, id and reference; exit code 2 where something is damaged",
    "gc": "completions that no arm needs any more",
    "export": "every completion as JSON lines",
    "import": "take the completions of an export, so that a run need not ask for them",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(_HELP))
    for name, told in _HELP.items():
        action = actions.add_parser(name, help=told, description=told)
        action.add_argument("run", type=options.folder, metavar="RUN", help="a run folder")
        if name == "gc":
            action.add_argument("--delete", action="store_true", help="delete them; without this they are only counted")
        if name == "export":
            action.add_argument("--out", type=options.folder, required=True, metavar="FILE", help="a .jsonl file")
        if name == "import":
            action.add_argument("file", type=options.folder, metavar="FILE", help="what `cache export` wrote")
        options.add_json(action)


def execute(args: argparse.Namespace) -> None:
    """Do it and print what was found."""
    {"stats": _stats, "verify": _verify, "gc": _gc, "export": _export, "import": _import}[args.action](args)


def _stats(args: argparse.Namespace) -> None:
    with Store.open(args.run, readonly=True) as store:
        found = maintain.stats(store)
    if args.json:
        show.document(found)
        return
    counts = {name: value for name, value in found.items() if isinstance(value, int)}
    show.table([{"what": name.replace("_", " "), "count": f"{value:,}"} for name, value in counts.items()])
    show.table([_paid(row) for row in found["paid"]], title="completions, by who asked first")
    show.table([{"arm": arm, "came to its end": "yes" if done else "no"} for arm, done in found["arms"].items()])


def _paid(row: dict[str, Any]) -> dict[str, str]:
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else _text(value) for name, value in row.items()
    }


def _text(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _verify(args: argparse.Namespace) -> None:
    with Store.open(args.run, readonly=True) as store:
        found = maintain.verify(store)
    if args.json:
        show.document({"sound": not found, "found": found})
    elif not found:
        show.say(f"{args.run} is sound")
    for line in found if not args.json else ():
        show.say(line)
    if found:
        raise StoreError(
            f"{len(found)} entries of {args.run} are damaged",
            expected="every key and id to fit its content, every reference to be there",
            fix="move the folder away and run again; potstill cache export saves the completions that are sound",
        )


def _gc(args: argparse.Namespace) -> None:
    with Store.open(args.run, create=False, readonly=not args.delete) as store:
        gone = maintain.gc(store, dry_run=not args.delete)
    if args.json:
        show.document(gone._asdict())
        return
    done = "deleted" if gone.deleted else "could be deleted (--delete)"
    show.say(f"{gone.completions:,} completions, {gone.bytes:,} bytes {done}")


def _export(args: argparse.Namespace) -> None:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with Store.open(args.run, readonly=True) as store:
        written = maintain.export(store, args.out)
    said = {"completions": written, "out": str(args.out)}
    show.document(said) if args.json else show.say(f"{written:,} completions  {args.out}")


def _import(args: argparse.Namespace) -> None:
    if not args.file.is_file():
        raise StoreError(
            f"no file {args.file}",
            expected="what potstill cache export wrote",
            fix="potstill cache export RUN --out FILE",
        )
    with Store.open(args.run) as store:
        taken = maintain.import_(store, args.file)
    show.document(taken._asdict()) if args.json else show.say(f"{taken.new:,} new, {taken.known:,} known completions")
