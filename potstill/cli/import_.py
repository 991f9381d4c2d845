"""Turn recorded answers into traces: for `potstill train`, `potstill export`, and as `recorded:FILE`.

The columns are chosen (messages, ShareGPT, prompt/completion, question/reasoning/answer, chosen/rejected, Open-R1,
OpenThoughts, s1K, a column a model) and shown; --map says otherwise. With --judge the answers are judged.
docs/data.md says what is read as what.

examples:
  potstill import answers.jsonl --out traces.jsonl --judge --keep right
  potstill import hf:open-r1/OpenR1-Math-220k:train --out runs/openr1 --limit 1000
  potstill import rows.parquet --map reasoning=thoughts --map answer=reply --map gold=target --out traces.jsonl
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.data import files, row_files, trace_files, uploads
from potstill.data.columns import ANSWER_FIELDS
from potstill.data.row_files import ShardFormat
from potstill.data.row_traces import LABEL
from potstill.data.rows import RowTraces, is_good, judge_traces, read_traces
from potstill.data.urls import Location, Url
from potstill.errors import ConfigError, InputError
from potstill.records import Trace, digest
from potstill.verifiers import reading_thoughts

ARM = "import"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a .jsonl, .json, .csv or .parquet file, also compressed, its URL (s3://…), several with '*', or hf:NAME",
    )
    parser.add_argument(
        "--out",
        type=options.location,
        metavar="FILE.jsonl|RUN",
        help="write the traces here: a trace file or its URL, or a run folder (default: only print)",
    )
    options.add_shard_size(parser)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help=f"which column is what: {', '.join(ANSWER_FIELDS)} (may be given again)",
    )
    parser.add_argument("--kind", default="", help=f"verifier: {options.KINDS} (default: guessed)")
    parser.add_argument(
        "--judge", action="store_true", help="judge the answers that have a gold answer"
    )
    parser.add_argument(
        "--keep",
        choices=("all", "right"),
        default="all",
        help="right: what is judged right (with --judge all that has a gold answer, else what has no label), "
        "or else is not labelled wrong (all)",
    )
    parser.add_argument(
        "--limit", type=options.positive_int, default=0, metavar="N", help="the first N rows (all)"
    )
    options.add_answers_in_thoughts(parser)
    options.add_verify_on(parser)
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Read, judge, write, and print what came of it."""
    _check_out(args)
    with (
        files.skipping(args.skip_bad) as bad_rows,
        show_progress(args.quiet) as progress,
        reading_thoughts(args.answers_in_thoughts),
        options.verifying_on(args.verify_on),
    ):
        recorded = read_traces(
            args.file,
            mapping=options.parse_pairs(args.map, "--map"),
            kind=args.kind,
            limit=args.limit,
            progress=progress,
        )
        if not recorded.traces:
            raise InputError(
                f"{args.file} holds no recorded answers",
                expected="rows with answers",
                fix="give another file",
            )

        # Verdicts, and what of the traces is written by them.
        traces = recorded.traces
        if args.judge or args.keep == "right":
            unlabelled_only = not args.judge  # a label decides where nobody asked for verdicts
            traces = judge_traces(traces, progress, unlabelled_only=unlabelled_only)
        chosen = traces
        if args.keep == "right":
            chosen = [trace for trace in traces if is_good(trace)]
        if not chosen:
            raise InputError(
                f"none of {len(traces)} answers in {args.file} is right",
                fix="leave --keep right out",
            )
        if args.out:
            _write(args, traces, chosen, recorded)
    report: dict[str, Any] = {
        "file": args.file,
        "mapping": recorded.mapping,
        "unread": recorded.unread,
        "rows": recorded.rows,
        "problems": len({trace.problem.id for trace in traces}),
        "traces": len(traces),
        "kept": len(chosen),
        "bad": [item._asdict() for item in bad_rows],
        "answers": count_answers(traces),
        "notes": recorded.notes,
        "out": str(args.out) if args.out else None,
    }
    if args.json:
        show.print_json(report)
    else:
        _print_report(report)


def _check_out(args: argparse.Namespace) -> None:
    """Refuse, before anything is read, what can't be written."""
    out: Location | None = args.out
    if out is None:
        if args.shard_size:
            raise ConfigError("--shard-size needs a folder", fix="--out FOLDER")
        return
    suffix = row_files.suffix_of(out)
    if suffix == ".parquet" or (out.suffix and not suffix):
        raise ConfigError(
            f"--out {out} is neither a .jsonl file nor a folder",
            expected="FILE.jsonl or FILE.jsonl.gz for a trace file, or a folder without a suffix for a run",
            fix=f"--out {out.with_suffix('.jsonl')}",
        )
    if suffix and args.shard_size:
        raise ConfigError(
            f"--shard-size writes a set of files, and --out {out} is one",
            fix=f"--out {out.parent / out.stem}",
        )
    if isinstance(out, Url) and not suffix and not args.shard_size:
        raise ConfigError(
            f"--out {out} is a URL, and a run folder needs a disk of this machine",
            expected="the URL of a trace file, or of a folder for a set of them",
            fix=f"--out {out}.jsonl, or --shard-size 500MB",
        )
    uploads.check_writable(out)


def count_answers(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """A row an author: problems, traces, cut off, right and wrong by label, the verdicts."""
    by_author: dict[str, list[Trace]] = {}
    for trace in traces:
        author = trace.author.model if trace.author else "nobody"
        by_author.setdefault(author, []).append(trace)
    rows = []
    for author, own_traces in by_author.items():
        statuses = Counter(trace.verdict.status for trace in own_traces)
        labels = [trace.scores[LABEL] for trace in own_traces if LABEL in trace.scores]
        row = {
            "author": author,
            "problems": len({trace.problem.id for trace in own_traces}),
            "traces": len(own_traces),
            "cut off": sum(trace.finish_reason == "length" for trace in own_traces),
            "right by label": labels.count(1.0) if labels else None,
            "wrong by label": labels.count(0.0) if labels else None,
        }
        for status in ("right", "wrong", "unparsed", "unjudged"):
            row[status] = statuses[status]
        rows.append(row)
    return rows


def _write(
    args: argparse.Namespace, traces: Sequence[Trace], chosen: Sequence[Trace], recorded: RowTraces
) -> None:
    """Write a trace file, or a run folder with all traces of which the chosen ones are the rows."""
    # A trace file has the chosen traces alone, and so has a set of them.
    out: Location = args.out
    if row_files.suffix_of(out):
        trace_files.write_traces(chosen, out)
        files.save_beside(out)
        return
    if args.shard_size:
        form = ShardFormat("traces", ".jsonl", args.shard_size)
        row_files.write_shards(trace_files.trace_lines(chosen), out, form)
        files.save_beside(out / "traces.jsonl")
        return
    folder = Path(str(out))
    from potstill.runs import dataset_card, manifest
    from potstill.store import Store

    # A run folder has them all, as a run would have noted them down.
    with Store.open(folder) as store:
        settings = {
            "import": {
                "file": files.source_name(args.file),
                "licence": dataset_card.find_licence(args.file, {}),
                "map": options.parse_pairs(args.map, "--map"),
                "columns": recorded.mapping,
                "unread": recorded.unread,
                "kind": args.kind,
                "judge": args.judge,
                "keep": args.keep,
            }
        }
        manifest.start(folder, settings, empty=store.is_empty())
        ledger = store.ledger(ARM)
        ledger.add_traces(traces)
        ledger.add_step("import", files.source_name(args.file), len(traces), len(traces))
        ledger.add_step("keep", args.keep, len(traces), len(chosen))
        ledger.rows(digest("import", [trace.id for trace in chosen]), chosen)
        ledger.finish()
        files.save(folder)
    manifest.finish(folder)


def _print_report(report: Mapping[str, Any]) -> None:
    show.print_line(f"{report['rows']:,} rows of {report['file']}")
    show.print_columns(report["mapping"], report["unread"])
    show.print_table([show.fill_empty(counts) for counts in report["answers"]])
    if report["kept"] != report["traces"]:
        show.print_line(f"kept {report['kept']:,} of {report['traces']:,} traces")
    for note in report["notes"]:
        show.print_line(f"note: {note}")
    show.print_bad_rows(report["bad"])
    if report["out"]:
        show.print_line(f"traces {report['out']}")
