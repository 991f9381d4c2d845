"""The list of instruments, and the page that describes them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import potstill
from potstill.errors import InputError
from potstill.evaluation import instruments

PAGE = Path(__file__).resolve().parents[2] / "docs" / "instruments.md"
KEYWORDS = {"after_shared"}


def test_every_name_is_there_and_listed() -> None:
    assert instruments.__all__ == sorted(instruments.__all__)
    assert all(hasattr(instruments, name) for name in instruments.__all__)


def test_the_page_names_what_there_is() -> None:
    text = PAGE.read_text("utf-8")
    called = set(re.findall(r"`(?:ps\.)?([a-z_0-9]+)(?:\(|`)", text))
    functions = {name for name in called if "_" in name}
    there = {*instruments.__all__, *potstill.__all__} | KEYWORDS
    assert not functions - there and len(functions) > 20
    # And whatever computes something is on the page.
    computing = [name for name in instruments.__all__ if name[0].islower()]
    assert not [name for name in computing if not re.search(rf"\b{name}\b", text)]


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_no_number_is_refused_and_not_ranked(value: float | None) -> None:
    # NaN is unequal to itself: a ranking that goes on while values are equal would never end.
    values, others, groups = [value, 1.0, 2.0], [1.0, 2.0, 3.0], ["p"] * 3
    for measure in (
        lambda: instruments.rank_correlation(values, others, groups),
        lambda: instruments.rank_correlation(others, others, groups, controls=[values]),
        lambda: instruments.pairwise_auc(values, others, groups),
        lambda: instruments.paired_bootstrap(values, others, draws=2),
        lambda: instruments.mcnemar(values, others),
        lambda: instruments.crossed_interval([values, others]),
        lambda: instruments.crossed_share([values, others], 6),
        lambda: instruments.mean_interval(values),
        lambda: instruments.auroc(values, [True, False, True]),
    ):
        with pytest.raises(InputError, match=f"of {value}"):
            measure()


def test_nothing_to_measure_is_said_and_no_division_by_zero() -> None:
    for measure in (
        lambda: instruments.crossed_interval([]),
        lambda: instruments.crossed_interval([[], []]),
        lambda: instruments.mean_interval([]),
        lambda: instruments.share_interval([], 0),
        lambda: instruments.difference_interval([]),
        lambda: instruments.pooled_share_interval([[]]),
        lambda: instruments.pooled_mean_interval([], []),
    ):
        with pytest.raises(InputError, match=r"no (value|seed) at all"):
            measure()
    with pytest.raises(InputError, match="one problem"):
        instruments.paired_bootstrap([1.0], [2.0])  # its p would be 0.001
    with pytest.raises(InputError, match="bins=0"):
        instruments.calibration_error([0.5], [True], bins=0)
    with pytest.raises(InputError, match="1 values and 2 outcomes"):
        instruments.detect([0.1, 0.2], [True, False], clusters=["p"])


def test_sets_that_are_together_larger_than_their_pool_are_refused() -> None:
    with pytest.raises(InputError, match="4 selected out of 2"):
        instruments.overlaps({"a": ["x", "y"], "b": ["z", "w"]}, pool=2)
