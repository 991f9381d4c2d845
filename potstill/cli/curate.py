"""Make one clean set of rows of files of recorded answers; a million rows take hardly more memory than a thousand.

In this order: import (any layout of docs/data.md), verify, filter, near-duplicates, decontaminate, mix, write. What
went at which step, why, and which row or evaluation problem it resembles stands in dropped.jsonl. After a kill the same
command goes on. docs/curating.md says what each step does exactly.

examples:
  potstill curate answers.jsonl --verify --keep right --near-duplicates 0.8 --decontaminate test.jsonl --out clean
  potstill curate a.jsonl b.parquet --mix a.jsonl=3 --mix b.parquet=1 --rows 100000 --format messages --out mixed
  potstill curate answers.jsonl --kind number --verify --keep right --out s3://bucket/clean --parquet --work work
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.data import files, row_files
from potstill.data.columns import ANSWER_FIELDS
from potstill.data.urls import location_of
from potstill.errors import ConfigError
from potstill.runs.curation.settings import OUTPUT_LAYOUTS, TRACES, CurationSettings
from potstill.traces import minhash
from potstill.traces.near_duplicates import COMPARED_TEXTS
from potstill.traces.overlap import NGRAM as OVERLAP_NGRAM
from potstill.verifiers.workers.pool import core_count

MAX_PROCESSES = 256
_SHOWN_REASONS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="files of rows (.jsonl, .json, .csv, .parquet), or hf:NAME",
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="where the rows go: a new folder, or its URL"
    )
    _add_row_arguments(parser)
    _add_pool_arguments(parser)
    parser.add_argument(
        "--format", choices=OUTPUT_LAYOUTS, default=TRACES, help="layout of the rows (traces)"
    )
    parser.add_argument("--parquet", action="store_true", help="write Parquet, not JSON lines")
    parser.add_argument(
        "--shard-size",
        type=row_files.parse_size,
        default=row_files.ShardFormat().shard_bytes,
        metavar="SIZE",
        help="bytes of rows in a file (500MB)",
    )
    parser.add_argument(
        "--work",
        type=options.expand_path,
        metavar="FOLDER",
        help="where what is done so far lies until the end: three times the inputs (FOLDER/work)",
    )
    parser.add_argument(
        "--processes",
        type=_process_count,
        default=0,
        metavar="N",
        help="that check rows at once; their number changes nothing else (one a core)",
    )
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def _add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done to each row."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help=f"which column is what: {', '.join(ANSWER_FIELDS)} (may be given again)",
    )
    parser.add_argument("--kind", default="", help=f"verifier: {options.KINDS} (default: guessed)")
    parser.add_argument(
        "--limit",
        type=options.positive_int,
        default=0,
        metavar="N",
        help="the first N rows of each (all)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="judge the answers that have a gold answer"
    )
    parser.add_argument(
        "--keep",
        choices=("all", "right"),
        default="all",
        help="right: what is judged right, or not judged and not labelled wrong (all)",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only rows whose problem's metadata meet it: 'level>=4' (may be given again)",
    )
    parser.add_argument(
        "--finished", action="store_true", help="only completions that ended by themselves"
    )
    options.add_answers_in_thoughts(parser)


def _add_pool_arguments(parser: argparse.ArgumentParser) -> None:
    """What is decided of all rows together."""
    parser.add_argument(
        "--near-duplicates",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of rows that share as many of their n-grams only the first stays: 0.8 (default: none is looked for)",
    )
    parser.add_argument(
        "--compare",
        choices=COMPARED_TEXTS,
        default="row",
        help="what of them: prompt and text, text, or question (row)",
    )
    parser.add_argument(
        "--duplicate-ngram",
        type=options.positive_int,
        default=minhash.NGRAM,
        metavar="N",
        help=f"words of an n-gram of near-duplicates ({minhash.NGRAM})",
    )
    parser.add_argument(
        "--same-numbers",
        action="store_true",
        help="rows with other numbers are no near-duplicates, as fits problems of one template",
    )
    parser.add_argument(
        "--decontaminate",
        action="append",
        default=[],
        metavar="SPEC",
        help="drop what overlaps these evaluation problems (may be given again)",
    )
    parser.add_argument(
        "--overlap-ngram",
        type=options.non_negative_int,
        default=OVERLAP_NGRAM,
        metavar="N",
        help=f"words in a row that are an overlap; 0 compares whole questions ({OVERLAP_NGRAM})",
    )
    parser.add_argument(
        "--overlap-in-texts",
        action="store_true",
        help="look for evaluation questions in the completions too (question and prompt)",
    )
    parser.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="FILE=SHARE",
        help="how much of the rows comes from which input, in any unit; they come shuffled (may be given again)",
    )
    parser.add_argument(
        "--rows",
        type=options.positive_int,
        default=0,
        metavar="N",
        help="at most N rows, by chance (all)",
    )
    parser.add_argument("--shuffle", action="store_true", help="write the rows in a random order")
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="of --mix, --rows and --shuffle (0)",
    )


def execute(args: argparse.Namespace) -> None:
    """Curate, and print what came of it."""
    from potstill.runs.curation.curate import curate, work_folder_for

    # A folder of this machine or a URL; the work before is on this machine either way.
    out = location_of(args.out)
    form = row_files.ShardFormat(
        suffix=".parquet" if args.parquet else ".jsonl", shard_bytes=args.shard_size
    )
    with files.skipping(args.skip_bad), show_progress(args.quiet) as progress:
        report = curate(
            _read_settings(args),
            out,
            work_path=work_folder_for(out, args.work),
            form=form,
            processes=args.processes or core_count(),
            progress=progress,
        )
    if args.json:
        show.print_json(report)
    else:
        _print_report(report)


def _read_settings(args: argparse.Namespace) -> CurationSettings:
    return CurationSettings(
        inputs=tuple(args.inputs),
        mapping=options.parse_pairs(args.map, "--map"),
        kind=args.kind,
        limit=args.limit,
        verify=args.verify,
        answers_in_thoughts=args.answers_in_thoughts,
        keep=args.keep,
        where=tuple(args.where),
        finished=args.finished,
        near_duplicates=args.near_duplicates,
        compared=args.compare,
        ngram=args.duplicate_ngram,
        same_numbers=args.same_numbers,
        decontaminate=tuple(args.decontaminate),
        overlap_ngram=args.overlap_ngram,
        overlap_in_texts=args.overlap_in_texts,
        shares=_read_shares(args.mix),
        rows=args.rows,
        shuffle=args.shuffle,
        seed=args.seed,
        layout=args.format,
    )


def _read_shares(texts: list[str]) -> dict[str, float]:
    """The shares by input. An input may have equals signs itself; a share has none."""
    shares: dict[str, float] = {}
    for text in texts:
        name, _, share = text.rpartition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise ConfigError(
                f"--mix {text}", expected="FILE=SHARE", fix="--mix answers.jsonl=2"
            ) from None
    return shares


def _process_count(text: str) -> int:
    if options.positive_int(text) > MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_PROCESSES} processes")
    return int(text)


def _print_report(report: Mapping[str, Any]) -> None:
    for source in report["inputs"]:
        show.print_line(f"{source['input']}: {source['rows']:,} rows, {source['traces']:,} traces")
        show.print_columns(source["mapping"], source["unread"])
        for note in source["notes"]:
            show.print_line(f"note: {note}")
        show.print_bad_rows(source["bad"])
    show.print_table([_step_line(step) for step in report["steps"]])
    for note in report["notes"]:
        show.print_line(f"note: {note}")
    show.print_line(f"{report['rows']:,} rows in {report['files']:,} files  {report['out']}")


def _step_line(step: Mapping[str, Any]) -> dict[str, Any]:
    # Of the verifying step the verdicts: nothing goes there.
    counts = step.get("verdicts") or step["why"]
    reasons = [f"{count:,} {why}" for why, count in list(counts.items())[:_SHOWN_REASONS]]
    if len(counts) > _SHOWN_REASONS:
        reasons.append(f"{len(counts) - _SHOWN_REASONS} reasons more")
    return {
        "step": step["step"],
        "came": f"{step['came']:,}",
        "went": f"{step['went']:,}",
        "stayed": f"{step['stayed']:,}",
        "why": ", ".join(reasons) or show.NONE,
    }
