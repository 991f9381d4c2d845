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
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.cli import options, show
from potstill.data import uploads
from potstill.errors import ConfigError, StoreError
from potstill.runs import manifest
from potstill.store import Store
from potstill.store.admin import maintain, transfer
from potstill.store.database import rescue_command

MAX_CALLS = 50  # calls in the terminal where no --limit is given; --json has them all
KEY_CHARS = 10  # of a call's key, in the table
ACTIONS = {
    "stats": "how many completions, attempts, judgements, traces and students, by whom and at what cost",
    "verify": "check every key, id, reference and Parquet file; exit code 2 where something is damaged",
    "journal": "every call with what was asked, what came, its use and cost, and what the verifiers said",
    "gc": "what no arm needs any more: completions, traces, verdicts of older verifiers",
    "export": "every completion that can be read as JSON lines",
    "import": "take the completions of an export, so that a run need not ask for them",
    "parquet": "write the Parquet files of traces and rows again where they are missing, broken or old",
}
STATUSES = "right, wrong, unparsed, unjudged, stop, length, error, or a kind of error such as rate, refused, timeout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    for name, summary in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=summary)
        action.add_argument("run", type=options.expand_path, metavar="RUN", help="a run folder")
        _add_action_arguments(name, action)
        options.add_json(action)


def _add_action_arguments(name: str, action: argparse.ArgumentParser) -> None:
    if name == "gc":
        action.add_argument(
            "--delete", action="store_true", help="delete them; without this they are only counted"
        )
        action.add_argument(
            "--students", action="store_true", help="also students that no arm's rows name"
        )
    if name == "export":
        action.add_argument(
            "--out",
            type=options.location,
            required=True,
            metavar="FILE",
            help="a .jsonl file, or its URL (s3://…)",
        )
    if name == "import":
        action.add_argument(
            "file",
            type=options.location,
            metavar="FILE",
            help="what `cache export` wrote, or its URL",
        )
        action.add_argument(
            "--paid",
            action="store_true",
            help="the same run, rescued: what it paid counts here too",
        )
    if name == "journal":
        action.add_argument(
            "--limit",
            type=options.positive_int,
            metavar="N",
            help=f"the first N calls ({MAX_CALLS}; with --json all)",
        )
        action.add_argument(
            "--call",
            default="",
            metavar="KEY",
            help="one call whole, with its tries: its key, or the beginning that the table shows",
        )
        action.add_argument("--arm", default="", help="what this arm paid for or needed (all)")
        action.add_argument("--status", default="", help=f"{STATUSES} (all)")


def execute(args: argparse.Namespace) -> None:
    """Do the action and print what came of it."""
    actions = {
        "stats": _stats,
        "verify": _verify,
        "journal": _journal,
        "gc": _collect_garbage,
        "export": _export,
        "import": _import,
        "parquet": _rewrite_parquet,
    }
    actions[args.action](args)


def _stats(args: argparse.Namespace) -> None:
    with Store.open(args.run, readonly=True) as store:
        try:
            specs: dict[str, str] = dict(manifest.read(store.folder).settings.get("roles", {}))
        except StoreError:  # a store without a run, such as one that completions were imported into
            specs = {}
        stats = maintain.store_stats(store, specs)
    if args.json:
        show.print_json(stats)
        return
    counts = []
    for name, value in stats.items():
        if isinstance(value, int):
            counts.append({"what": name.replace("_", " "), "count": f"{value:,}"})
    show.print_table(counts)
    _print_rows(stats["paid"], title="completions, by who asked first")
    _print_rows(stats["tried"], title="attempts that became no completion")
    spent = [{"role": role, **amount} for role, amount in stats["spent"].items()]
    _print_rows(spent, title="spent by this store, attempts and open calls included")
    arms = []
    for arm, is_done in stats["arms"].items():
        arms.append({"arm": arm, "came to its end": "yes" if is_done else "no"})
    show.print_table(arms)


def _print_rows(rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    lines = []
    for row in rows:
        lines.append({name.replace("_", " "): format_cell(name, row[name]) for name in row})
    show.print_table(lines, title=title)


def format_cell(name: str, value: Any) -> str:
    """A value of a row; a cost in USD without zeros at its end."""
    if name == "cost":
        if value is None:
            return show.NONE
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)


def _verify(args: argparse.Namespace) -> None:
    with Store.open(args.run, readonly=True) as store:
        damage = maintain.check_store(store)
    if args.json:
        show.print_json({"sound": not damage, "found": damage})
    else:
        for line in damage or [f"{args.run} is sound"]:
            show.print_line(line)
    if damage:
        fix = rescue_command(args.run)
        if all(".parquet" in line for line in damage):
            fix = f"potstill cache parquet {args.run}"
        raise StoreError(
            f"{len(damage)} entries of {args.run} are damaged",
            expected="every key, id and text to be what was written, every reference to be there",
            fix=fix,
        )


def _journal(args: argparse.Namespace) -> None:
    from potstill.store.admin import journal

    with Store.open(args.run, readonly=True) as store:
        _check_filters(args, store)
        entries = journal.read_entries(store, arm=args.arm, status=args.status)
        if args.call:
            calls = [entry for entry in entries if is_call(entry.key, args.call)]
            _print_call(args, calls)
            return
        if args.json:
            shown = itertools.islice(entries, args.limit)
            show.print_json_list("journal", (entry.to_json_dict() for entry in shown))
            return
        limit = args.limit or MAX_CALLS
        lines = []
        count = 0
        for entry in entries:
            count += 1
            if count <= limit:
                lines.append(_journal_line(entry))
    show.print_table(lines)
    total = f"{count:,} calls"
    if count > limit:
        total += f", {limit} of them shown: --limit N shows more, --json lists them all"
    show.print_line(f"{total}; --call KEY shows one whole")


def is_call(key: str, text: str) -> bool:
    """Whether a text names a call: its key, or the beginning of it or of its digits."""
    return key.startswith(text) or key.rpartition("-")[2].startswith(text)


def _print_call(args: argparse.Namespace, calls: Sequence[Any]) -> None:
    """Print everything that is known of one call; its tries before it."""
    keys = sorted({entry.key for entry in calls})
    if len(keys) != 1:
        message = f"no call of {args.run} has a key that begins with {args.call!r}"
        if keys:
            message = f"several calls of {args.run} have keys that begin with {args.call!r}"
        raise StoreError(
            message, available=keys[:10], fix=f"potstill cache journal {args.run} lists the calls"
        )
    if args.json:
        show.print_json({"key": keys[0], "journal": [entry.to_json_dict() for entry in calls]})
        return
    show.print_line(f"call {keys[0]}")
    for entry in calls:
        values = entry.to_json_dict()
        show.print_line(
            f"\ntry {entry.number}" + (", the completion" if entry.is_completion else "")
        )
        for name in ("arm", "role", "model", "served", "finish_reason", "error", "cost", "seconds"):
            if values[name] not in ("", None):
                show.print_line(f"  {name}: {values[name]}")
        show.print_line(f"  tokens: {_format_pairs(values['tokens'])}")
        if entry.payload:
            show.print_line(f"  settings: {_format_pairs(entry.payload.get('settings') or {})}")
            _print_block("asked", show.format_prompt(entry.payload.get("prompt", "")))
        _print_block("thought", entry.reasoning)
        _print_block("reply", entry.reply)
        for verdict in entry.verdicts:
            status = verdict.status or "not judged"
            read = "" if verdict.answer is None else f", read {verdict.answer!r}"
            show.print_line(f"  {verdict.trace} ({verdict.arm} {verdict.operator}): {status}{read}")


def _format_pairs(values: Any) -> str:
    pairs = values.items() if isinstance(values, Mapping) else values
    return ", ".join(f"{name} {value}" for name, value in pairs) or show.NONE


def _print_block(title: str, text: str) -> None:
    if text:
        show.print_line(f"  {title}:")
        show.print_block(text)


def _check_filters(args: argparse.Namespace, store: Store) -> None:
    """Refuse an arm that the store does not know and a status that no call has."""
    from potstill.store.admin import journal

    if args.arm:
        arms = set(store.history.arms())
        arms.update(arm for (arm,) in store.database.read("SELECT DISTINCT arm FROM uses"))
        if args.arm not in arms:
            raise StoreError(
                f"{args.run} has no arm {args.arm!r}", available=sorted(arms), wanted=args.arm
            )
    if args.status:
        statuses = journal.list_statuses(store)
        if args.status not in statuses:
            raise ConfigError(
                f"no call has the status {args.status!r}", available=statuses, wanted=args.status
            )


def _journal_line(entry: Any) -> dict[str, str]:
    verdicts: dict[str, None] = {}  # in their order, each once
    for verdict in entry.verdicts:
        if verdict.status:
            verdicts[f"{verdict.status} ({verdict.verifier})"] = None
    token_count = entry.tokens["prompt"] + entry.tokens["completion"]
    ended, prompt = entry.finish_reason, str(entry.payload.get("prompt", show.NONE))
    if entry.is_scoring:
        ended, prompt = "scored", entry.payload["prefix"]
    return {
        "key": entry.key.rpartition("-")[2][:KEY_CHARS],
        "arm": entry.arm,
        "role": entry.role,
        "try": str(entry.number),
        "ended": show.keep_end(entry.error, 40) or ended,
        "tokens": f"{token_count:,}",
        "cost": format_cell("cost", entry.cost),
        "verdict": ", ".join(verdicts) or show.NONE,
        "asked": show.keep_end(prompt, 40),
        "reply": show.keep_end(entry.reply, 40),
    }


def _collect_garbage(args: argparse.Namespace) -> None:
    from potstill import verifiers

    versions = []
    for is_on in (False, True):
        with verifiers.reading_thoughts(is_on):
            versions += [verifiers.version(kind) for kind in verifiers.KINDS]
    with Store.open(args.run, create=False, readonly=not args.delete) as store:
        garbage = maintain.collect_garbage(
            store, dry_run=not args.delete, versions=versions, students=args.students
        )
    if args.json:
        show.print_json(garbage._asdict())
        return
    students = f", {garbage.students:,} students" if args.students else ""
    outcome = "deleted" if garbage.deleted else "could be deleted (--delete)"
    show.print_line(
        f"{garbage.completions:,} completions ({garbage.bytes:,} bytes), {garbage.traces:,} traces, "
        f"{garbage.verdicts:,} verdicts{students} {outcome}"
    )


def _export(args: argparse.Namespace) -> None:
    uploads.check_writable(args.out)
    with Store.open(args.run, readonly=True) as store:
        export = transfer.export_completions(store, args.out)
    if export.lost != 0:
        count = "an unknown number of" if export.lost is None else f"{export.lost:,}"
        print(f"{count} completions are damaged and were left out", file=sys.stderr)
    if args.json:
        show.print_json({**export._asdict(), "out": str(args.out)})
        return
    show.print_line(f"{export.completions:,} completions  {args.out}")


def _import(args: argparse.Namespace) -> None:
    if not args.file.is_file():
        raise StoreError(
            f"no file {args.file}",
            expected="what potstill cache export wrote",
            fix="potstill cache export RUN --out FILE",
        )
    with Store.open(args.run) as store:
        counts = transfer.import_completions(store, args.file, paid=args.paid)
    if args.json:
        show.print_json(counts._asdict())
        return
    show.print_line(f"{counts.new:,} new, {counts.known:,} known completions")


def _rewrite_parquet(args: argparse.Namespace) -> None:
    from potstill.store.admin import parquet

    with Store.open(args.run, create=False) as store:
        paths = parquet.rewrite_files(store.database, store.folder)
    if args.json:
        show.print_json({"written": [str(path) for path in paths]})
        return
    for path in paths:
        show.print_line(str(path))
    show.print_line(f"{len(paths):,} files written; the others are what the store says")
