"""Write a run's rows, or a trace file, in the layout of another trainer, text unchanged.

With --out FOLDER the rows come with a dataset card (README.md): method, models, sources and licences as far as known,
counts, what was left out and why, fingerprints, the commands to make it again.

examples:
  potstill export runs/sft --arm sft --format trl --out sft.jsonl
  potstill export runs/sft --arm sft --format messages --out sft-dataset --parquet --licence train.jsonl=mit
  potstill export runs/sft --arm sft --format preference --pairs --out pairs.jsonl
  potstill export runs/sft --arm sft --format messages --out s3://bucket/sft --parquet --shard-size 500MB
  potstill export runs/sft --arm sft --format messages --marked good --out good.jsonl
  potstill export traces.jsonl --format sharegpt | head -1
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.cli.rows import is_run_folder
from potstill.data import files, row_files, trace_files, uploads
from potstill.data.row_files import RowsWritten, ShardFormat
from potstill.data.urls import Location
from potstill.errors import ConfigError, StageError
from potstill.records import Trace
from potstill.runs import dataset_card
from potstill.runs import export as layouts
from potstill.runs.dataset_card import Card
from potstill.runs.stages import find_stage, read_rows, why_no_rows
from potstill.store import Store
from potstill.viewer.notes import MARKS, NOTES_FILE, NotesFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "run",
        type=options.location,
        metavar="RUN|TRACES.jsonl",
        help="a run folder, or a trace file or its URL",
    )
    parser.add_argument(
        "--arm",
        metavar="NAME",
        default="",
        help="the arm whose rows are written",
    )
    parser.add_argument(
        "--stage",
        metavar="NAME",
        default="",
        help="which stage of the arm, by name or number (last)",
    )
    parser.add_argument(
        "--format", required=True, choices=layouts.LAYOUTS, help="the layout (docs/data.md)"
    )
    parser.add_argument(
        "--out",
        type=options.location,
        metavar="FILE|FOLDER",
        help="a .jsonl, .jsonl.gz or .parquet file, or a folder, which also gets a dataset card; or the URL of one, "
        "s3://, gs://, hf:// (default: stdout)",
    )
    parser.add_argument(
        "--parquet", action="store_true", help="in a folder, write train.parquet, not train.jsonl"
    )
    options.add_shard_size(parser)
    parser.add_argument(
        "--pairs",
        action="store_true",
        help="pairs of right and wrong attempts at one problem (with preference)",
    )
    parser.add_argument(
        "--marked",
        choices=MARKS,
        help="only what has this mark in the run's notes.jsonl (potstill view --notes)",
    )
    parser.add_argument(
        "--licence",
        action="append",
        default=[],
        metavar="SOURCE=NAME",
        help="licence of a source, for the card (may be given again)",
    )
    options.add_skip_bad(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Write the rows, and the card where they go into a folder."""
    with files.skipping(args.skip_bad):
        _export(args)
        # Not to stdout: the rows may go there.
        for note in files.notes():
            print(note, file=sys.stderr)


def _export(args: argparse.Namespace) -> None:
    if args.pairs and args.format != "preference":
        raise ConfigError("--pairs makes preference rows", fix="--format preference --pairs")
    if args.pairs and args.stage:
        raise ConfigError(
            f"--pairs takes all attempts of an arm, and --stage {args.stage} the rows of one stage",
            fix="give one of the two",
        )
    if args.shard_size and (not args.out or row_files.suffix_of(args.out)):
        raise ConfigError(
            "--shard-size writes a set of files, and --out names no folder",
            expected="--out FOLDER, or the URL of one, without a suffix",
            fix="--out s3://BUCKET/NAME",
        )
    if args.marked and not is_run_folder(args.run):
        raise ConfigError(
            f"--marked {args.marked} is for a run folder, and {args.run} is none",
            fix="leave --marked out",
        )
    if args.stage and not is_run_folder(args.run):
        raise ConfigError(
            f"--stage {args.stage} is for a run folder, and {args.run} is none",
            fix="leave --stage out",
        )

    # To stdout: the rows alone.
    if not args.out:
        traces = _read_traces(args)
        rows = layouts.export_rows(traces, args.format)
        _print_unfinished(traces)
        if args.json:
            show.print_json(rows)
        else:
            layouts.write_json_lines(rows, sys.stdout)
        return

    # Into a file or a folder: what the card says is read while the run's store is open.
    file = _rows_file(args)
    uploads.check_writable(file)
    if is_run_folder(args.run):
        with Store.open(args.run, readonly=True) as store:
            traces = _read_arm(args, store)
            facts = _card_facts(args, traces, file)
            card = dataset_card.card_of_run(
                store, args.run, args.arm, stage=_stage_label(args, store), **facts
            )
    else:
        traces = _read_traces(args)
        card = dataset_card.card_of_traces(**_card_facts(args, traces, file))
    _check_licences(_read_licences(args.licence), card.sources)
    rows = layouts.export_rows(traces, args.format)
    _print_unfinished(traces)
    written = _write_rows(args, rows, file, card)

    if args.json:
        fingerprint = dataset_card.export_fingerprint(traces, args.format)
        report = {"rows": len(rows), "arm": args.arm, "format": args.format, "out": str(args.out)}
        counts = {"files": written.files, "sent": written.sent}
        show.print_json({**report, **counts, "fingerprint": fingerprint})
        return
    shards = ""
    if args.shard_size:
        shards = f" in {written.files:,} files, {written.sent:,} of them written now"
    show.print_line(f"{len(rows):,} rows{shards}  {args.out}")


def _write_rows(
    args: argparse.Namespace, rows: Sequence[Mapping[str, Any]], file: Location, card: Card
) -> RowsWritten:
    """Write the file, or the folder with its card; nothing is written where the card could not be."""
    lines = row_files.row_lines(rows)
    readme = args.out / "README.md"
    if file == args.out:
        return row_files.write_file(lines, file)
    dataset_card.check_can_write(readme)
    if not args.shard_size:
        written = row_files.write_file(lines, file)
        dataset_card.write_card(card, readme)
        return written
    content = dataset_card.render_card(card).encode("utf-8")
    form = _shard_format(args)
    return row_files.write_shards(lines, args.out, form, before_manifest={readme.name: content})


def _print_unfinished(traces: Sequence[Trace]) -> None:
    """Say which rows end before their answer does; not to stdout, since the rows may go there."""
    note = layouts.unfinished_note(traces)
    if note:
        print(note, file=sys.stderr)


def _rows_file(args: argparse.Namespace) -> Location:
    """Where the rows go: the named file, or the folder's train.jsonl or train.parquet."""
    out: Location = args.out
    if row_files.suffix_of(out):
        return out
    is_folder = isinstance(out, Path) and out.is_dir()
    if out.suffix and not is_folder:
        raise ConfigError(
            f"--out {out} is of no kind that can be written ({out.suffix})",
            expected="a .jsonl, .jsonl.gz or .parquet file, or a folder without a suffix",
            fix=f"--out {out.with_suffix('.jsonl')}",
        )
    return out / ("train.parquet" if args.parquet else "train.jsonl")


def _shard_format(args: argparse.Namespace) -> ShardFormat:
    suffix = ".parquet" if args.parquet else ".jsonl"
    return ShardFormat("train", suffix, args.shard_size)


def _card_facts(
    args: argparse.Namespace, traces: Sequence[Trace], file: Location
) -> dict[str, Any]:
    """What the command knows for the dataset card."""
    return {
        "rows": traces,
        "layout": args.format,
        "file": _shard_format(args).glob() if args.shard_size else file.name,
        "command": _command(args),
        "licences": _read_licences(args.licence),
    }


def _read_licences(texts: Sequence[str]) -> dict[str, str]:
    """The licence by source. A source may have equals signs itself, as world:story?size=8 has; a licence has none."""
    licences: dict[str, str] = {}
    for text in texts:
        source, equals, licence = text.rpartition("=")
        if not (equals and source and licence) or source in licences:
            raise ConfigError(
                f"--licence {text}",
                expected="SOURCE=NAME, once for each source",
                fix="--licence train.jsonl=mit",
            )
        licences[source] = licence
    return licences


def _check_licences(licences: Iterable[str], sources: Collection[str]) -> None:
    """Refuse the licence of a source that the card does not have: it would stand nowhere."""
    for source in licences:
        if dataset_card.public_spec(source) not in sources:
            raise ConfigError(
                f"--licence {source}=…: the rows do not come from {source!r}",
                available=sources,
                wanted=source,
            )


def _command(args: argparse.Namespace) -> str:
    """The command that makes the export again, with names of files instead of paths of this machine."""
    words = ["potstill", "export", args.run.name]
    if args.arm:
        words += ["--arm", args.arm]
    if args.stage:
        words += ["--stage", args.stage]
    words += ["--format", args.format]
    if args.pairs:
        words.append("--pairs")
    if args.marked:
        words += ["--marked", args.marked]
    if args.parquet:
        words.append("--parquet")
    if args.shard_size:
        words += ["--shard-size", f"{args.shard_size}B"]
    for licence in args.licence:
        words += ["--licence", licence]
    return shlex.join([*words, "--out", args.out.name])


def _read_traces(args: argparse.Namespace) -> list[Trace]:
    if is_run_folder(args.run):
        with Store.open(args.run, readonly=True) as store:
            return _read_arm(args, store)
    traces = [trace for trace in trace_files.load_traces(args.run) if not trace.error]
    return _pair_up(args, traces)


def _read_arm(args: argparse.Namespace, store: Store) -> list[Trace]:
    known_arms = store.history.arms()
    arms_with_rows = [arm for arm in known_arms if store.history.row_ids(arm)]
    if args.arm not in known_arms:
        problem = f"{args.run} is a run folder, and no arm is named"
        if args.arm:
            problem = f"{args.run} has no arm {args.arm!r}"
        raise ConfigError(
            problem,
            available=arms_with_rows,
            wanted=args.arm,
            fix=f"--arm {(*arms_with_rows, 'NAME')[0]}",
        )
    # Pairs are made of all attempts, rows are those of one stage.
    if args.pairs:
        traces = list(store.history.traces(args.arm))
    else:
        stage = find_stage(store, args.arm, args.stage)
        traces = read_rows(store, args.arm, stage.row_ids) if stage is not None else []
    if not traces:
        raise StageError(
            f"{args.run}: {why_no_rows(store, args.arm)}",
            expected="an arm that came as far as training",
            available=arms_with_rows,
            fix="run it to its end: the same `potstill run` command takes it up again",
        )
    if args.marked:
        traces = _choose_marked(args, traces)
    return _pair_up(args, traces)


def _choose_marked(args: argparse.Namespace, traces: Sequence[Trace]) -> list[Trace]:
    """The traces that somebody has marked so."""
    marks = NotesFile(args.run / NOTES_FILE).marks()
    chosen = [trace for trace in traces if marks.get(trace.id) == args.marked]
    if not chosen:
        raise StageError(
            f"none of {len(traces):,} rows of {args.arm} is marked {args.marked}",
            expected=f"marks in {args.run / NOTES_FILE}",
            fix=f"potstill view {args.run} --notes",
        )
    return chosen


def _stage_label(args: argparse.Namespace, store: Store) -> str:
    """The stage whose rows are exported, where the arm has several; "" where it has one, or where pairs are made."""
    stages = store.history.stages(args.arm)
    if args.pairs or len(stages) < 2:
        return ""
    return args.stage or stages[-1].label


def _pair_up(args: argparse.Namespace, traces: list[Trace]) -> list[Trace]:
    """With --pairs, pairs of a right and a wrong attempt; else the traces as they are."""
    if not args.pairs:
        return traces
    pairs = layouts.make_pairs(traces)
    if not pairs:
        raise StageError(
            f"no problem of {args.run} has a right and a wrong attempt",
            expected="judged attempts, several a problem",
            fix="run with --set n=4, or potstill import FILE --judge --out traces.jsonl",
        )
    return pairs
