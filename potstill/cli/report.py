"""Write a run's report.html again; of an unfinished run it says what the store holds by now.

examples:
  potstill report runs/quickstart
  potstill report runs/quickstart --by level --out /tmp/report.html
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from potstill.cli import options, show
from potstill.cli.evaluations import (
    add_by,
    mark_evaluation,
    metadata_names,
    read_references,
)
from potstill.cli.results import result_notes
from potstill.evaluation.results import load
from potstill.evaluation.rows import Evaluation
from potstill.report.page import write_report
from potstill.runs.run_journal import load_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "run", type=options.expand_path, metavar="RUN", help="a run folder, or its results.json"
    )
    parser.add_argument(
        "--out",
        type=options.expand_path,
        metavar="FILE",
        help="where to (default: RUN/report.html)",
    )
    add_by(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Write it and print where it is."""
    folder: Path = args.run.parent if args.run.is_file() else args.run
    results = load(args.run) if args.run.is_file() else load_results(folder)
    out: Path = args.out or folder / "report.html"
    references = read_references(args.by)
    evaluations: dict[str, Evaluation] = {}
    for name, evaluation in results.evaluations.items():
        evaluations[name] = mark_evaluation(evaluation, references)
    results = dataclasses.replace(results, evaluations=evaluations)
    write_report(results, out, by=metadata_names(args.by, references))
    if args.json:
        row_steps = {arm: steps._asdict() for arm, steps in results.row_steps.items()}
        notes = result_notes(results)
        show.print_json({"report": str(out), "row_steps": row_steps, "notes": notes})
        return
    show.print_line(f"report   {out}")
