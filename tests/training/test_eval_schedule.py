"""What is only logged costs little: how often a student is evaluated while it is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.training.eval_schedule import count_evaluations, eval_interval, is_evaluated
from potstill.training.objective_config import ObjectiveConfig

TEACHER = Path("teacher")


@pytest.mark.parametrize(
    ("settings", "steps", "count"),
    [
        ({"teacher": TEACHER}, 1000, 3),
        ({"teacher": TEACHER}, 5, 2),
        ({"teacher": TEACHER, "on_policy_fraction": 0.5}, 1000, 11),
        ({"teacher": TEACHER, "eval_steps": 100}, 1000, 11),
    ],
)
def test_rollouts_are_evaluated_often_and_given_rows_seldom(settings, steps, count):
    config = ObjectiveConfig("jsd", **settings)
    assert is_evaluated(config) and count_evaluations(config, steps) == count
    interval = eval_interval(config, steps)
    assert sum(step % interval == 0 for step in range(steps)) + 1 == count


def test_a_training_on_rows_alone_is_not_evaluated():
    assert not is_evaluated(ObjectiveConfig())
