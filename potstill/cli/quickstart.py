"""The built-in comparison: a real teacher and student, trained and measured in minutes, without network or GPU.

ORION beside the untrained student, teacher SFT (sft), self-training (rft) and ORION without errors or with another
problem's, on the built-in world's stories; then most of it again on walks, another kind of task with a teacher and a
student of its own, and whether both lead to the same.

examples:
  potstill quickstart
  potstill quickstart --family story
  potstill quickstart --limit 60 --test 40 --n 2 --out runs/short
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.cli.results import (
    noting_kept_work,
    print_results,
    report_writer,
    results_document,
)
from potstill.evaluation.agreement import agreements, conclude
from potstill.evaluation.results import Results
from potstill.runs import recipe
from potstill.runs.folder_layout import UNTRAINED
from potstill.runs.recipe import Recipe

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
# The second family of tasks, beside the stories: fewer arms, with the stories' learning rates and epochs, and two
# fifths of the problems where both are run.
WALK_ARMS = ("sft", "rft", "orion", "orion-no-errors")
# The walks' teacher says what a step changes before it takes it: whole rewrites in the student's style have down to a
# third of its sentences, and 46 % of them would fail the gate's defaults (docs/LOG.md).
WALK_GATE: dict[str, Any] = {"min_step_share": 0.25, "min_length_share": 0.2}
FAMILIES: dict[str, dict[str, str]] = {
    "story": {"teacher": "world:teacher", "student": "world:student"},
    "walk": {"teacher": "world:walk-teacher", "student": "world:walk-student"},
}
# What is compared in both families.
PAIRS = (
    *((arm, UNTRAINED) for arm in WALK_ARMS),
    ("orion", "rft"),
    ("orion", "orion-no-errors"),
)


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
        "--family",
        choices=(*FAMILIES, "both"),
        default="both",
        help="story, walk, or both: then the walks are run in OUT/walk, with two fifths of the problems (both)",
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


def recipe_data(
    problems: int, test: int, n: int, seed: int, *, family: str = "story"
) -> dict[str, Any]:
    """The recipe of a family as plain data.

    Stories are told from one mould, and walks from another, so word runs overlap everywhere: only whole questions count
    as overlap.
    """
    arms = ARMS
    if family != "story":
        arms = {name: walk_arm(name) for name in WALK_ARMS}
    return {
        "arms": arms,
        # Every arm trains on rows whose steps are all right, not only the answer.
        "values": {"steps": True},
        "training": LOOP | {"seed": seed},
        "roles": FAMILIES[family],
        "problems": f"world:{family}?split=train&size={problems}",
        "evaluate": {"problems": f"world:{family}?split=test&size={test}", "n": n},
        "overlap_n": 0,
        "compare": "orion",
        "seed": seed,
    }


def walk_arm(name: str) -> dict[str, Any]:
    """An arm of the stories as the walks have it: where it rewrites, with the gate of their teacher's style."""
    arm = ARMS[name]
    if arm["method"] != "orion":
        return arm
    return arm | {"values": arm["values"] | {"gate": WALK_GATE}}


def execute(args: argparse.Namespace) -> None:
    """Run it and print the outcome."""
    if args.family != "both":
        bound = recipe.from_data(
            recipe_data(args.limit, args.test, args.n, args.seed, family=args.family), args.set
        )
        results, seconds = _run_family(args, bound, args.out)
        print_results(args, results, args.out, seconds, funnels=False)
        return
    _execute_both(args)


def _execute_both(args: argparse.Namespace) -> None:
    """Run the stories, then the walks in a folder within theirs; print both, and whether they lead to the same."""
    sizes = {
        "story": (args.limit, args.test),
        "walk": (max(1, args.limit * 2 // 5), max(1, args.test * 2 // 5)),
    }
    folders = {"story": args.out, "walk": args.out / "walk"}
    # Both recipes are checked before the first of them runs.
    recipes: dict[str, Recipe] = {}
    for family, (problems, test) in sizes.items():
        data = recipe_data(problems, test, args.n, args.seed, family=family)
        recipes[family] = recipe.from_data(data, settings_of_family(args.set, family))

    documents: dict[str, Any] = {}
    evaluations: dict[str, Any] = {}
    for family, bound in recipes.items():
        results, seconds = _run_family(args, bound, folders[family])
        evaluations[family] = results.evaluations
        if args.json:
            documents[family] = results_document(results, folders[family], seconds)
            continue
        show.print_line(
            f"{family}: {sizes[family][0]} training and {sizes[family][1]} test problems"
        )
        print_results(args, results, folders[family], seconds, funnels=False)
        show.print_line()

    comparisons = agreements(evaluations, PAIRS)
    conclusions = [*(agreement.sentence for agreement in comparisons), conclude(comparisons)]
    if args.json:
        show.print_json({**documents, "conclusions": conclusions})
        return
    show.print_line("Do both families lead to the same? Points, with 95 % intervals:")
    for line in conclusions:
        show.print_line(line)


def settings_of_family(settings: Sequence[str], family: str) -> list[str]:
    """The `--set` values without those of arms that only the stories have; the stories' recipe checks them all."""
    left_out = [f"arms.{name}." for name in ARMS if family != "story" and name not in WALK_ARMS]
    return [setting for setting in settings if not setting.startswith(tuple(left_out))]


def _run_family(args: argparse.Namespace, bound: Recipe, out: Path) -> tuple[Results, float]:
    """Run one family's recipe in its folder; return its results and how many seconds it took."""
    from potstill.runs import experiment
    from potstill.runs.run_journal import announce_nothing

    began = time.monotonic()
    with noting_kept_work(out), show_progress(args.quiet) as progress:
        results = experiment.execute(
            bound,
            out,
            title=TITLE,
            progress=progress,
            threads=args.threads,
            retry_errors=args.retry_errors,
            announce=announce_nothing if args.quiet else progress.announce,
            publish=report_writer(out),
        )
    return results, time.monotonic() - began
