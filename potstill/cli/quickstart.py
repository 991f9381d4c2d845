"""The built-in comparison: a real teacher and student, trained and measured in minutes, without network or GPU.

ORION beside the untrained student, teacher SFT (sft), self-training (rft) and ORION without errors or with another
problem's, on the built-in world's stories.

examples:
  potstill quickstart
  potstill quickstart --limit 60 --test 40 --n 2 --out runs/short
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from potstill.cli import options
from potstill.cli.progress import show_progress
from potstill.cli.results import noting_kept_work, print_results, report_writer
from potstill.runs import recipe

# Learning rate and epochs of each arm are the best of a grid on a dev split, within its noise (docs/LOG.md).
LOOP: dict[str, Any] = {"optimizer": "muon", "batch_tokens": 4096, "batch_size": 0}
# The prompt that the built-in student was taught to rewrite by (potstill/world/prompts.py).
TAUGHT_PROMPT: dict[str, Any] = {"prompt": "paper"}
ARMS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft", "training": {"learning_rate": 1e-3, "num_train_epochs": 1}},
    "rft": {"method": "rft", "training": {"learning_rate": 1e-3, "num_train_epochs": 8}},
    "orion": {
        "method": "orion",
        "values": {"settings": TAUGHT_PROMPT},
        "training": {"learning_rate": 2e-3, "num_train_epochs": 8},
    },
    "orion-no-errors": {
        "method": "orion",
        "values": {"arm": "none", "settings": TAUGHT_PROMPT},
        "training": {"learning_rate": 2e-3, "num_train_epochs": 8},
    },
    "orion-shuffled": {
        "method": "orion",
        "values": {"arm": "shuffled", "settings": TAUGHT_PROMPT},
        "training": {"learning_rate": 2e-3, "num_train_epochs": 8},
    },
}
TITLE = "Potstill quickstart: what a small model learns from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "--out",
        type=options.expand_path,
        default="runs/quickstart",
        metavar="DIR",
        help="run folder",
    )
    parser.add_argument(
        "--limit",
        "--problems-limit",
        type=options.positive_int,
        default=300,
        help="training problems (300)",
    )
    parser.add_argument(
        "--test", type=options.positive_int, default=200, help="test problems (200)"
    )
    parser.add_argument(
        "--n", type=options.positive_int, default=4, help="answers a test problem (4)"
    )
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="from which every random choice is derived (0)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as in a recipe: n=8 for every arm, arms.orion.training.learning_rate=1e-3 for one",
    )
    options.add_threads(
        parser, default=1
    )  # the same samples on a machine of any size, and no crawl on a busy one
    options.add_retry_errors(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def recipe_data(problems: int, test: int, n: int, seed: int) -> dict[str, Any]:
    """The recipe as plain data.

    Stories are told from one mould, so word runs overlap everywhere: only whole questions count as overlap.
    """
    return {
        "arms": ARMS,
        # Every arm trains on rows whose steps are all right, not only the answer.
        "values": {"steps": True},
        "training": LOOP | {"seed": seed},
        "roles": {"teacher": "world:teacher", "student": "world:student"},
        "problems": f"world:story?split=train&size={problems}",
        "evaluate": {"problems": f"world:story?split=test&size={test}", "n": n},
        "overlap_n": 0,
        "compare": "orion",
        "seed": seed,
    }


def execute(args: argparse.Namespace) -> None:
    """Run it and print the outcome."""
    bound = recipe.from_data(recipe_data(args.limit, args.test, args.n, args.seed), args.set)
    from potstill.runs import experiment
    from potstill.runs.run_journal import announce_nothing

    began = time.monotonic()
    with noting_kept_work(args.out), show_progress(args.quiet) as progress:
        results = experiment.execute(
            bound,
            args.out,
            title=TITLE,
            progress=progress,
            threads=args.threads,
            retry_errors=args.retry_errors,
            announce=announce_nothing if args.quiet else progress.announce,
            publish=report_writer(args.out),
        )
    print_results(args, results, args.out, time.monotonic() - began, funnels=False)
