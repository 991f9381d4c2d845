"""Score the rows that a student was trained on: how likely it found each of their tokens before, and finds it now.

Each row is read twice, by the checkpoint that the training began with and by the trained student. Log-probabilities
and ranks go into logprobs.parquet beside the student, where `potstill view` shows them as the layer "surprise" of a
row. The store is not changed. Stopped, the same command goes on; docs/viewer.md says what the layer shows.

examples:
  potstill score runs/quickstart --arm orion
  potstill score runs/qwen --arm orion --limit 500 --device cuda
  potstill score runs/moved --arm sft --before transformers:models/qwen-0.5b
"""

from __future__ import annotations

import argparse

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.runs.score_rows import ScoreRequest, ScoreSummary, score_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("run", type=options.expand_path, metavar="RUN", help="a run's folder")
    parser.add_argument("--arm", required=True, metavar="NAME", help="whose rows")
    parser.add_argument(
        "--stage",
        default="",
        metavar="NAME",
        help="which stage of the arm, by name or number (last)",
    )
    parser.add_argument(
        "--before",
        default="",
        metavar="SPEC",
        help="the model that the training began with, if it is no longer where the run had it: transformers:PATH",
    )
    parser.add_argument(
        "--limit",
        type=options.positive_int,
        default=0,
        metavar="N",
        help="the first N rows; a later call with more goes on behind them (all)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (auto)")
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Score the rows and print what the training changed."""
    request = ScoreRequest(
        run_folder=args.run,
        arm=args.arm,
        stage=args.stage,
        start=args.before,
        limit=args.limit,
        device=args.device,
        threads=args.threads,
    )
    with show_progress(args.quiet) as progress:
        summary = score_rows(request, progress)
    if args.json:
        show.print_json({"arm": args.arm, **_to_json(summary)})
        return
    rows = f"{summary.rows:,} of {summary.rows_of_student:,} rows have scores"
    show.print_line(f"{args.arm}: {rows}, {summary.newly_scored:,} of them new: {summary.path}")
    if summary.too_long:
        show.print_line(
            f"{summary.too_long:,} rows are longer than the model's context and have none"
        )
    lines = []
    for moment, values in (("before", summary.before), ("after", summary.after)):
        line = {"": moment, "nats a learnt token": f"{-values.mean_logprob:.3f}"}
        lines.append({**line, "most probable token": f"{values.top_share:.1%}"})
    show.print_table(lines)
    show.print_line(
        f"over {summary.learnt_tokens:,} learnt tokens; potstill view {args.run} shows each"
    )


def _to_json(summary: ScoreSummary) -> dict[str, object]:
    document: dict[str, object] = {
        **summary._asdict(),
        "models": summary.models._asdict(),
        "before": summary.before._asdict(),
        "after": summary.after._asdict(),
    }
    return document
