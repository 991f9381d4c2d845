"""95 % intervals clustered by problem: the problem is the unit, its samples are not independent.

With `x_i` the mean of problem i's samples and m problems, `SE = sqrt(sum (x_i - mean)^2 / (m (m - 1)))`: the
cluster-robust standard error for clusters of equal size (Miller, "Adding Error Bars to Evals", arXiv:2411.00640).
Analytic, so there is no seed and the same rows always give the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from potstill.errors import InputError

LEVEL = 0.95
_Z = 1.959963984540054  # the normal distribution's 97.5 % point


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def check_numbers(values: Sequence[float | None], name: str = "value") -> None:
    """Refuse an empty list, None and what is not finite: NaN would pass through every figure, and stop a ranking.

    Raises:
        InputError: there is no value, or one that is no finite number.
    """
    if not values:
        raise InputError(f"no {name} at all", expected="at least one")
    for value in values:
        if value is None or not math.isfinite(value):
            raise InputError(
                f"a {name} of {value}",
                expected="finite numbers",
                fix="leave out the items of which nobody can tell",
            )


def share_interval(values: Sequence[float], samples: int) -> Estimate:
    """A share in [0, 1] with a Wilson interval on the effective number of samples.

    `n_eff = p (1 - p) / SE^2`, at most `samples`; where all problems agree SE says nothing and n_eff is the number of
    problems. Wilson (1927) with Student's t on m - 1 degrees of freedom in place of z; for clustered shares see Korn
    and Graubard (1998) and Franco et al. (2019), "Comparative study of confidence intervals for proportions in complex
    sample surveys".

    Args:
        values: one value in [0, 1] a problem.
        samples: how many there are behind all values together.
    """
    check_numbers(values)
    m = len(values)
    p = math.fsum(values) / m
    standard_error = clustered_standard_error(values)
    n_eff = float(m)
    if standard_error > 0:
        n_eff = min(p * (1 - p) / standard_error**2, samples)
    # Answers to one problem hang together: n_eff is how many independent ones they are worth.
    return wilson_interval(p, n_eff, m - 1)


def pooled_share_interval(outcomes: Sequence[Sequence[bool]]) -> Estimate:
    """The share of all outcomes, of clusters of unequal sizes, with an interval as `share_interval` gives it.

    `SE^2 = m / (m - 1) sum_i (r_i - p n_i)^2 / n^2` for cluster i with r_i of n_i (the ratio estimator: Cochran,
    "Sampling Techniques", 1977, section 6.3): a problem counts by how many outcomes it has.

    Args:
        outcomes: of each problem; problems without any count for nothing.
    """
    clusters = [cluster for cluster in outcomes if cluster]
    check_numbers([float(value) for cluster in clusters for value in cluster])
    m = len(clusters)
    samples = sum(len(cluster) for cluster in clusters)
    p = sum(sum(cluster) for cluster in clusters) / samples
    squares = math.fsum((sum(cluster) - p * len(cluster)) ** 2 for cluster in clusters)
    n_eff = float(m)
    # Rounding alone leaves squares of about 1e-30 where all clusters have one share.
    if m > 1 and squares > 1e-18:
        standard_error = math.sqrt(m / (m - 1) * squares) / samples
        n_eff = min(p * (1 - p) / standard_error**2, samples)
    return wilson_interval(p, n_eff, m - 1)


def wilson_interval(p: float, n_eff: float, freedom: float) -> Estimate:
    """Wilson's interval (1927) with t^2 / n_eff in the place of z^2 / n.

    Args:
        p: the share.
        n_eff: how many independent samples it is worth.
        freedom: degrees of freedom of Student's t.
    """
    t2 = t_quantile_between(freedom) ** 2 / n_eff
    centre = (p + t2 / 2) / (1 + t2)
    half = math.sqrt(t2 * p * (1 - p) + t2**2 / 4) / (1 + t2)
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def mean_interval(values: Sequence[float]) -> Estimate:
    """A mean of unbounded values, one a problem: mean ± t SE."""
    check_numbers(values)
    value = math.fsum(values) / len(values)
    half = student_t_quantile(len(values) - 1) * clustered_standard_error(values)
    return Estimate(value, value - half, value + half)


def pooled_mean_interval(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """The mean of unbounded values in clusters of unequal sizes: mean ± t SE, SE as of `pooled_share_interval`.

    Args:
        values: what is averaged, each with equal weight.
        clusters: what hangs together, such as the problem id of each value.
    """
    check_numbers(values)
    value = math.fsum(values) / len(values)
    # The deviations of a cluster add up: what hangs together counts once.
    deviations: dict[Hashable, float] = {}
    for one_value, cluster in zip(values, clusters, strict=True):
        deviations[cluster] = deviations.get(cluster, 0.0) + one_value - value
    m = len(deviations)
    half = 0.0
    if m > 1:
        squares = math.fsum(deviation**2 for deviation in deviations.values())
        standard_error = math.sqrt(m / (m - 1) * squares) / len(values)
        half = student_t_quantile(m - 1) * standard_error
    return Estimate(value, value - half, value + half)


def difference_interval(values: Sequence[float]) -> Estimate:
    """The mean of paired differences in [-1, 1], one a problem: mean ± t SE.

    Where all problems show the same difference, SE is 0 and says nothing; then at most the share `1 - 0.025^(1/m)` of
    problems may be otherwise (Clopper and Pearson, 1934, zero of m seen), each by the whole range. With 5 equal wins of
    size 1 the interval just includes zero, with 6 it does not, as in a sign test.
    """
    check_numbers(values)
    m = len(values)
    value = math.fsum(values) / m
    standard_error = clustered_standard_error(values)
    if standard_error > 0:
        half = student_t_quantile(m - 1) * standard_error
        return Estimate(value, max(-1.0, value - half), min(1.0, value + half))
    unseen_share = 1 - ((1 - LEVEL) / 2) ** (1 / m)
    return Estimate(value, value - unseen_share * (value + 1), value + unseen_share * (1 - value))


def clustered_standard_error(values: Sequence[float]) -> float:
    """`SE` of the module's docstring; 0 where there is one value or all are equal."""
    m = len(values)
    if m < 2 or min(values) == max(values):
        return 0.0
    mean = math.fsum(values) / m
    squares = math.fsum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (m * (m - 1)))


def t_quantile_between(freedom: float) -> float:
    """`student_t_quantile` of degrees of freedom that are no whole number: on a straight line between its neighbours.

    The quantile is convex in the degrees of freedom, so that the line lies above it: the interval is a little wide.
    """
    whole = max(1, math.floor(freedom))
    beyond = max(0.0, freedom - whole)
    low, high = student_t_quantile(whole + 1), student_t_quantile(whole)
    return high + beyond * (low - high)


def student_t_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t; exact for 1 and 2 degrees of freedom, else Abramowitz and Stegun 26.7.5.

    Below one degree of freedom it is that of one: with a single problem there is no spread to measure.
    """
    if freedom <= 1:
        return math.tan(math.pi * LEVEL / 2)
    if freedom == 2:
        return LEVEL * math.sqrt(2 / (1 - LEVEL**2))
    # A series in 1 / f around the normal distribution's point z.
    z, f = _Z, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / f**power for power, term in enumerate(terms, start=1))
