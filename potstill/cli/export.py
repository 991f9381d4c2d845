"""Write a run's rows, or a trace file, in the layout of another trainer, text unchanged.

With --out FOLDER the rows come with a dataset card (README.md): method, models, sources and licences as far as known,
counts, what was left out and why, fingerprints, the commands to make it again.

examples:
  potstill export runs/sft --arm sft --format trl --out sft.jsonl
  potstill export runs/sft --arm sft --format messages --out sft-dataset --parquet --licence train.jsonl=mit
  potstill export runs/sft --arm sft --format preference --pairs --out pairs.jsonl
  potstill export traces.jsonl --format sharegpt | head -1
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.data import files, row_traces
from potstill.errors import ConfigError, StageError
from potstill.records import Trace
from potstill.runs import dataset_card
from potstill.runs.export import LAYOUTS, pairs, rows, save, write
from potstill.runs.results import last_stage_rows
from potstill.store import Store

FILES = (".jsonl", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "run",
        type=options.expand_path,
        metavar="RUN|TRACES.jsonl",
        help="a run folder, or a trace file",
    )
    parser.add_argument(
        "--arm", metavar="NAME", default="", help="which arm's rows (those of its last stage)"
    )
    parser.add_argument("--format", required=True, choices=LAYOUTS, help="the layout")
    parser.add_argument(
        "--out",
        type=options.expand_path,
        metavar="FILE|FOLDER",
        help="a .jsonl or .parquet file, or a folder, which also gets a dataset card (default: stdout)",
    )
    parser.add_argument(
        "--parquet", action="store_true", help="in a folder, write train.parquet, not train.jsonl"
    )
    parser.add_argument(
        "--pairs",
        action="store_true",
        help="pairs of right and wrong attempts at one problem (with preference)",
    )
    parser.add_argument(
        "--licence",
        action="append",
        default=[],
        metavar="SOURCE=NAME",
        help="of a source, for the card (mit, …)",
    )
    options.add_skip_bad(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Write the rows, and the card where they go into a folder."""
    with files.skipping(args.skip_bad):
        _export(args)
        for sentence in files.notes():
            print(sentence, file=sys.stderr)  # the rows may go to stdout


def _export(args: argparse.Namespace) -> None:
    if args.pairs and args.format != "preference":
        raise ConfigError("--pairs makes preference rows", fix="--format preference --pairs")
    if not args.out:
        made = rows(_traces(args), args.format)
        show.print_json(made) if args.json else write(made, sys.stdout)
        return
    file = _file(args)
    if args.run.is_dir():
        with Store.open(args.run, readonly=True) as store:
            traces = _of_arm(args, store)
            card = dataset_card.card_of_run(store, args.run, args.arm, **_known(args, traces, file))
    else:
        traces = _traces(args)
        card = dataset_card.card_of_traces(**_known(args, traces, file))
    made = rows(traces, args.format)
    if file != args.out:
        dataset_card.check_can_write(args.out / "README.md")
    save(made, file)
    if file != args.out:
        dataset_card.write_card(card, args.out / "README.md")
    said = {"rows": len(made), "arm": args.arm, "format": args.format, "out": str(args.out)}
    said["fingerprint"] = dataset_card.export_fingerprint(traces, args.format)
    show.print_json(said) if args.json else show.print_line(f"{len(made):,} rows  {args.out}")


def _file(args: argparse.Namespace) -> Path:
    """Where the rows go: the named file, or the folder's train.jsonl or train.parquet."""
    out: Path = args.out
    if out.suffix in FILES:
        return out
    if out.suffix and not out.is_dir():
        raise ConfigError(
            f"--out {out} is of no kind that can be written ({out.suffix})",
            expected="a .jsonl or .parquet file, or a folder without a suffix",
            fix=f"--out {out.with_suffix('.jsonl')}",
        )
    return out / ("train.parquet" if args.parquet else "train.jsonl")


def _known(args: argparse.Namespace, traces: Sequence[Trace], file: Path) -> dict[str, Any]:
    words = [
        "potstill",
        "export",
        args.run.name,
        *(("--arm", args.arm) if args.arm else ()),
        "--format",
        args.format,
    ]
    words += [*(("--pairs",) if args.pairs else ()), *(("--parquet",) if args.parquet else ())]
    words += [word for given in args.licence for word in ("--licence", given)]
    words += ["--out", args.out.name]
    licences = options.parse_pairs(args.licence, "--licence")
    return {
        "rows": traces,
        "layout": args.format,
        "file": file.name,
        "command": shlex.join(words),
        "licences": licences,
    }


def _traces(args: argparse.Namespace) -> list[Trace]:
    if args.run.is_dir():
        with Store.open(args.run, readonly=True) as store:
            return _of_arm(args, store)
    return _chosen(args, [trace for trace in row_traces.load_traces(args.run) if not trace.error])


def _of_arm(args: argparse.Namespace, store: Store) -> list[Trace]:
    known = store.history.arms()
    arms = [arm for arm in known if store.history.row_ids(arm)]
    if args.arm not in known:
        raise ConfigError(
            f"{args.run} has no arm {args.arm!r}"
            if args.arm
            else f"{args.run} is a run folder, and no arm is named",
            available=arms,
            wanted=args.arm,
            fix=f"--arm {(*arms, 'NAME')[0]}",
        )
    traces = (
        list(store.history.traces(args.arm)) if args.pairs else last_stage_rows(store, args.arm)
    )
    if not traces:
        raise StageError(
            f"the arm {args.arm} of {args.run} has no rows yet",
            expected="an arm that came as far as training",
            available=arms,
            fix="run it to its end: the same `potstill run` command takes it up again",
        )
    return _chosen(args, traces)


def _chosen(args: argparse.Namespace, traces: list[Trace]) -> list[Trace]:
    if not args.pairs:
        return traces
    found = pairs(traces)
    if not found:
        raise StageError(
            f"no problem of {args.run} has a right and a wrong attempt",
            expected="judged attempts, several a problem",
            fix="run with --set n=4, or potstill import FILE --judge --out traces.jsonl",
        )
    return found
