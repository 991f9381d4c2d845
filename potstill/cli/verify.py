"""Check that gold answers pass their own verifier; with --answers, judge recorded answers too.

Where the answers carry a label (is_correct, correct, label), the disagreements between verifier and label are listed.

With --again RUN every trace that a run had judged is judged once more by today's verifiers, and no model is asked. The
table says how many verdicts changed, by arm, operator and verifier version. The new verdicts stand in the run's
store in the place of the old ones: the rows of the finished run stay as they are, and the same `potstill run` on the
folder then chooses rows by the new verdicts, asks models only for what that adds, and trains again only where the rows
have changed. Scores that were measured are computed anew from the stored answers.

examples:
  potstill verify --problems train.jsonl
  potstill verify --problems example_model_solutions.jsonl --answers example_model_solutions.jsonl
  potstill verify --problems test.jsonl --answers outputs.jsonl --map completion=output --map label=correct
  potstill verify --again runs/orion
  potstill verify --again runs/orion --kind math --json
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from potstill import verifiers
from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.data import files, problems
from potstill.data.recorded_answers import ANSWERS_ONLY_FIELDS, RecordedAnswers, read_answers
from potstill.errors import ConfigError, InputError
from potstill.verifiers import placement, reading_thoughts

if TYPE_CHECKING:
    from potstill.runs.reverify import Line

MAX_LINES = 20  # disagreements in the terminal; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    options.add_problems(parser, required=False)
    parser.add_argument(
        "--again",
        type=options.expand_path,
        metavar="RUN",
        help="judge the stored traces of a run again",
    )
    parser.add_argument(
        "--answers",
        metavar="FILE",
        help="judge these too: rows with id or question, and a completion or several",
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
    options.add_answers_in_thoughts(parser)
    options.add_verify_on(parser)
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Check, print, and fail where gold answers fail; or judge a run again."""
    if args.again:
        with options.verifying_on(args.verify_on):
            _verify_again(args)
    elif args.problems:
        with (
            files.skipping(args.skip_bad),
            reading_thoughts(args.answers_in_thoughts),
            options.verifying_on(args.verify_on),
        ):
            _verify_problems(args)
    else:
        raise ConfigError(
            "verify needs --problems or --again",
            expected="problems whose gold answers are checked, or a run folder that is judged again",
            fix="potstill verify --problems train.jsonl, or potstill verify --again runs/sft",
        )


# A run judged again.


def _verify_again(args: argparse.Namespace) -> None:
    """Judge a run's traces again, and print what changed."""
    from potstill.runs import reverify
    from potstill.store import Store

    if args.problems or args.answers or args.map or args.where or args.limit:
        raise ConfigError(
            "--again takes its problems and answers from the run",
            expected="--again RUN with --kind alone",
            fix=f"potstill verify --again {args.again}",
        )
    kinds = [args.kind] if args.kind else []
    with Store.open(args.again, create=False) as store, show_progress(args.quiet) as progress:
        report = reverify.judge_again(store, kinds, progress)
    if args.json:
        show.print_json(dataclasses.asdict(report))
        return

    # How many verdicts changed, by kind, and the first of them.
    show.print_table([_again_line(line) for line in report.lines], title="judged again")
    changed_count = sum(line.changed for line in report.lines)
    changes = [shorten_cells(_change_line(item)) for item in report.changed[:MAX_LINES]]
    show.print_table(changes, title="verdicts that changed")
    if changed_count > MAX_LINES:
        show.print_line(f"… and {changed_count - MAX_LINES:,} more: --json lists them all")
    trace_count = sum(line.traces for line in report.lines)
    show.print_line(
        f"{changed_count:,} of {trace_count:,} verdicts changed; "
        f"{report.unasked:,} traces were never judged by the run"
    )
    if changed_count:
        show.print_line("the next `potstill run` of this folder goes by the new verdicts")


def _again_line(line: Line) -> dict[str, Any]:
    changes = ", ".join(f"{count:,} {change}" for change, count in sorted(line.changes.items()))
    return {
        "arm": line.arm,
        "operator": line.operator,
        "before": line.before,
        "after": line.after,
        "traces": f"{line.traces:,}",
        "changed": f"{line.changed:,}",
        "of them rows": f"{line.rows:,}",
        "other answer": f"{line.answers:,}",
        "how": changes or show.NONE,
    }


def _change_line(change: Mapping[str, Any]) -> dict[str, Any]:
    before, after = change["before"], change["after"]
    return {
        "arm": change["arm"],
        "trace": change["trace"],
        "problem": change["problem"],
        "gold": change["gold"],
        "before": f"{before['status']}: {before['answer']}",
        "after": f"{after['status']}: {after['answer']}",
        "reason": after["reason"],
    }


# Gold answers and recorded answers.


def _verify_problems(args: argparse.Namespace) -> None:
    from potstill.runs import verify_answers
    from potstill.runs.sources import world_problems

    mapping = options.parse_pairs(args.map, "--map")
    loaded = problems.load(
        args.problems,
        mapping={f: column for f, column in mapping.items() if f not in ANSWERS_ONLY_FIELDS},
        limit=args.limit,
        seed=args.seed,
        kind=args.kind or None,
        where=args.where,
        extra={"world": world_problems},
    )

    # The gold answers under their own verifiers, then the answers of a file.
    recorded = RecordedAnswers([])
    with show_progress(args.quiet) as progress:
        gold = verify_answers.summarise_gold(verify_answers.judge_gold(loaded, progress))
        if args.answers:
            recorded = read_answers(args.answers, loaded, mapping)
        judged = verify_answers.judge_recorded(recorded.answers, progress)
    report: dict[str, Any] = {
        "problems": problems.describe(loaded),
        "gold": gold,
        "bad": [item._asdict() for item in files.skipped()],
    }
    if args.answers:
        report["answers"] = verify_answers.count_verdicts(judged)
        report["columns"] = recorded.mapping
        report["unread"] = recorded.unread
        report["strays"] = recorded.strays
        report["disagreements"] = verify_answers.list_disagreements(judged)
    if args.json:
        show.print_json(report)
    else:
        _print_problems(report)
        if args.answers:
            _print_answers(report)
    if gold["failing"]:
        parts = verifiers.failed_gold(len(gold["failing"]), loaded, args.problems)
        raise InputError(**parts)


def _print_problems(report: Mapping[str, Any]) -> None:
    description, gold = report["problems"], report["gold"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in description["kinds"].items())
    line = f"{description['count']:,} problems ({kinds})"
    if description["mapping"]:
        columns = [f"{field}={column}" for field, column in description["mapping"].items()]
        line += f", columns {', '.join(columns)}"
    show.print_line(line)
    for note in description["notes"]:
        show.print_line(note)
    if "code" in description["kinds"]:
        show.print_line(placement.describe_sandbox())
    show.print_line(
        f"gold answers: {gold['right']:,} of {gold['checked']:,} pass their own verifier"
    )
    if description["without_answer"]:
        show.print_line(f"without a gold answer: {description['without_answer']:,}")
    if description["repeated_questions"]:
        show.print_line(f"questions that were there before: {description['repeated_questions']:,}")

    # Gold answers that judge nothing, or the wrong thing.
    failing = [shorten_cells(line) for line in gold["failing"][:MAX_LINES]]
    show.print_table(failing, title="gold answers that fail")
    if gold["without_rows"]:
        first_names = ", ".join(gold["without_rows"][:5])
        show.print_line(
            f"gold queries that return nothing: {len(gold['without_rows']):,} ({first_names}); "
            "there only a query without rows, of the same column names, is right"
        )
    show.print_bad_rows(report["bad"])
    if description["unread"]:
        show.print_line(f"columns not read: {', '.join(description['unread'])}")


def _print_answers(report: Mapping[str, Any]) -> None:
    answers, disagreements = report["answers"], report["disagreements"]
    show.print_columns(report["columns"], report["unread"])
    show.print_table([show.fill_empty(row) for row in answers], title="answers")
    if report["strays"]:
        show.print_line(f"rows that answer none of the problems: {report['strays']:,}")
    has_labels = any(row["right by label"] is not None for row in answers)
    if has_labels and not disagreements:
        show.print_line("the labels in the file and the verifier agree on every answer")
    lines = [shorten_cells(line) for line in disagreements[:MAX_LINES]]
    show.print_table(lines, title="label and verifier disagree")
    if len(disagreements) > MAX_LINES:
        show.print_line(f"… and {len(disagreements) - MAX_LINES:,} more: --json lists them all")


def shorten_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of a table, each cell on one line."""
    cells = {}
    for name, value in row.items():
        cells[name] = show.NONE if value is None else show.keep_end(str(value))
    return cells
