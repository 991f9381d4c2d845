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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one model, as a server calls it")
    parser.add_argument(
        "--prices",
        metavar="FILE",
        default="",
        help="prices over potstill's own, JSON or YAML (docs/servers.md)",
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the table, or one entry of it."""
    table = prices.load_price_table(args.prices)
    if args.name:
        price = prices.find_price(args.name, table)
        if price is None:
            raise prices.no_price_error(args.name, table)
        table = {args.name: price}
    if args.json:
        show.print_json({name: price._asdict() for name, price in table.items()})
        return
    lines = [_price_line(name, price) for name, price in sorted(table.items())]
    show.print_table(lines, title="USD per million tokens")


def _price_line(name: str, price: prices.Price) -> dict[str, str]:
    cached = price.cached if price.cached is not None else price.prompt
    reasoning = price.reasoning if price.reasoning is not None else price.completion
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
