"""The surface solve@(M,T) against brute force, and what a shape costs."""

from __future__ import annotations

import itertools
import random

import pytest
from demo_results import evaluation, nested_evaluation

from potstill.errors import ConfigError, InputError
from potstill.evaluation import nested
from potstill.evaluation.metrics import pass_at_k, solve_at, solve_at_plans
from potstill.evaluation.nested import Shape, ShapeCost
from potstill.traces.usage import Usage


def test_every_cell_is_the_share_of_shapes_that_solve() -> None:
    generator = random.Random(5)
    plans = ["".join(generator.choice("rww") for _ in range(3)) for _ in range(4)]
    surface = nested.solve_surface(nested_evaluation(plans))
    assert len(surface) == 12
    for (m, t), estimate in surface.items():
        outcomes = []
        for chosen in itertools.combinations(plans, m):
            programs = [list(itertools.combinations(plan, t)) for plan in chosen]
            outcomes += ["r" in itertools.chain(*tried) for tried in itertools.product(*programs)]
        assert estimate.value == pytest.approx(sum(outcomes) / len(outcomes)), (m, t)


def test_it_is_unbiased_when_plans_are_drawn() -> None:
    """A plan is good or bad; estimated from 3x2 draws, solve@(2,1) is on average what it is."""
    generator, values = random.Random(7), []
    for _ in range(1500):
        plans = []
        for _ in range(3):
            chance = generator.choice((0.1, 0.7))
            plans.append((2, sum(generator.random() < chance for _ in range(2))))
        values.append(solve_at_plans(plans, 2, 1))
    assert sum(values) / len(values) == pytest.approx(1 - 0.6**2, abs=0.03)


def test_one_program_of_each_plan_is_pass_at_k_over_plans() -> None:
    evaluated = nested_evaluation(["r", "w", "w", "r", "w"])
    for k in range(1, 6):
        expected = pass_at_k(5, 2, k)
        assert nested.solve_surface(evaluated)[Shape(k, 1)].value == pytest.approx(expected)
        assert solve_at(evaluated, k, 1).value == pytest.approx(expected)


def test_more_plans_or_programs_solve_no_less() -> None:
    surface = nested.solve_surface(nested_evaluation(["rw", "ww", "rr"], ["ww", "wr", "ww"]))
    for (m, t), estimate in surface.items():
        assert all(estimate.value <= surface[s].value for s in surface if s >= (m, t) and s[1] >= t)


def test_what_every_problem_has_bounds_the_surface() -> None:
    uneven = nested_evaluation(["rw", "ww", "rr"], ["www", "wr"])
    assert nested.is_nested(uneven) and not nested.is_nested(evaluation("flat", "rw"))
    assert nested.largest_shape(uneven) == (2, 2)
    with pytest.raises(ConfigError, match=r"solve@\(3,1\) can't be estimated from 2x2 answers"):
        nested.solve_surface(uneven, [Shape(3, 1)])


def test_a_shape_costs_its_plans_and_its_programs() -> None:
    usage = {"reasoner": Usage(2, 20, 80, 0.02), "coder": Usage(6, 600, 60, 0.06)}
    evaluated = nested_evaluation(["rww", "www"], usage=usage)
    cost = nested.measure_shape_cost(evaluated, "reasoner", "coder")
    assert cost == (50, 110)
    assert cost.of(Shape(10, 1)) == 10 * 50 + 10 * 110
    assert cost.of(Shape(1, 10)) == 50 + 10 * 110
    assert nested.measure_shape_cost(evaluated, "reasoner", "coder", unit="usd") == (0.01, 0.01)
    with pytest.raises(InputError, match="the role 'planner' was never asked"):
        nested.measure_shape_cost(evaluated, "planner", "coder")
    points = nested.surface_points(nested.solve_surface(evaluated), ShapeCost(1, 1))
    assert [(point.name, point.cost) for point in points][:2] == [("1x1", 2), ("1x2", 3)]


def test_diversity_tells_plans_that_differ_from_plans_in_other_words() -> None:
    same = nested.measure_diversity(nested_evaluation(["rr", "rr"]))
    assert (same.same_plan, same.other_plans, same.distinct) == (1, 1, 1)
    # Wrong answers are equal within a plan and differ between plans.
    differing = nested.measure_diversity(nested_evaluation(["ww", "ww"]))
    assert (differing.same_plan, differing.other_plans, differing.distinct) == (1, 0, 2)
    mixed = nested.measure_diversity(nested_evaluation(["rw", "rw"]))
    assert (mixed.same_plan, mixed.other_plans, mixed.distinct) == (0, 0.25, 3)
    silent = nested.measure_diversity(nested_evaluation(["u"]))
    assert (silent.same_plan, silent.other_plans, silent.distinct) == (None, None, 0)
