"""Paired tests, and intervals in which seeds are a level: by hand, by simulation."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from demo_results import evaluation

from potstill.errors import ConfigError, InputError
from potstill.evaluation import paired
from potstill.evaluation.intervals import (
    difference_interval,
    share_interval,
    student_t_quantile,
    t_quantile_between,
)
from potstill.evaluation.rows import Evaluation, Fingerprint


def test_mcnemar_counts_only_what_differs() -> None:
    # The review's best case: 6 gained and none lost of 246 problems, and 8 gained with 2 lost.
    assert paired.mcnemar([True] * 6 + [False] * 240, [False] * 246).p_value == 2 / 64
    gained_and_lost = paired.mcnemar([True] * 8 + [False] * 2, [False] * 8 + [True] * 2)
    assert gained_and_lost == (8, 2, 0)
    assert gained_and_lost.p_value == pytest.approx(0.109, abs=1e-3)
    with pytest.raises(InputError, match="2 values of the arm and 1 of the base"):
        paired.mcnemar([True, False], [True])


def test_the_bootstrap_repeats_and_agrees_with_the_analytic_interval() -> None:
    generator = random.Random(4)
    arm = [generator.choice((0.0, 0.25, 0.5, 1.0)) for _ in range(80)]
    base = [max(0.0, value - generator.choice((0.0, 0.0, 0.25))) for value in arm]
    first = paired.paired_bootstrap(arm, base, draws=400)
    assert first == paired.paired_bootstrap(arm, base, draws=400)
    analytic = difference_interval([a - b for a, b in zip(arm, base, strict=True)])
    assert first.difference.value == pytest.approx(analytic.value)
    assert first.difference.half == pytest.approx(analytic.half, rel=0.25)
    assert first.p_value == pytest.approx(2 / 401)
    assert paired.paired_bootstrap(base, base, draws=50).p_value == 1.0


def test_variance_of_problems_and_seeds_by_hand() -> None:
    # Two seeds, two problems: means .25 and .55 by seed, .3 and .5 by problem, .4 in all; the remainder is .05 each.
    variance = paired.crossed_variance([[0.2, 0.3], [0.4, 0.7]])
    assert variance.problems == pytest.approx(0.01)
    assert variance.seeds == pytest.approx(0.15**2)
    assert variance.both == pytest.approx(0.01 + 0.15**2 - 4 * 0.05**2 / 4)


def test_seeds_that_agree_leave_the_interval_over_problems() -> None:
    values = [0.5, 0.25, 0.0, 0.25, -0.25]
    assert paired.crossed_interval([values]) == difference_interval(values)
    agreeing = paired.crossed_interval([values] * 3)
    assert agreeing == pytest.approx(difference_interval(values))


def test_seeds_that_differ_widen_it() -> None:
    values = [0.5, 0.25, 0.0, 0.25, -0.25] * 10
    shifted = [[value + shift for value in values] for shift in (-0.2, 0.0, 0.2)]
    over_problems = difference_interval(values)
    assert over_problems.low > 0 > paired.crossed_interval(shifted).low


def test_a_share_over_seeds_stays_within_0_and_1_and_widens_with_them() -> None:
    values = [0.0, 0.25, 0.0, 0.25, 0.5] * 10
    agreeing = paired.crossed_share([values] * 3, 600)
    assert agreeing == pytest.approx(share_interval(values, 600))
    swinging = [[min(1.0, value + shift) for value in values] for shift in (0.0, 0.1, 0.2)]
    wide = paired.crossed_share(swinging, 600)
    assert wide.low >= 0 and wide.half > 1.5 * paired.crossed_share(swinging[1:2], 200).half


def test_three_seeds_have_two_degrees_of_freedom_at_least() -> None:
    # Seeds that swing as far as this rule the error; subtracting the remainder must not take it below their freedom.
    generator = random.Random(2)
    values = [[shift + generator.gauss(0, 0.3) for _ in range(50)] for shift in (-0.2, 0.0, 0.3)]
    variance = paired.crossed_variance(values)
    assert 2 <= variance.freedom < 3
    half = paired.crossed_interval(values).half
    assert half <= student_t_quantile(2) * math.sqrt(variance.both) * (1 + 1e-9)


def test_t_between_whole_degrees_of_freedom_falls() -> None:
    points = [t_quantile_between(freedom) for freedom in (0.5, 1, 1.5, 2, 2.9, 3, 7.3, 8)]
    assert points == sorted(points, reverse=True)
    assert t_quantile_between(5) == student_t_quantile(5)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 4])
def test_coverage_with_seeds_as_a_level(seeds: int) -> None:
    """A true effect of .1, seeds that shift all problems, problems that shift all seeds, and noise."""
    generator, runs, hits, narrow_hits = random.Random(11), 1000, 0, 0
    for _ in range(runs):
        by_problem = [generator.gauss(0, 0.2) for _ in range(60)]
        by_seed = [generator.gauss(0, 0.05) for _ in range(seeds)]
        values = [[0.1 + s + p + generator.gauss(0, 0.2) for p in by_problem] for s in by_seed]
        found = paired.crossed_interval(values)
        hits += found.low <= 0.1 <= found.high
        pooled = difference_interval([sum(column) / seeds for column in zip(*values, strict=True)])
        narrow_hits += pooled.low <= 0.1 <= pooled.high
    assert 0.92 <= hits / runs <= 0.98
    assert narrow_hits / runs < 0.9  # what an interval over problems alone would claim


def with_seed(found: Evaluation, seed: int) -> Evaluation:
    run = {**found.fingerprint.run, "seed": str(seed)}
    return replace(found, fingerprint=Fingerprint(found.fingerprint.task, run))


def test_an_arm_of_several_seeds_against_its_base() -> None:
    base = evaluation("untrained", *["wwww", "rwww", "rrww"] * 4)
    arms = [
        with_seed(evaluation("lema", *["rrww", "rrww", "rrrw"] * 4), 0),
        with_seed(evaluation("lema", *["rrrw", "rrww", "rrrr"] * 4), 1),
    ]
    compared = paired.compare_seeds(arms, [base])
    assert compared.by_seed == pytest.approx((1 / 3, 0.5))
    assert compared.counts == (12, 0, 0) and compared.problems == 12
    assert "12 problems x 2 seeds" in compared.sentence
    assert paired.compare_seeds(arms, [base, base]) == compared
    assert compared.to_json()["p"] == 2 / 2**12
    single = paired.compare_seeds(arms[:1], [base])
    assert "1 seed: nothing is known of other seeds" in single.sentence
    with pytest.raises(ConfigError, match="two seeds of lema are one evaluation"):
        paired.compare_seeds(arms[:1] * 2, [base])
    with pytest.raises(ConfigError, match="2 evaluations of the arm and 3 of the base"):
        paired.compare_seeds(arms, [base] * 3)
    with pytest.raises(ConfigError, match="were not asked the same"):
        paired.compare_seeds(arms, [evaluation("odd", *["ww"] * 12)])
