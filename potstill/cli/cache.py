"""A run's store: what is in it and what it cost, whether it is sound, what nobody needs; its completions as a file.

`journal` lists every call, failed, truncated and wrong ones too. `export` saves what can be read of a damaged store.

examples:
  potstill cache stats runs/sft
  potstill cache verify runs/sft
  potstill cache journal runs/sft --status wrong
  potstill cache journal runs/sft --arm sft --json > journal.json
  potstill cache gc runs/sft --delete
  potstill cache export runs/sft --out completions.jsonl
  potstill cache import runs/other completions.jsonl
  potstill cache parquet runs/sft
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from potstill.cli import options, show
from potstill.errors import ConfigError, StoreError
from potstill.runs import manifest
from potstill.store import Store
from potstill.store.admin import maintain, transfer
from potstill.store.database import rescue_command

SHOWN = 50  # calls in the terminal; --json has them all
_HELP = {
    "stats": "how many completions, attempts, verdicts, traces and students, by whom and at what cost",
    "verify": "check every key, id, reference and Parquet file; exit code 2 where something is damaged",
    "journal": "every call with what was asked, what came, its use and cost, and what the verifiers said",
    "gc": "what no arm needs any more: completions, traces, verdicts of older verifiers",
    "export": "every completion that can be read as JSON lines",
    "import": "take the completions of an export, so that a run need not ask for them",
    "parquet": "write the Parquet files of traces and rows again where they are missing, broken or old",
}
_STATUSES = "right, wrong, unparsed, unjudged, stop, length, error, or a kind of error such as rate, refused, timeout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(_HELP))
    for name, told in _HELP.items():
        action = actions.add_parser(name, help=told, description=told)
        action.add_argument("run", type=options.expand_path, metavar="RUN", help="a run folder")
        _add(name, action)
        options.add_json(action)


def _add(name: str, action: argparse.ArgumentParser) -> None:
    if name == "gc":
        action.add_argument(
            "--delete", action="store_true", help="delete them; without this they are only counted"
        )
        action.add_argument(
            "--students", action="store_true", help="also students that no arm's rows name"
        )
    if name == "export":
        action.add_argument(
            "--out", type=options.expand_path, required=True, metavar="FILE", help="a .jsonl file"
        )
    if name == "import":
        action.add_argument(
            "file", type=options.expand_path, metavar="FILE", help="what `cache export` wrote"
        )
        action.add_argument(
            "--paid",
            action="store_true",
            help="the same run, rescued: what it paid counts here too",
        )
    if name == "journal":
        action.add_argument("--arm", default="", help="what this arm paid for or needed")
        action.add_argument("--status", default="", help=_STATUSES)


def execute(args: argparse.Namespace) -> None:
    """Do it and print what was found."""
    actions = {
        **{"stats": _stats, "verify": _verify, "journal": _journal, "gc": _gc},
        **{"export": _export, "import": _import, "parquet": _parquet},
    }
    actions[args.action](args)


def _stats(args: argparse.Namespace) -> None:
    with Store.open(args.run, readonly=True) as store:
        try:
            specs: dict[str, str] = dict(manifest.read(store.folder).settings.get("roles", {}))
        except StoreError:  # a store without a run, such as one that completions were imported into
            specs = {}
        found = maintain.store_stats(store, specs)
    if args.json:
        show.print_json(found)
        return
    counts = {name: value for name, value in found.items() if isinstance(value, int)}
    show.print_table(
        [{"what": name.replace("_", " "), "count": f"{value:,}"} for name, value in counts.items()]
    )
    show.print_table([_told(row) for row in found["paid"]], title="completions, by who asked first")
    show.print_table(
        [_told(row) for row in found["tried"]], title="attempts that became no completion"
    )
    spent = [{"role": role, **amount} for role, amount in found["spent"].items()]
    show.print_table(
        [_told(row) for row in spent], title="spent by this store, attempts and open calls included"
    )
    show.print_table(
        [
            {"arm": arm, "came to its end": "yes" if done else "no"}
            for arm, done in found["arms"].items()
        ]
    )


def _told(row: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("_", " "): _text(name, value) for name, value in row.items()}


def _text(name: str, value: Any) -> str:
    if name == "cost":
        return f"{value:.6f}".rstrip("0").rstrip(".") if value is not None else "–"
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.1f}"
        if isinstance(value, float)
        else str(value)
    )


def _verify(args: argparse.Namespace) -> None:
    with Store.open(args.run, readonly=True) as store:
        found = maintain.check_store(store)
    if args.json:
        show.print_json({"sound": not found, "found": found})
    elif not found:
        show.print_line(f"{args.run} is sound")
    for line in found if not args.json else ():
        show.print_line(line)
    if found:
        parquet = all(".parquet" in line for line in found)
        raise StoreError(
            f"{len(found)} entries of {args.run} are damaged",
            expected="every key, id and text to be what was written, every reference to be there",
            fix=f"potstill cache parquet {args.run}" if parquet else rescue_command(args.run),
        )


def _journal(args: argparse.Namespace) -> None:
    from potstill.store.admin import journal

    with Store.open(args.run, readonly=True) as store:
        arms = store.history.arms()
        known = {*arms, *(arm for (arm,) in store.database.read("SELECT DISTINCT arm FROM uses"))}
        if args.arm and args.arm not in known:
            raise StoreError(
                f"{args.run} has no arm {args.arm!r}", available=sorted(known), wanted=args.arm
            )
        if args.status and args.status not in (statuses := journal.list_statuses(store)):
            raise ConfigError(
                f"no call has the status {args.status!r}", available=statuses, wanted=args.status
            )
        found = journal.read_entries(store, arm=args.arm, status=args.status)
        if args.json:
            show.print_json_list("journal", (entry.to_json_dict() for entry in found))
            return
        rows, count = [], 0
        for count, entry in enumerate(found, start=1):
            if count <= SHOWN:
                rows.append(_line(entry))
    show.print_table(rows)
    show.print_line(
        f"{count:,} calls"
        + (f", {SHOWN} of them shown: --json lists them all" if count > SHOWN else "")
    )


def _line(entry: Any) -> dict[str, str]:
    judged = dict.fromkeys(f"{j.status} ({j.verifier})" for j in entry.verdicts if j.status)
    return {
        "arm": entry.arm,
        "role": entry.role,
        "call": str(entry.number),
        "ended": show.keep_end(entry.error, 40) or entry.finish,
        "tokens": f"{entry.tokens['prompt'] + entry.tokens['completion']:,}",
        "cost": _text("cost", entry.cost),
        "verdict": ", ".join(judged) or "–",
        "asked": show.keep_end(str(entry.payload.get("prompt", "–")), 40),
        "reply": show.keep_end(entry.reply, 40),
    }


def _gc(args: argparse.Namespace) -> None:
    from potstill import verifiers

    versions = [verifiers.version(kind) for kind in verifiers.KINDS]
    with Store.open(args.run, create=False, readonly=not args.delete) as store:
        gone = maintain.collect_garbage(
            store, dry_run=not args.delete, versions=versions, students=args.students
        )
    if args.json:
        show.print_json(gone._asdict())
        return
    done = "deleted" if gone.deleted else "could be deleted (--delete)"
    students = f", {gone.students:,} students" if args.students else ""
    show.print_line(
        f"{gone.completions:,} completions ({gone.bytes:,} bytes), {gone.traces:,} traces, "
        f"{gone.verdicts:,} verdicts{students} {done}"
    )


def _export(args: argparse.Namespace) -> None:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with Store.open(args.run, readonly=True) as store:
        done = transfer.export_completions(store, args.out)
    if done.lost != 0:
        lost = "an unknown number of" if done.lost is None else f"{done.lost:,}"
        print(f"{lost} completions are damaged and were left out", file=sys.stderr)
    said = {**done._asdict(), "out": str(args.out)}
    show.print_json(said) if args.json else show.print_line(
        f"{done.completions:,} completions  {args.out}"
    )


def _import(args: argparse.Namespace) -> None:
    if not args.file.is_file():
        raise StoreError(
            f"no file {args.file}",
            expected="what potstill cache export wrote",
            fix="potstill cache export RUN --out FILE",
        )
    with Store.open(args.run) as store:
        taken = transfer.import_completions(store, args.file, paid=args.paid)
    show.print_json(taken._asdict()) if args.json else show.print_line(
        f"{taken.new:,} new, {taken.known:,} known completions"
    )


def _parquet(args: argparse.Namespace) -> None:
    from potstill.store.admin import parquet

    with Store.open(args.run, create=False) as store:
        written = parquet.rewrite_files(store.database, store.folder)
    if args.json:
        show.print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        show.print_line(str(path))
    show.print_line(f"{len(written):,} files written; the others are what the store says")
