"""Write the rows that an arm of a run trained on in the layout of another trainer, text unchanged.

examples:
  potstill export runs/sft --arm sft --format trl --out sft.jsonl
  potstill export runs/quickstart --arm orion --format sharegpt | head -1
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from potstill.cli import options, show
from potstill.errors import ConfigError, StageError
from potstill.export import LAYOUTS, rows, write
from potstill.outcome import trained_on
from potstill.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("run", type=options.folder, metavar="RUN", help="a run folder")
    parser.add_argument("--arm", required=True, metavar="NAME", help="which arm's rows (those of its last stage)")
    parser.add_argument("--format", required=True, choices=LAYOUTS, help="the layout")
    parser.add_argument("--out", type=options.folder, metavar="FILE", help="a .jsonl file (default: stdout)")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Write the rows."""
    made = _rows(args)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", encoding="ascii") as file:
            write(made, file)
        said = {"rows": len(made), "arm": args.arm, "format": args.format, "out": str(args.out)}
        show.document(said) if args.json else show.say(f"{len(made):,} rows  {args.out}")
    elif args.json:
        show.document(made)
    else:
        write(made, sys.stdout)


def _rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    with Store.open(args.run, readonly=True) as store:
        arms = [arm for arm in store.history.arms() if store.history.rows(arm)]
        if args.arm not in store.history.arms():
            raise ConfigError(
                f"{args.run} has no arm {args.arm!r}",
                available=arms,
                wanted=args.arm,
                fix=f"--arm {(*arms, 'NAME')[0]}",
            )
        traces = trained_on(store, args.arm)
    if not traces:
        raise StageError(
            f"the arm {args.arm} of {args.run} has no rows yet",
            expected="an arm that came as far as training",
            available=arms,
            fix="run it to its end: the same `potstill run` command takes it up again",
        )
    return rows(traces, args.format)
