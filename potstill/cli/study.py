"""A prepared comparison, whole: data, trainings, measurements and a page.

examples:
  potstill study objectives --seeds 3 --page docs/objectives.md
  potstill study objectives --seeds 1 --limit 60 --test 40 --out runs/short-study
"""

from __future__ import annotations

import argparse

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.cli.results import noting_kept_work
from potstill.cli.retry import failure_notes_of_folder
from potstill.data.atomic_write import write_text
from potstill.extras import TRAINING, require_extra

STUDIES = {"objectives": "every kind of objective on the built-in world, from one mentor"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "study", choices=STUDIES, metavar="|".join(STUDIES), help="; ".join(STUDIES.values())
    )
    parser.add_argument("--seeds", type=options.positive_int, default=3, help="repetitions (3)")
    parser.add_argument(
        "--limit", type=options.positive_int, default=300, help="training problems (300)"
    )
    parser.add_argument(
        "--test", type=options.positive_int, default=200, help="test problems (200)"
    )
    parser.add_argument(
        "--n", type=options.positive_int, default=4, help="answers a test problem (4)"
    )
    parser.add_argument(
        "--out",
        type=options.expand_path,
        default="runs/study-objectives",
        metavar="DIR",
        help="run folder",
    )
    parser.add_argument(
        "--page", type=options.expand_path, metavar="FILE", help="write the outcome as Markdown"
    )
    options.add_retry_errors(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Run it and print the table."""
    require_extra("local", TRAINING)
    from potstill.studies import objectives

    with noting_kept_work(args.out), show_progress(args.quiet) as progress:
        outcome = objectives.run_study(
            args.out,
            seeds=args.seeds,
            train=args.limit,
            test=args.test,
            n=args.n,
            retry_errors=args.retry_errors,
            progress=progress,
        )
    if args.page:
        write_text(args.page, objectives.study_page(outcome))
    if args.json:
        show.print_json(outcome)
        return
    show.print_table(objectives.study_table(outcome), title="objectives")
    for note in failure_notes_of_folder(args.out):
        show.print_line(note)
