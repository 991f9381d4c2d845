"""The parser, and the flags that several commands share."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, final

from potstill import verifiers
from potstill.data import urls
from potstill.data.urls import Location
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.budget.budget import Budget
    from potstill.models.model import Model
    from potstill.store.store import Store

MODELS = (
    "world:teacher, transformers:PATH (a folder or FILE.gguf), openai:NAME?at=…, litellm:VENDOR/NAME, vllm:PATH, "
    "ray: before one that computes here (docs/models.md), recorded:FILE, scripted:FILE, or a kind that an installed "
    "package brings"
)
PROBLEMS = (
    "a .jsonl, .json, .csv or .parquet file or its URL, hf:NAME, gym:TASK, world:TASK, or what an installed package "
    "brings"
)
KINDS = ", ".join(verifiers.KINDS) + ", or one that an installed package brings"

MAX_THREADS = 1024  # torch crashes on a million


@final
class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that keeps its line breaks where they fit the terminal, and breaks longer lines between words."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for line in text.strip("\n").split("\n"):
            lines += break_line(line, width)
        return "\n".join(lines)


def break_line(line: str, width: int) -> list[str]:
    """A line of help in lines that fit; an indented one is a command of a shell, and goes on behind a backslash."""
    if len(line) <= width:
        return [line]
    if not line.startswith(" "):
        return textwrap.wrap(line, width)
    command = line.removesuffix("\\").strip()
    parts = textwrap.wrap(
        command,
        width - 2,
        initial_indent=" " * (len(line) - len(line.lstrip())),
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    is_continued = line.endswith("\\")
    last = f"{parts[-1]} \\" if is_continued else parts[-1]
    return [*(f"{part} \\" for part in parts[:-1]), last]


@final
class Parser(argparse.ArgumentParser):
    """An argument parser whose errors look like every other error, and whose help keeps its line breaks."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise ConfigError(
            message, expected=" ".join(self.format_usage().split()), fix=f"{self.prog} --help"
        )


# Types of flags: each makes a value of a text, or says what is wrong with it.


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def non_negative_int(text: str) -> int:
    """A whole number, 0 included."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads that a machine can have."""
    if non_negative_int(text) > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_THREADS} threads")
    return int(text)


def ascending_ints(text: str) -> tuple[int, ...]:
    """Whole numbers above 0 between commas, in ascending order, each once: `1,2,4,8`."""
    return tuple(sorted({positive_int(part.strip()) for part in text.split(",")}))


def expand_path(text: str) -> Path:
    """A path on this machine, with ~ expanded; a URL is refused."""
    return urls.local_path(text)


def location(text: str) -> Location:
    """A path with ~ expanded, or a URL of rows."""
    return urls.location_of(text)


def shard_size(text: str) -> int:
    """The bytes of `500MB`."""
    from potstill.data.row_files import parse_size

    return parse_size(text)


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """`name=value` texts as a mapping; a name may be given once."""
    pairs: dict[str, str] = {}
    for name, values in parse_lists(texts, flag).items():
        if len(values) > 1:
            raise ConfigError(
                f"{flag} {name} is given {len(values)} times: {', '.join(values)}",
                expected="one value a name",
                fix=f"leave all but one {flag} {name}=… out",
            )
        pairs[name] = values[0]
    return pairs


def parse_lists(texts: Sequence[str], flag: str) -> dict[str, list[str]]:
    """`name=value` texts as a mapping from each name to its values, in their order."""
    values_by_name: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} {text}", expected="name=value", fix=f"{flag} name=value")
        values_by_name.setdefault(name, []).append(value)
    return values_by_name


# Flags that several commands have.


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


def add_shard_size(parser: argparse.ArgumentParser) -> None:
    """--shard-size."""
    parser.add_argument(
        "--shard-size",
        type=shard_size,
        default=0,
        metavar="SIZE",
        help="write a set of files into the folder --out, each of so much JSON at most, such as 500MB, and shards.json "
        "when all are there; the same command goes on after a kill (default: one file)",
    )


def add_threads(parser: argparse.ArgumentParser, default: int = 0) -> None:
    """--threads; 0 is one a core."""
    parser.add_argument(
        "--threads",
        type=thread_count,
        default=default,
        metavar="N",
        help="CPU threads of local models; another number changes samples "
        f"(default: {default or 'one a core'})",
    )


def add_verify_on(parser: argparse.ArgumentParser) -> None:
    """--verify-on."""
    parser.add_argument(
        "--verify-on",
        choices=("here", "ray"),
        default="here",
        help="where math, code, SQL, regex and gym answers are judged: in worker processes of this machine (here), or "
        "on every node of the Ray cluster of RAY_ADDRESS (docs/scale.md); the verdicts are the same",
    )


@contextmanager
def verifying_on(place: str) -> Iterator[None]:
    """Have verifiers compute where `--verify-on` says, until the block ends."""
    if place == "here":
        yield
        return
    from potstill.cluster.verification import verifying_on_cluster  # it loads Ray

    with verifying_on_cluster():
        yield


def add_ks(parser: argparse.ArgumentParser) -> None:
    """--k."""
    parser.add_argument(
        "--k",
        type=ascending_ints,
        default=(),
        metavar="K,K,…",
        help="pass@k (estimated from all answers) and maj@k (of the first k) for these k, such as 1,2,4,8 "
        "(default: k is the number of answers)",
    )


def add_problems(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """--problems, --map, --where, --kind."""
    parser.add_argument("--problems", required=required, metavar="SPEC", help=PROBLEMS)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="which column is the question, answer, id, choices, solution, level … (may be given again; docs/data.md)",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only problems whose metadata meet it: 'level>=4', 'topic=Algebra,Geometry', 'date>2024-01-01' "
        "(may be given again; docs/data.md)",
    )
    parser.add_argument("--kind", default="", help=f"verifier: {KINDS} (default: guessed)")


def add_answers_in_thoughts(parser: argparse.ArgumentParser) -> None:
    """--answers-in-thoughts."""
    parser.add_argument(
        "--answers-in-thoughts",
        action="store_true",
        help="let an answer count that stands only inside a thought (default: it is unparsed)",
    )


def add_retry_errors(parser: argparse.ArgumentParser) -> None:
    """--retry-errors."""
    parser.add_argument(
        "--retry-errors", action="store_true", help="ask again where a recorded generation failed"
    )


def add_budget(parser: argparse.ArgumentParser, *roles: str) -> None:
    """--budget and --prices.

    Args:
        parser: of the command.
        roles: that may have a limit of their own; the last one is the example.
    """
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="LIMIT",
        help=f"what it may spend: 5usd, 2Mtok, {roles[-1]}=3usd (may be given again; default: no limit); "
        "the same command with a larger one goes on",
    )
    parser.add_argument(
        "--prices",
        metavar="FILE",
        default="",
        help="prices over potstill's own, JSON or YAML, USD per million tokens",
    )


def open_budget(
    args: argparse.Namespace, store: Store, models: Mapping[str, Model | None]
) -> Budget:
    """The budget that the flags of `add_budget` set, less what the folder has paid for.

    Refuses a limit of money on a model without a price.

    Args:
        args: with `budget` and `prices`.
        store: of the folder.
        models: by the roles that may have a limit.
    """
    from potstill.budget import flags, prices
    from potstill.budget.budget import Budget

    limits = flags.parse_limits(args.budget, list(models))
    budget = Budget.from_call_log(store.attempts, limits, prices.load_custom_prices(args.prices))
    for role, model in models.items():
        if model is not None:
            budget.permit(role, model, "")
    return budget
