"""The rewriting check on the shipped models, small: shares of the same stories in each condition, paired."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.errors import StageError
from potstill.runs.sources import world_model
from potstill.studies.rewriting import check


@pytest.mark.slow
def test_the_three_conditions_rewrite_the_same_stories():
    found = check(world_model("teacher", 1), world_model("student", 1), size=40)
    counts = {shares["traces"] for shares in found["rewriting"].values()}
    assert len(counts) == 1 and 10 <= counts.pop() <= 40
    own, shuffled = (found["rewriting"][name]["right"] for name in ("own", "shuffled"))
    value, low, high = found["differences"]["own - shuffled (answer)"]
    assert value == pytest.approx(100 * (own - shuffled), abs=0.1) and low <= value <= high
    assert found["teacher"]["traces"] == 40 and found["student"]["traces"] == 160


def test_nobody_errs_is_said():
    oracle = world_model("oracle")
    with pytest.raises(StageError, match="none of 15 attempts is wrong"):
        check(oracle, oracle, size=3)
