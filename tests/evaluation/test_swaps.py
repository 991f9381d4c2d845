"""Who plans x who codes."""

from __future__ import annotations

import pytest
from demo_results import evaluation

from potstill.errors import ConfigError
from potstill.evaluation.swaps import split_losses, swap_matrix

PAIRINGS = {
    ("untrained", "small"): evaluation("untrained x small", "wwww", "rwww", "wwww"),
    ("tuned", "small"): evaluation("tuned x small", "rrww", "rrww", "wwww"),
    ("oracle", "small"): evaluation("oracle x small", "rrrw", "rrrr", "rwww"),
}


def test_every_pairing_has_a_row() -> None:
    rows = {(swap.planner, swap.coder): swap for swap in swap_matrix(PAIRINGS)}
    assert rows["tuned", "small"].average.value == pytest.approx(4 / 12)
    assert rows["tuned", "small"].solved.value == pytest.approx(2 / 3)


def test_what_is_lost_is_lost_in_planning_or_in_carrying_out() -> None:
    for losses in split_losses(PAIRINGS):
        own = swap_matrix(PAIRINGS)[["untrained", "tuned"].index(losses.planner)].average.value
        assert own + losses.planning.value + losses.implementation.value == pytest.approx(1)
    assert split_losses(PAIRINGS)[1].planning.value == pytest.approx(4 / 12)


def test_other_problems_and_other_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="no planner 'teacher'"):
        split_losses(PAIRINGS, oracle="teacher")
    other = evaluation("other", "ww", "ww", "ww")
    with pytest.raises(ConfigError, match="were not asked the same"):
        swap_matrix({**PAIRINGS, ("other", "small"): other})
