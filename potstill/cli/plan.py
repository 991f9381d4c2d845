"""Say what a run will ask and cost before anything is paid: calls, tokens and money by role, disk, memory, steps.

Takes the flags of `potstill run`. Without --pilot no model is asked: stand-ins count what the method would ask, and
every assumption is printed and can be set. With --pilot N the real models answer N problems in the run's own folder;
the run that follows does not pay for them again.

examples:
  potstill plan orion --problems train.jsonl --teacher openai:gpt-4.1-mini?at=openai --student transformers:qwen
  potstill plan recipes/orion-qwen3-0.6b.yaml --problems train.jsonl --assume teacher.completion=3000 --assume right=0.7
  potstill plan recipe.yaml --pilot 20 --budget 1usd
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from potstill.cli import options, run, show
from potstill.cli.progress import watching
from potstill.cli.results import keeping
from potstill.data import files


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    run.recipe_arguments(parser)
    parser.add_argument(
        "--pilot",
        type=options.count,
        metavar="N",
        help="let the real models answer N problems first",
    )
    parser.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="right (share of right completions), completion (tokens), chars (a token); teacher.right for one role",
    )
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the plan."""
    from potstill.runs.dry_run import parse_assumptions
    from potstill.runs.estimate import make_plan

    recipe = run.bind(args)
    assume = parse_assumptions(options.pairs(args.assume, "--assume"))
    out = args.out or Path("runs") / Path(args.what).stem
    with keeping(out), watching(args.quiet) as progress, files.skipping(args.skip_bad):
        found = make_plan(
            recipe, out, assume, pilot=args.pilot or 0, threads=args.threads, progress=progress
        )
        notes = files.notes()
    if args.json:
        show.document(found.to_json() | {"notes": notes})
        return
    _told(found)
    for sentence in notes:
        show.say(sentence)


def _told(plan: Any) -> None:
    paid = any(need.money != 0 for need in plan.needs)
    show.table(
        [_need(need, paid) for need in plan.needs],
        title=f"calls for {plan.problems:,} problems, by role",
    )
    shown = [
        {
            "arm": arm,
            "rows": f"{rows:,}",
            **(
                {"steps": f"{s.steps:,}", "trained": f"{s.trained:,}", "memory": _bytes(s.memory)}
                if s
                else {}
            ),
        }
        for arm, rows in plan.rows.items()
        for s in [plan.training.get(arm)]
    ]
    show.table(shown, title="training")
    show.table([{name: _bytes(size) for name, size in plan.disk.items()}], title="disk")
    if plan.measured:
        rows = [
            {
                "measured": name,
                "value": f"{e.value:.4g}",
                "95 % interval": f"{e.low:.4g} to {e.high:.4g}",
            }
            for name, e in plan.measured.items()
        ]
        show.table(rows, title=f"measured on {plan.tried} problems")
    show.table([{"assumed": name, "value": str(value)} for name, value in plan.assumptions.items()])
    if plan.paid:
        show.say(
            f"the pilot cost {plan.paid:.4g} USD; the run with the same flags does not pay for it again"
        )


def _need(need: Any, paid: bool) -> dict[str, str]:
    row = {
        "role": need.role,
        "model": show.head(need.model, 36),
        "calls": f"{need.calls:,}",
        "prompt": f"{need.prompt:,}",
        "completion": f"{need.completion:,}",
        "at most": f"{need.max_completion:,}",
    }
    if not paid:
        return row
    if need.money is None:
        return row | {"USD": "no price", "interval": "–", "USD at most": "–"}
    interval = f"{need.low:.4g} to {need.high:.4g}" if need.high != need.low else "–"
    return row | {
        "USD": f"{need.money:.4g}",
        "interval": interval,
        "USD at most": f"{need.limit:.4g}",
    }


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
