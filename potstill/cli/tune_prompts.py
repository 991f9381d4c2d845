"""Try each of a method's prompts on the same training problems, and choose the one that the writer follows best.

Counted are sound texts: the answer verifies, no step is known to be wrong, and every test of the method passes. What
the prompts share (the student's attempts, the teacher's chains) is asked once, and a second call asks nobody. The
problems are taken from the training problems as --limit takes them, never from the evaluation set; their names and the
choice are in tuning.json of the folder, every text in rewrites.jsonl. docs/tuning-prompts.md tells more.

examples:
  potstill tune-prompts orion --problems train.jsonl --teacher recorded:answers.jsonl --student transformers:models/qwen
  potstill tune-prompts orion --problems 'world:story?size=100' --teacher world:teacher --student world:student \\
      --n-problems 24
  potstill tune-prompts recipes/orion-qwen3-0.6b.yaml --n-problems 40 --write
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.cli import options, run, show
from potstill.cli.progress import show_progress
from potstill.cli.results import noting_kept_work
from potstill.cli.retry import failure_notes_of_folder
from potstill.data import files
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.evaluation.prompt_choice import RankedPrompt
    from potstill.runs.tune_prompts import Tuning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    run.add_recipe_arguments(parser)
    # Nothing is trained or measured.
    parser.set_defaults(rows_only=True, eval_n=None, eval_limit=None, eval_stages=False)
    parser.add_argument(
        "--n-problems",
        type=options.positive_int,
        default=24,
        metavar="N",
        help="try the prompts on N training problems (24)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="try this prompt or control (may be given again; default: all of them)",
    )
    parser.add_argument(
        "--arm", default="", metavar="NAME", help="which arm of a recipe, where it has several"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the choice into the recipe file (default: print the flag that sets it)",
    )
    options.add_retry_errors(parser)
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Try the prompts and print what came out."""
    is_file = args.what.endswith((".yaml", ".yml"))
    if args.write and not is_file:
        raise ConfigError(
            f"--write with {args.what}: there is no recipe file to write into",
            fix="potstill tune-prompts RECIPE.yaml --write, or leave --write out",
        )
    recipe = run.read_recipe(args)
    out = args.out or Path("runs") / f"tune-{Path(args.what).stem}"
    from potstill.runs.run_journal import announce_nothing
    from potstill.runs.tune_prompts import Scope, tune_prompts

    with (
        noting_kept_work(out),
        show_progress(args.quiet) as progress,
        files.skipping(args.skip_bad),
    ):
        tuning = tune_prompts(
            recipe,
            out,
            Scope(args.n_problems, args.arm, tuple(args.only)),
            progress=progress,
            announce=announce_nothing if args.quiet else progress.announce,
            threads=args.threads,
            retry_errors=args.retry_errors,
        )
        notes = [*tuning.notes, *files.notes()]
    # Only now, with every prompt tried: a killed command leaves the recipe as it was.
    written: list[str] = []
    if args.write:
        _write_into_recipe(Path(args.what), tuning)
        written.append(str(args.what))
    notes += failure_notes_of_folder(out)
    if args.json:
        show.print_json(tuning.to_json() | {"notes": notes, "written": written})
        return
    _print_tuning(tuning, out)
    for note in notes:
        show.print_line(note)
    for path in written:
        show.print_line(f"written  {path}")


def _write_into_recipe(path: Path, tuning: Tuning) -> None:
    from potstill.data.yaml_edit import write_values

    # With arms, the values of the one that was tuned.
    has_arms = bool(files.read_yaml(path).get("arms"))
    key = f"arms.{tuning.arm}.values" if has_arms else "values"
    write_values(path, key, tuning.overrides)


def _print_tuning(tuning: Tuning, out: Path) -> None:
    problems = len(tuning.choice.problems)
    rows = [_prompt_row(prompt, tuning) for prompt in tuning.choice.prompts]
    show.print_table(rows, title=f"{tuning.method}: sound texts of {problems} problems, by prompt")
    show.print_line()
    for sentence in tuning.choice.sentences:
        show.print_line(sentence)
    show.print_line(
        f"\ntried on {len(tuning.dev_problems)} training problems, of which {problems} had something to rewrite: "
        f"{out / 'tuning.json'}"
    )
    show.print_line(f"every text: {out / 'rewrites.jsonl'}")
    flags = shlex.join(tuning.set_flags) or "no flag is needed"
    show.print_line(f"to use it:  potstill run {tuning.method} {flags}")


def _prompt_row(prompt: RankedPrompt, tuning: Tuning) -> dict[str, str]:
    from potstill.evaluation.table import format_points

    outcome = prompt.outcome
    # One remark a prompt; that it was chosen says more than that it was in use.
    name = outcome.name
    if name == tuning.choice.name:
        name += " (chosen)"
    elif name == tuning.current:
        name += " (in use)"
    elif outcome.is_control:
        name += " (control)"
    value, low, high = (100 * end for end in prompt.share)
    # Two fit into a line of the table.
    reasons = [f"{reason} ({count})" for reason, count in list(outcome.reasons.items())[:2]]
    return {
        "prompt": name,
        "sound": f"{value:.0f} % [{low:.0f}, {high:.0f}]",
        "against the choice": show.NONE
        if prompt.difference is None
        else format_points(prompt.difference),
        "as a control": show.NONE
        if prompt.like_control is None
        else f"{100 * prompt.like_control:.0f} %",
        "texts": f"{outcome.written:,}",
        "wrong": f"{outcome.statuses.get('wrong', 0):,}",
        "tokens": f"{outcome.tokens:.0f}",
        "not sound because": "; ".join(reasons),
    }
