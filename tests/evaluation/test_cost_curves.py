"""Fronts, equal budgets, areas, costs of a target, matched baselines: by brute force, by hand, as laws."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ConfigError, InputError
from potstill.evaluation import cost_curves
from potstill.evaluation.cost_curves import CostPoint

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=10)
LINE = [CostPoint("a", 0, 0.2), CostPoint("b", 10, 0.4), CostPoint("c", 20, 0.8)]


def named(pairs: list[tuple[int, int]]) -> list[CostPoint]:
    return [CostPoint(str(place), float(c), float(v)) for place, (c, v) in enumerate(pairs)]


@given(POINTS)
@settings(max_examples=50, deadline=None)
def test_the_front_is_what_no_other_point_beats(pairs: list[tuple[int, int]]) -> None:
    points = named(pairs)
    unbeaten = {
        p.name
        for p in points
        if not any(q.cost <= p.cost and q.value >= p.value and q[1:] != p[1:] for q in points)
    }
    front = cost_curves.pareto_front(points)
    assert {point.name for point in front} == unbeaten
    assert [point.cost for point in front] == sorted(point.cost for point in front)


@given(POINTS, st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_a_budget_buys_the_best_affordable_point(pairs: list[tuple[int, int]], budget: int) -> None:
    points = named(pairs)
    [row] = cost_curves.iso_cost(points, [budget])
    values = [point.value for point in points if point.cost <= budget]
    assert row.affordable == len(values)
    assert (row.best.value if row.best else None) == max(values, default=None)


def test_without_budgets_the_front_itself_is_the_table() -> None:
    points = [*LINE, CostPoint("beaten", 15, 0.3)]
    assert [row.best.name for row in cost_curves.iso_cost(points)] == ["a", "b", "c"]


def test_the_area_is_a_mean_accuracy() -> None:
    # Trapezoids by hand: 10 * .3 + 10 * .6 over 20.
    assert cost_curves.area_under_curve(LINE) == pytest.approx(0.45)
    assert cost_curves.area_under_curve(LINE, 5, 15) == pytest.approx((5 * 0.35 + 5 * 0.5) / 10)
    flat = [CostPoint("", cost, 0.5) for cost in (0, 3, 11)]
    assert cost_curves.area_under_curve(flat, 1, 7) == pytest.approx(0.5)
    with pytest.raises(InputError, match="a curve from 0 to 20 on the range from 5 to 30"):
        cost_curves.area_under_curve(LINE, 5, 30)
    with pytest.raises(InputError, match="two points of the cost 10"):
        cost_curves.area_under_curve([*LINE, CostPoint("d", 10, 0.1)])


@given(st.floats(0, 19, allow_nan=False))
@settings(max_examples=20, deadline=None)
def test_areas_of_two_halves_make_the_whole(cut: float) -> None:
    whole = 20 * cost_curves.area_under_curve(LINE)
    left = cut * cost_curves.area_under_curve(LINE, 0, cut) if cut else 0
    assert left + (20 - cut) * cost_curves.area_under_curve(LINE, cut, 20) == pytest.approx(whole)


def test_curves_are_compared_where_all_of_them_are() -> None:
    other = [CostPoint("", 5, 0.1), CostPoint("", 40, 0.9)]
    assert cost_curves.shared_range([LINE, other]) == (5, 20)
    with pytest.raises(InputError, match="share no range of costs"):
        cost_curves.shared_range([LINE, [CostPoint("", 30, 0.1), CostPoint("", 40, 0.9)]])


def test_the_cost_of_a_target() -> None:
    assert cost_curves.cost_to_reach(LINE, 0.6) == pytest.approx(15)
    assert cost_curves.cost_to_reach(LINE, 0.1) == 0
    assert cost_curves.cost_to_reach(LINE, 0.9) is None
    assert cost_curves.interpolate(LINE, 15) == pytest.approx(0.6)
    with pytest.raises(InputError, match="says nothing of 21"):
        cost_curves.interpolate(LINE, 21)


@given(st.integers(0, 500), st.integers(0, 10**6), st.integers(1, 5000))
@settings(max_examples=40, deadline=None)
def test_a_matched_baseline_spends_what_the_arm_spends(b: int, extra: int, each: int) -> None:
    matched = cost_curves.matched_budget(b, extra, each)
    assert 0 <= b * each + extra - matched * each < each


def test_a_baseline_is_not_matched_to_nothing() -> None:
    assert cost_curves.matched_budget(100, 0.3, 0.1) == 103
    with pytest.raises(ConfigError, match="annotation_cost=0"):
        cost_curves.matched_budget(100, 5, 0)
    with pytest.raises(InputError, match="no point of cost and accuracy"):
        cost_curves.pareto_front([])
