"""The parser, and the flags that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, final

from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.budget.budget import Budget
    from potstill.models.model import Model
    from potstill.store.store import Store

MODELS = (
    "world:teacher, transformers:PATH, openai:NAME?at=…, litellm:VENDOR/NAME, vllm:PATH, "
    "recorded:FILE, scripted:FILE"
)
PROBLEMS = "a .jsonl, .json, .csv or .parquet file, hf:NAME, gym:TASK or world:TASK"
KINDS = "math, number, choice, exact, regex, format, table, code, judge, gym, story"

MOST_THREADS = 1024


@final
class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints look like every other error, and whose help keeps its line breaks."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise ConfigError(
            message, expected=" ".join(self.format_usage().split()), fix=f"{self.prog} --help"
        )


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def number(text: str) -> int:
    """A whole number, 0 included."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def threads(text: str) -> int:
    """A number of threads that a machine can have: torch crashes on a million."""
    if number(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_THREADS} threads")
    return int(text)


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of tables"
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """--quiet."""
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def add_skip_bad(parser: argparse.ArgumentParser) -> None:
    """--skip-bad."""
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave bad rows of files out and list them (default: stop at the first)",
    )


def add_threads(parser: argparse.ArgumentParser, default: int = 0) -> None:
    """--threads; 0 is one a core."""
    said = default or "one a core"
    parser.add_argument(
        "--threads",
        type=threads,
        default=default,
        metavar="N",
        help=f"CPU threads of local models; another number changes samples (default: {said})",
    )


def add_spending(parser: argparse.ArgumentParser, *roles: str) -> None:
    """--budget and --prices."""
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="LIMIT",
        help=f"what it may spend: 5usd, 2Mtok, {roles[-1]}=3usd (may be given again); a larger one goes on",
    )
    parser.add_argument(
        "--prices", metavar="FILE", default="", help="prices over potstill's own, JSON or YAML"
    )


def budget(args: argparse.Namespace, store: Store, models: Mapping[str, Model | None]) -> Budget:
    """The budget that `add_spending` reads, less what the folder has paid for; refuses money where a price is missing.

    Args:
        args: with `budget` and `prices`.
        store: of the folder.
        models: by the roles that may have a limit.
    """
    from potstill.budget import flags, prices
    from potstill.budget.budget import Budget

    limits = flags.parse_limits(args.budget, list(models))
    found = Budget.from_call_log(
        store.attempts,
        limits,
        prices.load_custom_prices(args.prices),
    )
    for role, model in models.items():
        if model is not None:
            found.permit(role, model, "")
    return found


def add_problems(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """--problems, --map, --kind."""
    parser.add_argument("--problems", required=required, metavar="SPEC", help=PROBLEMS)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="which column is the question, answer, id, choices or solution (may be given again)",
    )
    parser.add_argument("--kind", default="", help=f"verifier: {KINDS} (default: guessed)")


def pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """`name=value` texts as a mapping."""
    found: dict[str, str] = {}
    for text in texts:
        name, eq, value = text.partition("=")
        if not eq or not name:
            raise ConfigError(f"{flag} {text}", expected="name=value", fix=f"{flag} name=value")
        found[name] = value
    return found


def folder(text: str) -> Path:
    """A path with ~ expanded."""
    return Path(text).expanduser()
