"""What a remote model costs: a dated table that the user can see, replace and add to. USD per million tokens."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from potstill.data import files
from potstill.errors import ConfigError, InputError
from potstill.records import Tokens

FILE = Path(__file__).with_name("prices.json")
TOKENS_PER_PRICE = 1_000_000
MAX_RATE = 10.0**6  # USD per million tokens
_NEAR_NAMES = 5  # of the table, in an error about a name that it does not hold
_RATE_FIELDS = ("prompt", "completion", "cached", "reasoning", "batch", "up_to")
_SOURCE_FIELDS = ("as_of", "source")
# Names that others give to these rates: litellm's table (input_cost_per_token), models.dev and Together (input).
_VENDOR_KEY = re.compile(
    r"(?P<side>input|prompt|output|completion)_(?:cost|price)_per_"
    r"(?P<unit>token|1k_tokens|1m_tokens|million_tokens|mtok)"
)
_TOKENS_OF_UNIT = {"token": 1, "1k_tokens": 1_000}  # every other unit is a million
_VENDOR_NAMES: Mapping[str, tuple[str, int]] = {
    "input": ("prompt", TOKENS_PER_PRICE),
    "output": ("completion", TOKENS_PER_PRICE),
    "cached_input": ("cached", TOKENS_PER_PRICE),
    "cache_read": ("cached", TOKENS_PER_PRICE),
    "cache_read_input_token_cost": ("cached", 1),
    "output_cost_per_reasoning_token": ("reasoning", 1),
}
_BATCH_KEYS = {
    "input_cost_per_token_batches": "prompt",
    "output_cost_per_token_batches": "completion",
}
# A dearer rate for long prompts: input_cost_per_token_above_128k_tokens.
_LONG_PROMPT_KEY = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")
# A snapshot of a model costs what the model costs: -2024-07-18, -20241022, -0324, -001, -latest, -preview-05-20.
_DATE_SUFFIX = re.compile(
    r"(?:-preview)?(?:-\d{4}-\d{2}-\d{2}|-\d{2}-\d{2}|-\d{8}|-\d{6}|-\d{4}|-\d{3}|-latest)$"
)
_FIX = "give one in the recipe: prices: {NAME: {prompt: 0.5, completion: 1.5}}, or in a file: --prices FILE.json"


class Price(NamedTuple):
    """USD per million tokens. `cached` prompt tokens and `reasoning` cost as prompt and completion where they are None.

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


PriceTable: TypeAlias = Mapping[str, Price]


@cache
def built_in_prices() -> Mapping[str, Price]:
    """The prices that come with the package, by model name."""
    return parse_prices(json.loads(FILE.read_text("utf-8")), FILE.name)


def load_custom_prices(source: str | Mapping[str, Any] = "") -> dict[str, Price]:
    """The user's prices: from a JSON or YAML file, or from a mapping as in a recipe."""
    if isinstance(source, Mapping):
        return parse_prices(source, "prices")
    if not source:
        return {}
    return _read_price_file(Path(source).expanduser())


def load_price_table(source: str | Mapping[str, Any] = "") -> dict[str, Price]:
    """The built-in prices with the user's over them."""
    return {**built_in_prices(), **load_custom_prices(source)}


def find_price(name: str, prices: PriceTable) -> Price | None:
    """The price of a model: by its exact name, then without a date, then without the vendor before a slash."""
    while True:
        # The exact name first: a user may give a snapshot a price of its own.
        for candidate in (name, name.lower(), *_undated_names(name)):
            if candidate in prices:
                return prices[candidate]
        vendor, slash, model = name.partition("/")
        if not slash or not vendor:
            return None
        name = model


def _undated_names(name: str) -> Sequence[str]:
    """The name without its date, then without what looks like one before that."""
    names: list[str] = []
    longer = name.lower()
    shorter = _DATE_SUFFIX.sub("", longer)
    while shorter != longer:
        names.append(shorter)
        longer, shorter = shorter, _DATE_SUFFIX.sub("", shorter)
    return names


def token_cost(price: Price, tokens: Tokens, rate: float = 1.0) -> float:
    """What tokens cost in USD; `cached` are among the prompt tokens, `reasoning` among the completion tokens."""
    # Whatever a server reports: nothing may cost less than nothing.
    cached = min(tokens.cached, tokens.prompt)
    reasoning = min(tokens.reasoning, tokens.completion)
    cached_price = price.prompt if price.cached is None else price.cached
    reasoning_price = price.completion if price.reasoning is None else price.reasoning
    cost = (tokens.prompt - cached) * price.prompt + cached * cached_price
    cost += (tokens.completion - reasoning) * price.completion + reasoning * reasoning_price
    return cost * rate * _length_factor(price, tokens.prompt) / TOKENS_PER_PRICE


def max_cost(price: Price, prompt: int, completion: int, rate: float = 1.0) -> float:
    """The most that so many tokens can cost in USD, however many are cached or reasoning."""
    prompt_price = max(price.prompt, price.cached or 0.0)
    completion_price = max(price.completion, price.reasoning or 0.0)
    cost = prompt * prompt_price + completion * completion_price
    return cost * rate * _length_factor(price, prompt) / TOKENS_PER_PRICE


def _length_factor(price: Price, prompt: int) -> int:
    """2 for a prompt of more than `up_to` tokens, which the vendor charges more for."""
    if price.up_to and prompt > price.up_to:
        return 2
    return 1


def unpriced_model_error(name: str, prices: PriceTable) -> ConfigError:
    """The error for a limit of money on a model that has no price."""
    return ConfigError(
        f"the price of the model {name!r} is not known, so a limit of money can't be kept",
        expected="a price in USD per million tokens, or a limit of tokens (--budget 2Mtok)",
        available=sorted(prices),
        wanted=name,
        fix=_FIX.replace("NAME", name),
    )


def no_price_error(name: str, prices: PriceTable) -> ConfigError:
    """The error for looking up a price that nobody gave: not the whole table, but the names that are near."""
    import difflib  # here, because every run imports this module and few of them fail

    base_name = name.lower().rpartition("/")[2]
    return ConfigError(
        f"no price of a model {name!r} is known",
        expected=f"one of the {len(prices):,} models of the table: potstill prices lists them",
        available=difflib.get_close_matches(base_name, prices, n=_NEAR_NAMES, cutoff=0.5),
        wanted=name,
        fix=_FIX.replace("NAME", name),
    )


def parse_prices(data: Any, source: str) -> dict[str, Price]:
    """Prices from plain data, every mistake reported at once; keys that begin with an underscore are remarks."""
    if not isinstance(data, Mapping):
        raise InputError(
            f"{source} holds {type(data).__name__}", expected="a mapping of model names", fix=_FIX
        )
    prices: dict[str, Price] = {}
    mistakes: list[str] = []
    for key, entry in data.items():
        name = str(key)
        if not name.startswith("_") and not _is_priced_otherwise(entry):
            prices[name.lower()] = _parse_price(name, entry, mistakes)
    if mistakes:
        raise InputError(
            f"{source}: {'; '.join(mistakes)}",
            expected=f"{', '.join(_RATE_FIELDS)} as numbers, in USD per million tokens; or "
            "input_cost_per_token and output_cost_per_token, in USD a token",
            fix=_FIX,
        )
    return prices


def _is_priced_otherwise(entry: Any) -> bool:
    """Whether an entry of litellm's table is of a model that has no prices of tokens, such as one that draws."""
    if not isinstance(entry, Mapping) or "litellm_provider" not in entry:
        return False
    fields = {translated[0] for key in entry if (translated := _translate_key(str(key)))}
    return not {"prompt", "completion"} <= fields


def _parse_price(name: str, entry: Any, mistakes: list[str]) -> Price:
    """One entry of a table; what is wrong with it is appended to `mistakes`."""
    if not isinstance(entry, Mapping):
        mistakes.append(f"{name}: expected a mapping, found {entry!r}")
        return Price(0.0, 0.0)
    entry = _translate_vendor_keys(name, entry, mistakes)
    for key in entry:
        if key not in (*_RATE_FIELDS, *_SOURCE_FIELDS):
            mistakes.append(f"{name}: unknown key {key!r}")
    for field in ("prompt", "completion"):
        if field not in entry:
            mistakes.append(f"{name}: no {field} price")

    # What is missing is a mistake already; zero only stands in until all mistakes are known.
    values: dict[str, Any] = {"prompt": 0.0, "completion": 0.0}
    for field in _RATE_FIELDS:
        if entry.get(field) is not None:
            values[field] = _parse_rate(f"{name}.{field}", entry[field], mistakes)
    for field in _SOURCE_FIELDS:
        if field in entry:
            values[field] = str(entry[field])
    return Price(**values)


def _translate_vendor_keys(
    name: str, entry: Mapping[str, Any], mistakes: list[str]
) -> Mapping[str, Any]:
    """An entry under our names, in USD per million tokens, from one that may use other tools' names.

    An entry with prices a token is taken from a table such as litellm's, whose other keys (what the model can do, rates
    of images and sound) price no token that is counted here and are left out.
    """
    rates: dict[
        str, tuple[str, Any, int]
    ] = {}  # our name: their key, the value, the tokens it is for
    for key, value in entry.items():
        translated = _translate_key(str(key))
        if translated is None:
            continue
        field, tokens = translated
        if field in entry or field in rates:
            mistakes.append(f"{name}: {key} is the {field} price, which is given twice")
        rates[field] = (str(key), value, tokens)
    if not rates:
        return entry

    values = {key: entry[key] for key in (*_RATE_FIELDS, *_SOURCE_FIELDS) if key in entry}
    is_table_entry = any(tokens == 1 for _, _, tokens in rates.values())
    if not is_table_entry:
        own_keys = {their_key for their_key, _, _ in rates.values()}
        values |= {key: value for key, value in entry.items() if key not in own_keys}
    for field, (key, value, tokens) in rates.items():
        if value is not None:
            rate = _parse_rate(f"{name}.{key}", value, mistakes) * TOKENS_PER_PRICE / tokens
            values[field] = float(f"{rate:.12g}")  # 3e-7 a token is 0.3 a million
    if is_table_entry:
        _add_batch_and_long_prompts(name, entry, values, mistakes)
    return values


def _translate_key(key: str) -> tuple[str, int] | None:
    """The rate of another tool's key and how many tokens it is for; None where the key is no rate."""
    match = _VENDOR_KEY.fullmatch(key.lower())
    if match is None:
        return _VENDOR_NAMES.get(key.lower())
    field = "prompt" if match["side"] in ("input", "prompt") else "completion"
    return field, _TOKENS_OF_UNIT.get(match["unit"], TOKENS_PER_PRICE)


def _add_batch_and_long_prompts(
    name: str, entry: Mapping[str, Any], values: dict[str, Any], mistakes: list[str]
) -> None:
    """Take a table's batch prices as the larger share of the price, and the length from which prompts cost more."""
    shares: list[float] = []
    for key, field in _BATCH_KEYS.items():
        if entry.get(key) is not None and values.get(field):
            batch_price = _parse_rate(f"{name}.{key}", entry[key], mistakes) * TOKENS_PER_PRICE
            shares.append(batch_price / values[field])
    if shares:
        values.setdefault("batch", max(shares))
    lengths = [_LONG_PROMPT_KEY.fullmatch(str(key)) for key in entry]
    thousands = [int(match[1]) for match in lengths if match is not None]
    if thousands:
        values.setdefault("up_to", 1000 * min(thousands))


def _parse_rate(name: str, value: Any, mistakes: list[str]) -> float:
    # YAML reads 1e-06, which has no point, as text.
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    # YAML's `yes` is a bool, which Python counts as 1.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    highest = math.inf if name.endswith(".up_to") else MAX_RATE
    if not is_number or not math.isfinite(value) or not 0 <= value <= highest:
        mistakes.append(f"{name}: {value!r} is not a number from 0 to {highest:,.0f}")
        return 0.0
    return float(value)


def _read_price_file(path: Path) -> dict[str, Price]:
    try:
        data = files.read_yaml(path)
    except FileNotFoundError:
        raise InputError(
            f"no prices at {path}", expected="a JSON or YAML file of prices", fix=_FIX
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {error.strerror}", expected="a file of prices", fix=_FIX
        ) from None
    return parse_prices(data, str(path))
