"""Have a model judge recorded answers by a rubric, or compare the answers of recorded models in both orders.

Replies are stored in --out, so the same command asks for nothing twice. Where answers carry a label, the judge's
agreement with it is printed; with --pairs, how the judge leans to the first place and to the longer answer.
docs/verifiers.md says what a judge is good for. Where a verifier will do, no model is needed: potstill verify.

examples:
  potstill judge --problems test.jsonl --answers outputs.jsonl --judge openai:gpt-4o-mini --rubric rubric.txt
  potstill judge --problems test.jsonl --answers outputs.jsonl --judge transformers:models/qwen --pairs
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.cli.retry import failure_notes
from potstill.data import files, problems
from potstill.data.recorded_answers import ANSWERS_ONLY_FIELDS, read_answers
from potstill.errors import InputError

MAX_RUBRIC = 20_000  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    options.add_problems(parser, required=True)
    parser.add_argument(
        "--answers", required=True, metavar="FILE", help="rows with id or question, and completions"
    )
    parser.add_argument(
        "--judge", required=True, metavar="SPEC", help=f"the model that judges: {options.MODELS}"
    )
    parser.add_argument(
        "--rubric",
        type=options.expand_path,
        metavar="FILE",
        help="a text by which it judges (default: is the answer correct)",
    )
    parser.add_argument(
        "--pairs", action="store_true", help="compare the recorded models' answers, in both orders"
    )
    parser.add_argument(
        "--out",
        type=options.expand_path,
        default=Path("runs/judge"),
        metavar="DIR",
        help="folder that stores the replies (runs/judge)",
    )
    parser.add_argument(
        "--limit", type=options.positive_int, metavar="N", help="at most N problems (all)"
    )
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="of the choice that --limit makes (0)",
    )
    options.add_retry_errors(parser)
    options.add_budget(parser, "judge")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Judge and print."""
    with files.skipping(args.skip_bad):
        _judge(args)


def _judge(args: argparse.Namespace) -> None:
    from potstill.runs.judging import compare_answers, grade_answers
    from potstill.runs.sources import load_model, world_problems
    from potstill.store.cached_model import with_cache
    from potstill.store.store import Store

    # The problems, their answers, and by what they are judged.
    mapping = options.parse_pairs(args.map, "--map")
    problem_mapping = {f: column for f, column in mapping.items() if f not in ANSWERS_ONLY_FIELDS}
    loaded = problems.load(
        args.problems,
        mapping=problem_mapping,
        limit=args.limit,
        seed=args.seed,
        kind=args.kind or None,
        where=args.where,
        extra={"world": world_problems},
    )
    recorded = read_answers(args.answers, loaded, mapping)
    rubric = _read_rubric(args.rubric)

    # Behind a store: what the judge said is paid for once.
    with Store.open(args.out) as store, show_progress(args.quiet) as progress:
        judge = load_model(args.judge, threads=args.threads)
        budget = options.open_budget(args, store, {"judge": judge})
        cached_judge = with_cache(
            judge,
            store,
            role="judge",
            arm="judge",
            seed=args.seed,
            progress=progress,
            budget=budget,
            retry_errors=args.retry_errors,
        )
        judge_all = compare_answers if args.pairs else grade_answers
        report = judge_all(cached_judge, recorded.answers, rubric)
        failures = failure_notes(store)

    # How the answers were read, and what went wrong.
    report["columns"] = recorded.mapping
    report["unread"] = recorded.unread
    report["strays"] = recorded.strays
    report["bad"] = [row._asdict() for row in files.skipped()]
    report["notes"] = [*failures, *budget.notes()]
    if args.json:
        show.print_json(report)
        return
    _print_report(report)


def _read_rubric(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} can't be read: {error}", expected="a text file with the rubric"
        ) from None
    if not 0 < len(text) <= MAX_RUBRIC:
        raise InputError(
            f"{path} holds {len(text)} characters",
            expected=f"a rubric of 1 to {MAX_RUBRIC:,} characters",
        )
    return text


def _print_report(report: Mapping[str, Any]) -> None:
    title = "pairs" if "pairs" in report else "answers"
    show.print_table([show.fill_empty(row) for row in report[title]], title=title)
    if "bias" in report:
        shares = {}
        for name, value in report["bias"].items():
            shares[name] = show.NONE if value is None else f"{value:.3g}"
        show.print_table(
            [shares],
            title="bias of the judge (first_place: 0.5 is fair; agreement: of the two orders)",
        )
    show.print_columns(report["columns"], report["unread"])
    if report["strays"]:
        show.print_line(f"rows that answer none of the problems: {report['strays']:,}")
    show.print_bad_rows(report["bad"])
    for note in report["notes"]:
        show.print_line(note)
