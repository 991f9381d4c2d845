"""What a model behind a wire costs: a dated table that the user can see, replace and add to. USD per million tokens."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data import files
from potstill.errors import ConfigError, InputError
from potstill.records import Tokens

FILE = Path(__file__).with_name("prices.json")
MILLION = 1_000_000
_RATES = ("prompt", "completion", "cached", "reasoning", "batch", "up_to")
_TOLD = ("as_of", "source")
# A snapshot of a model costs what the model costs: -2024-07-18, -20241022, -0324, -001, -latest, -preview-05-20.
_DATED = re.compile(
    r"(?:-preview)?(?:-\d{4}-\d{2}-\d{2}|-\d{2}-\d{2}|-\d{8}|-\d{6}|-\d{4}|-\d{3}|-latest)$"
)
_FIX = "give one in the recipe: prices: {NAME: {prompt: 0.5, completion: 1.5}}, or in a file: --prices FILE.json"


class Price(NamedTuple):
    """USD per million tokens. Cached prompt tokens and reasoning cost what is said, else as prompt and completion do.

    `batch` is the share of the price that a batch is billed at. A prompt of more than `up_to` tokens is counted double:
    no vendor asks more. `as_of` and `source` say when and where the price was read.
    """

    prompt: float
    completion: float
    cached: float | None = None
    reasoning: float | None = None
    batch: float = 1.0
    up_to: float = 0
    as_of: str = ""
    source: str = ""


Table = Mapping[str, Price]


@cache
def built_in() -> Mapping[str, Price]:
    """The prices that come with the package, by model name."""
    return parse(json.loads(FILE.read_text("utf-8")), FILE.name)


def own(given: str | Mapping[str, Any] = "") -> dict[str, Price]:
    """The user's prices: a path of a JSON or YAML file, or a mapping as in a recipe."""
    if isinstance(given, Mapping):
        return parse(given, "prices")
    return _read(Path(given).expanduser()) if given else {}


def table(given: str | Mapping[str, Any] = "") -> dict[str, Price]:
    """The built-in prices with the user's over them."""
    return {**built_in(), **own(given)}


def price_of(name: str, prices: Table) -> Price | None:
    """The price of a model: by its exact name, then without a date, then without the vendor before a slash."""
    while True:
        for candidate in (name, name.lower(), *_undated(name)):
            if candidate in prices:
                return prices[candidate]
        vendor, slash, rest = name.partition("/")
        if not slash or not vendor:
            return None
        name = rest


def _undated(name: str) -> Sequence[str]:
    found, lower = [], name.lower()
    while (shorter := _DATED.sub("", lower)) != lower:
        found.append(shorter)
        lower = shorter
    return found


def cost(price: Price, tokens: Tokens, rate: float = 1.0) -> float:
    """What tokens cost; `cached` are among the prompt tokens, `reasoning` among the completion tokens."""
    cached = min(tokens.cached, tokens.prompt)
    reasoning = min(tokens.reasoning, tokens.completion)
    per_cached = price.prompt if price.cached is None else price.cached
    per_reasoning = price.completion if price.reasoning is None else price.reasoning
    paid = (tokens.prompt - cached) * price.prompt + cached * per_cached
    paid += (tokens.completion - reasoning) * price.completion + reasoning * per_reasoning
    return paid * rate * _length(price, tokens.prompt) / MILLION


def most(price: Price, prompt: int, completion: int, rate: float = 1.0) -> float:
    """The most that so many tokens can cost, however they are cached or thought."""
    dear = max(price.prompt, price.cached or 0.0), max(price.completion, price.reasoning or 0.0)
    return (prompt * dear[0] + completion * dear[1]) * rate * _length(price, prompt) / MILLION


def _length(price: Price, prompt: int) -> int:
    return 2 if price.up_to and prompt > price.up_to else 1


def unknown(name: str, prices: Table) -> ConfigError:
    """The error for a limit of money on a model that has no price."""
    return ConfigError(
        f"the price of the model {name!r} is not known, so a limit of money can't be kept",
        expected="a price in USD per million tokens, or a limit of tokens (--budget 2Mtok)",
        available=sorted(prices),
        wanted=name,
        fix=_FIX.replace("NAME", name),
    )


def missing(name: str, prices: Table) -> ConfigError:
    """The error for looking up a price that nobody gave; not the whole table, but the names that are near."""
    import difflib  # here, because every run imports this module and few of them fail

    near = difflib.get_close_matches(name.lower().rpartition("/")[2], prices, n=5, cutoff=0.5)
    return ConfigError(
        f"no price of a model {name!r} is known",
        expected=f"one of the {len(prices):,} models of the table: potstill prices lists them",
        available=near,
        wanted=name,
        fix=_FIX.replace("NAME", name),
    )


def parse(data: Any, where: str) -> dict[str, Price]:
    """Prices from plain data, every mistake reported at once; keys that begin with an underscore are remarks."""
    if not isinstance(data, Mapping):
        raise InputError(
            f"{where} holds {type(data).__name__}", expected="a mapping of model names", fix=_FIX
        )
    wrong: list[str] = []
    found = {
        str(n).lower(): _price(str(n), entry, wrong)
        for n, entry in data.items()
        if not str(n).startswith("_")
    }
    if wrong:
        raise InputError(
            f"{where}: {'; '.join(wrong)}", expected=f"{', '.join(_RATES)} as numbers", fix=_FIX
        )
    return found


def _price(name: str, entry: Any, wrong: list[str]) -> Price:
    if not isinstance(entry, Mapping):
        wrong.append(f"{name}: expected a mapping, found {entry!r}")
        return Price(0.0, 0.0)
    wrong += [f"{name}: unknown key {key!r}" for key in entry if key not in (*_RATES, *_TOLD)]
    wrong += [f"{name}: no {rate} price" for rate in ("prompt", "completion") if rate not in entry]
    rates: dict[str, Any] = {
        key: _rate(f"{name}.{key}", entry[key], wrong)
        for key in _RATES
        if entry.get(key) is not None
    }
    told = {key: str(entry[key]) for key in _TOLD if key in entry}
    return Price(**{"prompt": 0.0, "completion": 0.0, **rates, **told})


def _rate(name: str, value: Any, wrong: list[str]) -> float:
    fine = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )
    if not fine:
        wrong.append(f"{name}: {value!r} is not a number of 0 or more")
        return 0.0
    return float(value)


def _read(path: Path) -> dict[str, Price]:
    try:
        data = files.yaml(path)
    except FileNotFoundError:
        raise InputError(
            f"no prices at {path}", expected="a JSON or YAML file of prices", fix=_FIX
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {error.strerror}", expected="a file of prices", fix=_FIX
        ) from None
    return parse(data, str(path))
