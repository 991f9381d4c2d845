"""`--budget` and the recipe's budget: what is read, what is refused, what neither the manifest nor a key knows."""

from __future__ import annotations

import pytest

from potstill.budget.amounts import Limit
from potstill.budget.flags import RunLimits, parse_budget
from potstill.errors import ConfigError
from potstill.runs.recipe import from_data

BASE = {
    "method": "sft",
    "roles": {"teacher": "world:teacher", "student": "world:student"},
    "problems": "world:story",
}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("5usd", "budget.money", 5.0),
        ("0.25 USD", "budget.money", 0.25),
        ("$3.5", "budget.money", 3.5),
        ("2Mtok", "budget.tokens", 2_000_000),
        ("1.5ktokens", "budget.tokens", 1500),
        ("900tok", "budget.tokens", 900),
        ("teacher=3usd", "budget.roles.teacher.money", 3.0),
        ("judge=2Gtok", "budget.roles.judge.tokens", 2_000_000_000),
    ],
)
def test_a_limit_is_read(text, key, value):
    assert parse_budget([text]) == {key: value}


@pytest.mark.parametrize(
    "text",
    ["5", "usd", "5eur", "-5usd", "=5usd", "teacher=", "5usd teacher", "1e3usd", "5mtok", ""],
)
def test_what_is_not_a_limit_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(ConfigError, match="--budget 5usd"):
        parse_budget([text])


def test_of_two_limits_on_one_thing_the_last_counts():
    assert parse_budget(["5usd", "teacher=1usd", "7usd", "3tok"]) == {
        "budget.money": 7.0,
        "budget.roles.teacher.money": 1.0,
        "budget.tokens": 3,
    }


def test_a_recipe_has_a_budget():
    made = from_data(
        {**BASE, "budget": {"tokens": 100, "money": 5, "roles": {"teacher": {"money": 3}}}}
    )
    assert made.budget == RunLimits(100, 5.0, {"teacher": Limit(0, 3.0)})
    assert made.budget.by_name() == {"": Limit(100, 5.0), "teacher": Limit(0, 3.0)}
    assert from_data(BASE).budget.by_name() == {}


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"money": -1}, "limits are 0"),
        (
            {"roles": {"techer": {"money": 1}}},
            "budget.roles.techer: unknown role 'techer' (nearest: budget.roles.teacher)",
        ),
        ({"roles": {"teacher": {"usd": 1}}}, "budget.roles.teacher.usd: unknown setting 'usd'"),
        ({"tokens": 1.5}, "budget.tokens: expected a whole number"),
        (7, "budget: expected a mapping"),
    ],
)
def test_a_wrong_budget_is_one_of_the_mistakes(budget, said):
    with pytest.raises(ConfigError) as caught:
        from_data({**BASE, "budget": budget})
    assert said in caught.value.found


def test_neither_the_budget_nor_prices_nor_batches_are_part_of_what_is_saved():
    plain = from_data(BASE).to_json()
    rich = {"budget": {"money": 5}, "prices": {"m": {"prompt": 1, "completion": 2}}, "batch": True}
    assert from_data({**BASE, **rich}).to_json() == plain
    assert from_data({**BASE, "truncated": "keep"}).to_json() == plain
    assert from_data({**BASE, "truncated": "drop"}).to_json() == {**plain, "truncated": "drop"}
