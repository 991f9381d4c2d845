"""Paired tests of two arms, problem by problem, and intervals in which the training seeds are a level of their own.

`compare` is for two evaluations of one seed. A method's effect is that of an arm trained with several seeds: problems
and seeds both vary, and an interval over problems alone says how well *these students* were told apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from potstill.errors import ConfigError, InputError
from potstill.evaluation.compare import PairedCounts, compare, count_signs
from potstill.evaluation.intervals import (
    LEVEL,
    Estimate,
    check_numbers,
    difference_interval,
    share_interval,
    t_quantile_between,
    wilson_interval,
)
from potstill.evaluation.rows import Evaluation

BOOTSTRAP_DRAWS = 2000


class Bootstrap(NamedTuple):
    """A mean difference with its percentile interval.

    Args:
        difference: the mean, with the 2.5 % and 97.5 % points of its resampled values.
        p_value: two-sided: twice the smaller share of resampled means at or beyond 0, one resample added to each side.
        draws: how many resamples there are.
        seed: of the resamples.
    """

    difference: Estimate
    p_value: float
    draws: int
    seed: int


class CrossedVariance(NamedTuple):
    """Squared standard errors of a mean over problems and seeds: of each alone, and of both together.

    Args:
        problems: were other problems drawn.
        seeds: were it trained with other seeds; 0 for one seed, of which nothing can be said.
        both: of the mean.
        freedom: degrees of freedom of `both`.
    """

    problems: float
    seeds: float
    both: float
    freedom: float


@dataclass(frozen=True, slots=True)
class SeedComparison:
    """An arm with several training seeds against a base, paired by problem and seed.

    Args:
        difference: arm minus base in avg@n, with an interval over problems and seeds.
        by_seed: the difference of each seed, without interval.
        variance: what the interval is made of.
        counts: problems on which the arm is better, worse and equal, its seeds pooled.
        problems: how many there are.
    """

    arm: str
    base: str
    difference: Estimate
    by_seed: tuple[float, ...]
    variance: CrossedVariance
    counts: PairedCounts
    problems: int

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes zero."""
        return self.difference.low > 0 or self.difference.high < 0

    @property
    def sentence(self) -> str:
        """What may be said, in points of 100."""
        value, low, high = (100 * end for end in self.difference)
        seeds = len(self.by_seed)
        level = f"{self.problems} problems x {seeds} seeds"
        if seeds == 1:
            level = f"{self.problems} problems, 1 seed: nothing is known of other seeds"
        verb = "differs from" if self.distinguishable else "is not distinguishable from"
        return f"{self.arm} {verb} {self.base} ({value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, {level})"

    def to_json(self) -> dict[str, Any]:
        """A JSON object, the sentence included for a reader."""
        return {
            "arm": self.arm,
            "base": self.base,
            **self.difference._asdict(),
            "by_seed": list(self.by_seed),
            "variance": self.variance._asdict(),
            "paired": self.counts._asdict(),
            "p": self.counts.p_value,
            "problems": self.problems,
            "distinguishable": self.distinguishable,
            "sentence": self.sentence,
        }


def mcnemar(arm: Sequence[bool], base: Sequence[bool]) -> PairedCounts:
    """McNemar's exact test of two arms with one answer a problem: `.p_value`, and the counts it comes from.

    Only problems on which the arms differ count: under no difference each falls to either arm with chance 1/2
    (McNemar, 1947). With several answers a problem, `compare` gives the sign test and an interval.

    Args:
        arm: whether each problem was solved.
        base: the same problems in the same order.
    """
    _check_pairs(arm, base)
    return count_signs([float(a) - float(b) for a, b in zip(arm, base, strict=True)])


def paired_bootstrap(
    arm: Sequence[float], base: Sequence[float], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Bootstrap:
    """The mean difference of paired values, problems resampled with replacement (Efron, 1979; percentile interval).

    For values in [0, 1] `difference_interval` gives nearly the same without a seed; this one is for anything else that
    is paired by problem, such as tokens or perplexities.

    Args:
        arm: one value a problem.
        base: the same problems in the same order.
        draws: resamples.
        seed: of the resamples.
    """
    _check_pairs(arm, base)
    if len(arm) < 2:
        raise InputError("one problem, of which every resample is the same", expected="two or more")
    # The pair is the unit that is drawn: whatever makes a problem hard stays in both of its values.
    differences = [a - b for a, b in zip(arm, base, strict=True)]
    count = len(differences)
    generator = random.Random(seed)
    means: list[float] = []
    for _ in range(draws):
        means.append(math.fsum(generator.choices(differences, k=count)) / count)
    # Percentiles of the sorted means, towards the wider side.
    means.sort()
    tail = (1 - LEVEL) / 2
    low = means[math.floor(tail * (draws - 1))]
    high = means[math.ceil((1 - tail) * (draws - 1))]
    # One more resample on each side, so that no finite number of them makes p zero (Davison and Hinkley, 1997).
    not_above = sum(mean <= 0 for mean in means)
    not_below = sum(mean >= 0 for mean in means)
    p_value = min(1.0, 2 * (min(not_above, not_below) + 1) / (draws + 1))
    return Bootstrap(Estimate(math.fsum(differences) / count, low, high), p_value, draws, seed)


def crossed_variance(values: Sequence[Sequence[float]]) -> CrossedVariance:
    """How far a mean over seeds and problems moves with other seeds, other problems, and both.

    For `x_sp` of S seeds and m problems, with mean squares of problems, seeds and the remainder (two-way analysis of
    variance, random effects, one value a cell): `Var = (MS_problems + MS_seeds - MS_remainder) / (m S)`, but never less
    than either of its two parts; degrees of freedom by Satterthwaite (1946). Searle, Casella and McCulloch, "Variance
    Components", 1992, chapter 4.

    Args:
        values: for each seed one value a problem, in one order of problems.
    """
    _check_crossed(values)
    seeds, problems = len(values), len(values[0])
    mean = math.fsum(math.fsum(row) for row in values) / (seeds * problems)
    seed_means = [math.fsum(row) / problems for row in values]
    problem_means = [math.fsum(column) / seeds for column in zip(*values, strict=True)]

    # Squared standard errors; the remainder is what neither a seed's nor a problem's mean explains.
    of_problems = _squared_error_of_mean(problem_means, mean)
    of_seeds = _squared_error_of_mean(seed_means, mean)
    remainder = 0.0
    freedom_of_remainder = (seeds - 1) * (problems - 1)
    if freedom_of_remainder:
        squares: list[float] = []
        for row, seed_mean in zip(values, seed_means, strict=True):
            for value, problem_mean in zip(row, problem_means, strict=True):
                squares.append((value - seed_mean - problem_mean + mean) ** 2)
        remainder = math.fsum(squares) / freedom_of_remainder / (seeds * problems)
    both = max(of_problems + of_seeds - remainder, of_problems, of_seeds)

    # Satterthwaite: each part counts by its share, so that few seeds that differ much leave few degrees of freedom.
    parts = [(of_problems, problems - 1), (of_seeds, seeds - 1), (remainder, freedom_of_remainder)]
    spread = math.fsum(part**2 / freedom for part, freedom in parts if freedom)
    freedom = both**2 / spread if spread > 0 else float(max(1, problems - 1))
    # A sum of two parts has at least as many degrees of freedom as the one that has fewer; subtracting the remainder
    # would take it below that, where t explodes.
    least = min(seeds - 1, problems - 1) or max(seeds - 1, problems - 1)
    freedom = min(max(freedom, float(least)), float(seeds * problems - 1))
    return CrossedVariance(of_problems, of_seeds, both, freedom)


def crossed_interval(values: Sequence[Sequence[float]]) -> Estimate:
    """The mean of differences in [-1, 1] over problems and seeds, with a 95 % interval in which both are levels.

    With one seed it is `difference_interval`'s: nothing can be said of other seeds.

    Args:
        values: for each seed one value a problem, in one order of problems.
    """
    _check_crossed(values)
    if len(values) == 1:
        return difference_interval(values[0])
    # All differences equal: the spread says nothing, and the interval is that of a sign test.
    variance = crossed_variance(values)
    pooled = [math.fsum(column) / len(values) for column in zip(*values, strict=True)]
    if variance.both == 0:
        return difference_interval(pooled)
    value = math.fsum(pooled) / len(pooled)
    half = t_quantile_between(variance.freedom) * math.sqrt(variance.both)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def crossed_share(values: Sequence[Sequence[float]], samples: int) -> Estimate:
    """A share in [0, 1] over problems and seeds, with `share_interval`'s Wilson interval and both in its error.

    Args:
        values: for each seed one value in [0, 1] a problem, in one order of problems.
        samples: how many samples there are behind all values together.
    """
    _check_crossed(values)
    pooled = [math.fsum(column) / len(values) for column in zip(*values, strict=True)]
    variance = crossed_variance(values)
    if len(values) == 1 or variance.both == 0:
        return share_interval(pooled, samples)
    share = math.fsum(pooled) / len(pooled)
    # As many independent samples as would give this error.
    n_eff = min(share * (1 - share) / variance.both, samples)
    return wilson_interval(share, n_eff, variance.freedom)


def compare_seeds(
    arms: Sequence[Evaluation],
    bases: Sequence[Evaluation],
    *,
    arm_name: str = "",
    base_name: str = "",
    force: bool = False,
) -> SeedComparison:
    """Arm minus base in avg@n, paired by problem and by training seed.

    Args:
        arms: the arm's evaluations, one a seed.
        bases: the base's, in the same order of seeds; a single one, such as of the untrained student, is paired with
            every seed.
        arm_name: what to call the arm; the name of its first evaluation where it is "".
        base_name: what to call the base.
        force: compare also what was not asked the same.

    Raises:
        ConfigError: the evaluations were not asked the same, or there are other seeds of the base than of the arm.
    """
    if not arms or len(bases) not in (1, len(arms)):
        raise ConfigError(
            f"{len(arms)} evaluations of the arm and {len(bases)} of the base",
            expected="one a seed of each, or one of the base",
            fix="give the evaluations of the same seeds in the same order",
        )
    # An untrained base that was measured the same way beside every seed is one base.
    if len({base.fingerprint.id for base in bases}) == 1:
        bases = bases[:1]
    # The same students asked with the same seed would count as independent, and narrow the interval.
    for evaluations in (arms, bases):
        if len({evaluation.fingerprint.id for evaluation in evaluations}) < len(evaluations):
            raise ConfigError(
                f"two seeds of {evaluations[0].name} are one evaluation: the same models asked with the same seed",
                expected="evaluations of students that were trained with different seeds",
                fix="run the recipe with another seed for each",
            )
    paired_bases = list(bases) * len(arms) if len(bases) == 1 else list(bases)
    # Of each seed the difference of every problem, by id and not by place.
    by_seed: list[dict[str, float]] = []
    for arm, base in zip(arms, paired_bases, strict=True):
        # Refuses what was not asked the same.
        compare(arm, base, force=force)
        base_shares = {row.problem: row.right / row.n for row in base.rows}
        differences: dict[str, float] = {}
        for row in arm.rows:
            if row.problem in base_shares:
                differences[row.problem] = row.right / row.n - base_shares[row.problem]
        by_seed.append(differences)
    # Every cell of problems x seeds has a value; a forced comparison may lack some.
    shared = set(by_seed[0]).intersection(*by_seed)
    problems = [problem for problem in by_seed[0] if problem in shared]
    if not problems:
        raise ConfigError("the seeds share no problem", expected="the same problems for each seed")
    values: list[list[float]] = []
    for differences in by_seed:
        values.append([differences[problem] for problem in problems])
    pooled = [math.fsum(column) / len(values) for column in zip(*values, strict=True)]
    return SeedComparison(
        arm_name or arms[0].name,
        base_name or bases[0].name,
        crossed_interval(values),
        tuple(math.fsum(row) / len(row) for row in values),
        crossed_variance(values),
        count_signs(pooled),
        len(problems),
    )


def _squared_error_of_mean(means: Sequence[float], mean: float) -> float:
    if len(means) < 2:
        return 0.0
    squares = math.fsum((value - mean) ** 2 for value in means)
    return squares / (len(means) * (len(means) - 1))


def _check_crossed(values: Sequence[Sequence[float]]) -> None:
    if not values:
        raise InputError("no seed at all", expected="for each seed one value a problem")
    if any(len(row) != len(values[0]) for row in values):
        raise InputError("seeds with different numbers of problems", expected="one value a problem")
    for row in values:
        check_numbers(row)


def _check_pairs(arm: Sequence[float], base: Sequence[float]) -> None:
    if len(arm) != len(base) or not arm:
        raise InputError(
            f"{len(arm)} values of the arm and {len(base)} of the base",
            expected="one of each a problem, in the same order",
        )
    check_numbers(arm)
    check_numbers(base)
