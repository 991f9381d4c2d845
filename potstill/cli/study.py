"""A prepared comparison, whole: data, trainings, measurements and a page.

examples:
  potstill study objectives --seeds 3 --page docs/objectives.md
  potstill study objectives --seeds 1 --limit 60 --test 40 --out runs/short-study
"""

from __future__ import annotations

import argparse
from pathlib import Path

from potstill.cli import options, show
from potstill.cli.progress import watching
from potstill.cli.results import keeping

STUDIES = {"objectives": "every kind of objective on the built-in world, from one mentor"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "study", choices=STUDIES, metavar="|".join(STUDIES), help="; ".join(STUDIES.values())
    )
    parser.add_argument("--seeds", type=options.count, default=3, help="repetitions (3)")
    parser.add_argument("--limit", type=options.count, default=300, help="training problems (300)")
    parser.add_argument("--test", type=options.count, default=200, help="test problems (200)")
    parser.add_argument("--n", type=options.count, default=4, help="answers a test problem (4)")
    parser.add_argument(
        "--out",
        type=options.folder,
        default="runs/study-objectives",
        metavar="DIR",
        help="run folder",
    )
    parser.add_argument(
        "--page", type=options.folder, metavar="FILE", help="write the outcome as Markdown"
    )
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Run it and print the table."""
    from potstill.studies import objectives

    with keeping(args.out), watching(args.quiet) as progress:
        found = objectives.run(
            args.out,
            seeds=args.seeds,
            train=args.limit,
            test=args.test,
            n=args.n,
            progress=progress,
        )
    if args.page:
        Path(args.page).write_text(objectives.page(found), "utf-8")
    show.document(found) if args.json else show.table(objectives.table(found), title="objectives")
