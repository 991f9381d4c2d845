"""Run a method, or a recipe file: collect rows, train the student, measure it, write a report.

The run folder keeps everything that was generated, so the same command goes on where a killed one stopped.
docs/recipes.md says what a recipe holds and how values are read.

examples:
  potstill run sft --problems train.jsonl --teacher recorded:answers.jsonl --student transformers:models/qwen
  potstill run orion --problems 'world:story?size=100' --teacher world:teacher --student world:student \\
      --evaluate 'world:story?split=test&size=50' --set settings.prompt=paper --set training.learning_rate=2e-3
  potstill run recipes/orion-qwen3-0.6b.yaml --problems train.jsonl --limit 200
"""

from __future__ import annotations

import argparse
import time
import typing
from contextlib import nullcontext
from pathlib import Path

from potstill.budget import flags
from potstill.cli import options
from potstill.cli.progress import show_progress
from potstill.cli.results import noting_kept_work, print_results, report_writer
from potstill.cli.viewing import viewing
from potstill.config import Override
from potstill.data import files
from potstill.runs import recipe

# Flags that have a place in a recipe: the flag's attribute -> the recipe's key.
RECIPE_KEYS = {
    "problems": "problems",
    "limit": "limit",
    "seed": "seed",
    "kind": "kind",
    "prompt": "prompt",
    "overlap": "overlap",
    "evaluate": "evaluate.problems",
    "eval_n": "evaluate.n",
    "eval_limit": "evaluate.limit",
    "teacher": "roles.teacher",
    "student": "roles.student",
    "sampler": "roles.sampler",
    "prices": "prices",
    "truncated": "truncated",
    "when_spent": "when_spent",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_recipe_arguments(parser)
    add_measuring_arguments(parser)
    options.add_retry_errors(parser)
    options.add_skip_bad(parser)
    parser.add_argument(
        "--view",
        action="store_true",
        help="show the run in the browser while it lasts (potstill view)",
    )
    options.add_quiet(parser)
    options.add_json(parser)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that make a recipe, its folder and its threads; `plan` and `tune-prompts` have them too."""
    parser.add_argument(
        "what",
        metavar="METHOD|RECIPE.yaml",
        help="a method (potstill methods), one of your own (FILE.py:NAME), or a recipe file",
    )
    parser.add_argument(
        "--out", type=options.expand_path, metavar="DIR", help="run folder (default: runs/METHOD)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the method (n=4), or a key of the recipe (training.learning_rate=1e-4, "
        "evaluate.sampling.temperature=0.6); wins over a recipe file, also over an arm's own block",
    )
    parser.add_argument(
        "--seed", type=options.non_negative_int, metavar="N", help="of every random choice (0)"
    )
    _add_role_arguments(parser)
    _add_problem_arguments(parser)
    _add_cost_arguments(parser)
    options.add_threads(parser)
    options.add_verify_on(parser)


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say how far a recipe is run, and how its arms are measured; `plan` has them too."""
    parser.add_argument(
        "--rows-only",
        action="store_true",
        help="end with the rows that would be trained on; needs no torch, GPU or student (docs/collecting.md)",
    )
    parser.add_argument(
        "--eval-n",
        type=options.positive_int,
        metavar="N",
        help="answers a problem when measuring (4)",
    )
    parser.add_argument(
        "--eval-limit",
        type=options.positive_int,
        metavar="N",
        help="measure on at most N problems (all)",
    )
    parser.add_argument(
        "--eval-stages",
        action="store_true",
        help="also measure the student of every stage, as ARM/STAGE (default: what each arm ends with)",
    )


def _add_role_arguments(parser: argparse.ArgumentParser) -> None:
    for role in ("teacher", "student", "sampler"):
        parser.add_argument(
            f"--{role}", metavar="SPEC", help=f"the model in the role {role}: {options.MODELS}"
        )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="the model in any other role (may be given again; of one name where several models play it)",
    )


def _add_problem_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_problems(parser, required=False)
    parser.add_argument(
        "--limit", type=options.positive_int, metavar="N", help="train on at most N problems (all)"
    )
    parser.add_argument(
        "--prompt",
        metavar="TEMPLATE",
        help="what the learner sees, such as '{question} Think first.' (default: by kind)",
    )
    parser.add_argument(
        "--truncated",
        choices=typing.get_args(recipe.Truncated),
        help="what becomes of a completion that ends at its token limit (keep)",
    )
    options.add_answers_in_thoughts(parser)
    parser.add_argument(
        "--evaluate", metavar="SPEC", help="problems to measure the arms on (default: not measured)"
    )
    parser.add_argument(
        "--overlap",
        choices=("stop", "drop"),
        help="what to do about training problems that are evaluation problems (stop)",
    )


def _add_cost_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="LIMIT",
        help="what the run may spend: 5usd, 2Mtok, teacher=3usd (may be given again; default: no limit); "
        "the same command with a larger one goes on where the run stopped",
    )
    parser.add_argument(
        "--when-spent",
        choices=("stop", "train"),
        help="at the end of the budget: stop, or train with what was paid for (stop)",
    )
    parser.add_argument(
        "--prices",
        metavar="FILE",
        help="prices over potstill's own, JSON or YAML, USD per million tokens (potstill prices)",
    )
    parser.add_argument(
        "--batch",
        action="store_true",
        help="send the calls of openai: models as batches: half the price, within a day (docs/servers.md)",
    )


def execute(args: argparse.Namespace) -> None:
    """Run it and print the outcome."""
    bound = read_recipe(args)
    out = args.out or Path("runs") / Path(args.what).stem
    from potstill.runs import experiment
    from potstill.runs.run_journal import announce_nothing

    began = time.monotonic()
    with (
        noting_kept_work(out),
        show_progress(args.quiet) as progress,
        files.skipping(args.skip_bad),
        viewing(out, progress.announce) if args.view else nullcontext(),
        options.verifying_on(args.verify_on),
    ):
        results = experiment.execute(
            bound,
            out,
            progress=progress,
            threads=args.threads,
            retry_errors=args.retry_errors,
            announce=announce_nothing if args.quiet else progress.announce,
            rows_only=args.rows_only,
            publish=report_writer(out),
        )
    print_results(args, results, out, time.monotonic() - began, funnels=True)


def read_recipe(args: argparse.Namespace) -> recipe.Recipe:
    """The recipe that the flags make, or the file's with the flags over it."""
    sets: list[str | Override] = [*flag_overrides(args), *args.set]
    if args.what.endswith((".yaml", ".yml")):
        return recipe.from_file(Path(args.what), sets, rows_only=args.rows_only)
    return recipe.from_data({"method": args.what}, sets, rows_only=args.rows_only)


def flag_overrides(args: argparse.Namespace) -> list[Override]:
    """The flags that were given and have a place in a recipe."""
    overrides = []
    for attribute, key in RECIPE_KEYS.items():
        value = getattr(args, attribute)
        if value not in (None, ""):
            flag = f"--{attribute.replace('_', '-')}"
            # A model's spec may hold a key by mistake, and the source is shown beside a mistake.
            source = flag if key.startswith("roles.") else f"{flag} {value}"
            overrides.append(Override(key, value, source))
    for role, specs in options.parse_lists(args.role, "--role").items():
        # A role that several models play is given several times.
        value = specs[0] if len(specs) == 1 else specs
        overrides.append(Override(f"roles.{role}", value, f"--role {role}"))
    for field, column in options.parse_pairs(args.map, "--map").items():
        overrides.append(Override(f"mapping.{field}", column, f"--map {field}={column}"))
    if args.where:
        overrides.append(Override("where", args.where, f"--where {' --where '.join(args.where)}"))
    for text in args.budget:
        for key, amount in flags.parse_budget([text]).items():
            overrides.append(Override(key, amount, f"--budget {text}"))
    if args.eval_stages:
        overrides.append(Override("evaluate.stages", True, "--eval-stages"))
    if args.batch:
        overrides.append(Override("batch", True, "--batch"))
    if args.answers_in_thoughts:
        overrides.append(Override("answers_in_thoughts", True, "--answers-in-thoughts"))
    return overrides
