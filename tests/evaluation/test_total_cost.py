"""What an arm cost, from the figures of a run."""

from __future__ import annotations

import dataclasses

import pytest
from demo_results import results

from potstill.errors import ConfigError
from potstill.evaluation.results import Cost
from potstill.evaluation.total_cost import (
    inference_flops,
    list_spending,
    sum_spending,
    training_flops,
)


@pytest.fixture
def run():
    costs = {
        "teacher": Cost(10, 0, 600, 400, cost=0.5, lost=0.1),
        "student": Cost(40, 0, 1000, 3000),
        "student/training": Cost(2, 0, 50, 50),
        "student/evaluation": Cost(20, 0, 10_000, 10_000),
    }
    training = {"elad": {"arm": "elad", "rows": 9, "tokens": 7000}}
    return dataclasses.replace(results(), costs={"elad": costs}, training=training)


def test_flops_of_a_parameter_and_a_token() -> None:
    assert inference_flops(1e9, 1000) == 2e12
    assert training_flops(1e9, 1000) == 6e12


def test_every_part_is_counted_once(run) -> None:
    spending = list_spending(
        run, "elad", parameters={"student": 10, "teacher": 100}, selecting=["student"]
    )
    assert [entry[:3] for entry in spending] == [
        ("generation", "teacher", 1000),
        ("selection", "student", 4000),
        ("training", "student", 100),
        ("evaluation", "student", 20_000),
        ("training", "student", 7000),
    ]
    total = sum_spending(spending)
    assert total.tokens == 1000 + 4000 + 100 + 7000
    assert total.usd == pytest.approx(0.6)
    assert total.flops == 2 * 100 * 1000 + 2 * 10 * 4100 + 6 * 10 * 7000
    assert sum_spending(spending, ["selection"]).tokens == 4000


def test_flops_of_unknown_parameters_are_not_guessed(run) -> None:
    spending = list_spending(run, "elad", parameters={"student": 10})
    assert sum_spending(spending).flops is None
    assert sum_spending(spending, ["training"]).flops == 2 * 10 * 100 + 6 * 10 * 7000


def test_trainings_of_all_stages_count(run) -> None:
    stages = {
        "elad/one": {"arm": "elad", "stage": "one", "tokens": 3000},
        "elad/two": {"arm": "elad", "stage": "two", "tokens": 4500},
        "elad": {"arm": "elad", "tokens": 4500, "stages": 2},
    }
    two_stages = dataclasses.replace(run, training=stages)
    assert sum_spending(list_spending(two_stages, "elad"), ["training"]).tokens == 100 + 7500


def test_other_names_are_refused(run) -> None:
    with pytest.raises(ConfigError, match="the run has no arm 'eladd'"):
        list_spending(run, "eladd")
    with pytest.raises(ConfigError, match="elad has no role 'techer'"):
        list_spending(run, "elad", parameters={"techer": 1})
    with pytest.raises(ConfigError, match="no part 'select'"):
        sum_spending([], ["select"])  # type: ignore[list-item]
