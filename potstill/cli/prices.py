"""The prices of remote models, in USD per million tokens, with the date and place where each was read.

examples:
  potstill prices
  potstill prices gpt-4o
  potstill prices --prices mine.yaml --json
"""

from __future__ import annotations

import argparse

from potstill.budget import prices
from potstill.cli import options, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one model, as a server calls it")
    parser.add_argument(
        "--prices", metavar="FILE", default="", help="prices over potstill's own, JSON or YAML"
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the table, or one entry of it."""
    table = prices.load_price_table(args.prices)
    if args.name:
        found = prices.find_price(args.name, table)
        if found is None:
            raise prices.no_price_error(args.name, table)
        table = {args.name: found}
    if args.json:
        show.document({name: price._asdict() for name, price in table.items()})
        return
    show.table(
        [_row(name, price) for name, price in sorted(table.items())], title="USD per million tokens"
    )


def _row(name: str, price: prices.Price) -> dict[str, str]:
    cached = price.prompt if price.cached is None else price.cached
    reasoning = price.completion if price.reasoning is None else price.reasoning
    return {
        "model": name,
        "prompt": f"{price.prompt:g}",
        "cached": f"{cached:g}",
        "completion": f"{price.completion:g}",
        "reasoning": f"{reasoning:g}",
        "batch": f"x {price.batch:g}",
        "as of": price.as_of or "yours",
        "source": price.source or "yours",
    }
