"""What two families of tasks say together: they agree, contradict each other, or leave it open."""

from __future__ import annotations

import pytest

from potstill.evaluation.agreement import Agreement, conclude
from potstill.evaluation.compare import Comparison
from potstill.evaluation.intervals import Estimate

GAIN, LOSS, UNCLEAR = (0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), (0.05, -0.05, 0.15)


def agreement(*differences: tuple[float, float, float]) -> Agreement:
    comparisons = {}
    for family, difference in zip(("story", "walk"), differences, strict=True):
        comparisons[family] = Comparison("rft", "untrained", Estimate(*difference), 100)
    return Agreement(comparisons)


@pytest.mark.parametrize(
    ("story", "walk", "outcome"),
    [
        (GAIN, GAIN, "agree"),
        (LOSS, LOSS, "agree"),
        (GAIN, LOSS, "contradict each other"),
        (GAIN, UNCLEAR, "open"),
        (UNCLEAR, UNCLEAR, "open"),
    ],
)
def test_families_agree_only_where_both_intervals_exclude_zero_on_one_side(story, walk, outcome):
    assert agreement(story, walk).outcome == outcome


def test_the_sentences_say_both_differences_and_the_count():
    both = agreement(GAIN, LOSS)
    assert both.sentence == (
        "rft against untrained: story +20.0 [+10.0, +30.0], walk -20.0 [-30.0, -10.0]: contradict each other"
    )
    assert conclude([both, agreement(GAIN, GAIN), agreement(GAIN, UNCLEAR)]).startswith(
        "Of 3 comparisons the families agree on 1 and contradict each other on 1; 1 are open"
    )
