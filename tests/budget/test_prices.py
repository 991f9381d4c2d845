"""Prices: the table that ships, the user's over it, names as servers say them, what tokens cost."""

from __future__ import annotations

import json
import re

import pytest

from potstill.budget import prices
from potstill.budget.prices import Price
from potstill.errors import InputError
from potstill.records import Tokens

TABLE = {
    "gpt-4o": Price(2.5, 10.0, cached=1.25),
    "gpt-4o-2024-05-13": Price(5.0, 15.0),
    "gpt-4o-mini": Price(0.15, 0.6, cached=0.075),
    "together/qwen/qwen3-8b": Price(0.2, 0.2),
}


def test_the_shipped_table_is_dated_and_sourced():
    table = prices.built_in_prices()
    assert len(table) > 50
    for name, price in table.items():
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", price.as_of), name
        assert "." in price.source, name
        assert 0 < price.prompt <= price.completion or name.startswith(
            ("together/", "openrouter/", "mistral", "mini")
        ), name
        assert price.cached is None or price.cached <= price.prompt, name
        assert name == name.lower()


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("gpt-4o", 2.5),
        ("GPT-4o", 2.5),
        ("gpt-4o-2024-08-06", 2.5),
        ("gpt-4o-2024-05-13", 5.0),
        ("openai/gpt-4o-2024-05-13", 5.0),
        ("gpt-4o-mini-2024-07-18", 0.15),
        ("openai/gpt-4o-mini-2024-07-18", 0.15),
        ("openrouter/openai/gpt-4o-mini", 0.15),
        ("gpt-4o-latest", 2.5),
        ("together/Qwen/Qwen3-8B", 0.2),
    ],
)
def test_a_name_is_found_exactly_then_without_its_date_then_without_its_vendor(name, prompt):
    found = prices.find_price(name, TABLE)
    assert found is not None
    assert found.prompt == prompt


@pytest.mark.parametrize(
    "name", ["gpt-4o-nano", "gpt-4o:free", "Qwen/Qwen3-8B", "gpt", "", "/", "openai/", "4o"]
)
def test_what_only_resembles_a_name_has_no_price(name):
    assert prices.find_price(name, TABLE) is None


def test_cached_and_reasoning_tokens_are_priced():
    price = Price(2.0, 8.0, cached=0.5, reasoning=4.0)
    tokens = Tokens(1_000_000, 1_000_000, cached=400_000, reasoning=250_000)
    assert prices.token_cost(price, tokens) == pytest.approx(
        0.6 * 2 + 0.4 * 0.5 + 0.75 * 8 + 0.25 * 4
    )
    assert prices.token_cost(price, tokens, 0.5) == pytest.approx(
        prices.token_cost(price, tokens) / 2
    )
    plain = Price(2.0, 8.0)
    assert prices.token_cost(plain, tokens) == pytest.approx(10.0)


def test_the_most_is_never_less_than_the_cost_whatever_is_cached_or_thought():
    odd = Price(2.0, 8.0, cached=3.0, reasoning=12.0, up_to=500)
    for prompt in (10, 500, 501, 9000):
        for cached in (0, prompt // 2, prompt, prompt * 2):
            for reasoning in (0, 50, 100, 200):
                tokens = Tokens(prompt, 100, cached, reasoning)
                assert prices.token_cost(odd, tokens) <= prices.max_cost(odd, prompt, 100) + 1e-15
    assert prices.max_cost(odd, 501, 100) > 1.9 * prices.max_cost(odd, 500, 100)


def test_the_users_prices_go_over_the_shipped_ones(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(
        "gpt-4o: {prompt: 1, completion: 2, source: contract}\nmy-model: {prompt: 0.1, completion: 0.2}\n"
    )
    for given in (
        str(path),
        {"gpt-4o": {"prompt": 1, "completion": 2}, "my-model": {"prompt": 0.1, "completion": 0.2}},
    ):
        table = prices.load_price_table(given)
        assert table["gpt-4o"].prompt == 1
        assert table["my-model"].completion == 0.2
        assert table["gpt-4o-mini"] == prices.built_in_prices()["gpt-4o-mini"]
    assert prices.load_price_table() == dict(prices.built_in_prices())
    path.write_text(json.dumps({"a": {"prompt": 1, "completion": 2}}))
    assert "a" in prices.load_price_table(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n", "list"),
        ("gpt: 3\n", "expected a mapping"),
        ("gpt: {prompt: 1}\n", "no completion price"),
        ("gpt: {prompt: -1, completion: 2}\n", "not a number from 0 to 1,000,000"),
        ("gpt: {prompt: .nan, completion: 2}\n", "not a number from 0 to 1,000,000"),
        ("gpt: {prompt: true, completion: 2}\n", "not a number from 0 to 1,000,000"),
        (
            "gpt: {prompt: 1, completion: 2, output: 3}\n",
            "output is the completion price, which is given twice",
        ),
        ("a: [\n", "line 2, column 1: not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "line 1, column 1: the tag !!python/object"),
        (
            "gpt: {prompt: 1, completion: 2}\ngpt: {prompt: 0, completion: 0}\n",
            "line 2: the key 'gpt' stands on line 1",
        ),
        (
            '{"gpt": {"prompt": 1, "completion": 2}, "gpt": {"prompt": 0, "completion": 0}}',
            "stands on line 1 already",
        ),
    ],
)
def test_a_bad_file_of_prices_says_what_is_wrong(tmp_path, text, said):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        prices.load_price_table(str(path))


def test_a_missing_file_of_prices_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no prices at"):
        prices.load_price_table(str(tmp_path / "none.yaml"))


def test_a_model_without_a_price_names_the_nearest_and_the_way_out():
    error = prices.unpriced_model_error("gpt-4o-mni", TABLE)
    assert error.nearest == ("gpt-4o-mini",)
    assert "--prices" in error.fix
    assert "--budget 2Mtok" in error.render()


def test_a_table_of_litellms_kind_is_read():
    entry = {
        "max_input_tokens": 128000,
        "mode": "chat",
        "supports_vision": True,
        "litellm_provider": "somebody",
        "input_cost_per_token": 3e-7,
        "output_cost_per_token": "1.2e-06",
        "cache_read_input_token_cost": 7.5e-8,
        "output_cost_per_reasoning_token": None,
        "input_cost_per_token_batches": 1.5e-7,
        "output_cost_per_token_batches": 9e-7,
        "input_cost_per_token_above_200k_tokens": 6e-7,
        "input_cost_per_image": 0.001,
    }
    price = prices.parse_prices({"some-model": entry}, "table")["some-model"]
    assert price[:4] == (0.3, 1.2, 0.075, None)
    # The larger share of the two, and the length above which a limit counts double.
    assert price.batch == pytest.approx(0.75) and price.up_to == 200_000


@pytest.mark.parametrize(
    ("entry", "rates"),
    [
        ({"input": 0.5, "output": 1.5, "cache_read": 0.1}, (0.5, 1.5, 0.1)),
        ({"input_cost_per_1k_tokens": 0.001, "output_cost_per_1k_tokens": 2e-3}, (1.0, 2.0, None)),
        ({"prompt_price_per_million_tokens": 3, "completion_price_per_mtok": 4}, (3.0, 4.0, None)),
        ({"input_cost_per_1M_tokens": 0.25, "completion": 1, "batch": 0.5}, (0.25, 1.0, None)),
    ],
)
def test_rates_by_other_names(entry, rates):
    assert prices.parse_prices({"m": entry}, "file")["m"][:3] == rates


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"input_cost_per_token": 1e-6, "output_cost_per_tokn": 2e-6}, "m: no completion price"),
        ({"input_cost_per_token": 1e-6, "prompt": 1, "completion": 2}, "price, which is given"),
        ({"input_cost_per_token": "free", "output_cost_per_token": 0}, "'free' is not a number"),
        ({"input": 1, "output": 2, "promt": 3}, "m: unknown key 'promt'"),
        ({"input_cost_per_token": "nan", "output_cost_per_token": 0}, "'nan' is not|nan is not"),
    ],
)
def test_mistakes_in_prices_by_other_names(entry, message):
    with pytest.raises(InputError, match=message):
        prices.parse_prices({"m": entry}, "file")


def test_models_of_litellms_table_without_prices_of_tokens_are_left_out():
    table = {
        "draws": {
            "litellm_provider": "x",
            "output_cost_per_image": 0.04,
            "mode": "image_generation",
        },
        "writes": {
            "litellm_provider": "x",
            "input_cost_per_token": 1e-6,
            "output_cost_per_token": 2e-6,
        },
    }
    assert list(prices.parse_prices(table, "table")) == ["writes"]
