"""A plan: stand-ins count what a method asks, a pilot measures, and nothing is paid without one."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from potstill.budget.prices import built_in_prices
from potstill.errors import ConfigError
from potstill.runs import estimate as estimating
from potstill.runs.dry_run import (
    Assumptions,
    choose_problems,
    drive_with_stand_ins,
    parse_assumptions,
)
from potstill.runs.estimate import Plan, make_plan
from potstill.runs.experiment import load_recipe_problems
from potstill.runs.recipe import Recipe, from_data

ROLES = {"teacher": "openai:gpt-4.1-mini?at=openai", "student": "world:student"}
BASE: dict[str, Any] = {
    "method": "sft",
    "roles": ROLES,
    "problems": "world:story?size=60",
    "values": {"n": 3},
}


def planned(data: Mapping[str, Any], out: Path, **assume: str) -> Plan:
    return make_plan(from_data(data), out, parse_assumptions(assume))


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket opens, no model is loaded, no key is there."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a plan without a pilot asks nobody")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
    monkeypatch.setattr(estimating, "open_run", refused)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_calls_tokens_and_money_of_a_method_that_asks_as_often_as_it_says(tmp_path: Path) -> None:
    found = planned(
        {**BASE, "values": {"n": 3, "max_new_tokens": 700}},
        tmp_path / "out",
        completion="400",
        chars="5",
    )
    [teacher] = found.needs
    assert (teacher.role, teacher.calls, teacher.completion, teacher.max_completion) == (
        "teacher",
        180,
        72_000,
        126_000,
    )
    problems, _ = load_recipe_problems(from_data(BASE))
    exact = sum(len(str(t.prompt)) for t in problems) * 3 / 5
    assert teacher.prompt == pytest.approx(exact, rel=0.1)  # scaled up from a few
    price = built_in_prices()["gpt-4.1-mini"]
    assert teacher.money == pytest.approx(
        (teacher.prompt * price.prompt + 72_000 * price.completion) / 1e6, rel=1e-3
    )
    assert teacher.limit == pytest.approx(
        (teacher.prompt * price.prompt + 126_000 * price.completion) / 1e6, rel=1e-3
    )
    assert not (tmp_path / "out").exists()


def test_what_is_assumed_right_decides_rows_and_calls(tmp_path: Path) -> None:
    none, half, all_ = (planned(BASE, tmp_path, right=share) for share in ("0", "0.5", "1"))
    assert none.rows == {"sft": 0} and all_.rows == {"sft": 180}
    assert 60 < half.rows["sft"] < 120
    orion = {**BASE, "method": "orion", "values": {"n": 4}}
    sure = {
        n.role: n.calls
        for n in planned(orion, tmp_path, **{"teacher.right": "1", "student.right": "0.9"}).needs
    }
    weak = {
        n.role: n.calls
        for n in planned(orion, tmp_path, **{"teacher.right": "1", "student.right": "0.1"}).needs
    }
    assert sure["teacher"] == weak["teacher"] == 60
    assert sure["student"] < weak["student"]  # rewrites that fail are asked for again


def test_a_method_that_stops_before_its_first_stage_says_why_in_the_plan(tmp_path: Path) -> None:
    orion = {**BASE, "method": "orion", "values": {"n": 4}}
    plan = planned(orion, tmp_path, right="1")
    assert plan.rows == {"orion": 0}
    assert "none of 96 attempts is wrong" in plan.assumptions["orion stopped"]
    assert [need.role for need in plan.needs] == ["student"]  # the teacher would not be asked


def test_arms_share_what_they_ask_in_common(tmp_path: Path) -> None:
    two = {
        **BASE,
        "arms": {"sft": {"method": "sft"}, "again": {"method": "sft", "training": {"lr": 1e-3}}},
    }
    del two["method"]
    assert [n.calls for n in planned(two, tmp_path).needs] == [
        n.calls for n in planned(BASE, tmp_path).needs
    ]


def test_measuring_is_counted(tmp_path: Path) -> None:
    data = {**BASE, "evaluate": {"problems": "world:story?split=test&size=10", "n": 2}}
    found = planned(data, tmp_path)
    assert [(n.role, n.calls) for n in found.needs[1:]] == [("student/evaluation", 20)] * 2
    assert all(n.money == 0 for n in found.needs[1:])


def test_training_disk_and_every_assumption_are_said(tmp_path: Path) -> None:
    found = planned(BASE, tmp_path, **{"teacher.right": "1"})
    size = found.training["sft"]
    assert size.steps == 3 * -(-180 // 16)
    assert found.disk["students"] == 4 * size.parameters
    assert found.disk["store"] > found.needs[0].completion
    told = found.to_json()["assumptions"]
    assert {
        "right",
        "chars",
        "completion",
        "teacher.right",
        "steps",
        "memory",
        "first stage",
    } <= set(told)
    assert found.measured == {}


def test_a_model_without_a_price_and_one_of_ones_own(tmp_path: Path) -> None:
    roles = {**ROLES, "teacher": "openai:mine?url=https://example.invalid/v1"}
    assert planned({**BASE, "roles": roles}, tmp_path).needs[0].money is None
    prices = {"mine": {"prompt": 0, "completion": 1}}
    assert planned({**BASE, "roles": roles, "prices": prices}, tmp_path).needs[
        0
    ].money == pytest.approx(0.18)
    local = {**ROLES, "teacher": "openai:gpt-4.1-mini?url=http://127.0.0.1:1/v1"}
    assert planned({**BASE, "roles": local}, tmp_path).needs[0].money == 0
    batched = planned({**BASE, "batch": True}, tmp_path).needs[0]
    assert batched.money == pytest.approx(planned(BASE, tmp_path).needs[0].money / 2)


def test_problems_are_chosen_by_hash_and_a_larger_choice_holds_the_smaller() -> None:
    problems, _ = load_recipe_problems(from_data(BASE))
    few, more = choose_problems(problems, 5), choose_problems(problems, 20)
    assert len(few) == 5 and set(few) <= set(more) and few != problems[:5]
    assert choose_problems(list(reversed(problems)), 5) == list(reversed(few))


@pytest.mark.slow
def test_a_dry_drive_repeats_itself() -> None:
    recipe: Recipe = from_data({**BASE, "method": "orion", "values": {"n": 4}})
    problems, _ = load_recipe_problems(recipe)
    one, two = (drive_with_stand_ins(recipe, problems, parse_assumptions({})) for _ in range(2))
    assert one.rows == two.rows
    assert {r: sorted(a.prompts) for r, a in one.calls.items()} == {
        r: sorted(a.prompts) for r, a in two.calls.items()
    }


@pytest.mark.parametrize(
    ("assume", "said"),
    [
        ({"rihgt": "1"}, "nothing is assumed about 'rihgt'"),
        ({"right": "x"}, "not a number"),
        ({"right": "2"}, "right=2"),
    ],
)
def test_wrong_assumptions_are_refused(assume: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_assumptions(assume)


def test_a_role_has_its_own_assumptions_over_those_of_all() -> None:
    made = parse_assumptions({"right": "0.7", "teacher.completion": "9"})
    assert made == {"": Assumptions(right=0.7), "teacher": Assumptions(right=0.7, completion=9.0)}
