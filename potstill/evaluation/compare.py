"""Paired comparison of two evaluations, problem by problem, and what may be said about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from potstill.errors import ConfigError
from potstill.evaluation.intervals import Estimate, difference_interval
from potstill.evaluation.metrics import average
from potstill.evaluation.rows import Evaluation


class PairedCounts(NamedTuple):
    """On how many problems the arm did better than the base, worse, and equally well (by right answers of n)."""

    better: int
    worse: int
    equal: int

    @property
    def p_value(self) -> float:
        """Two-sided exact sign test; with one answer a problem this is McNemar's exact test.

        Where the two are equally good, a problem on which they differ falls to either with chance 1/2, so that the
        smaller count is binomial: `p = min(1, 2 sum_{i <= min} C(better + worse, i) / 2^(better + worse))`. Problems
        on which they do not differ say nothing (McNemar, 1947; Dixon and Mood, 1946).
        """
        differing = self.better + self.worse
        # Each binomial coefficient from the one before it: thousands of problems make large numbers.
        coefficient = tail = 1
        for i in range(min(self.better, self.worse)):
            coefficient = coefficient * (differing - i) // (i + 1)
            tail += coefficient
        return min(1.0, 2 * tail / (1 << differing))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm minus base in avg@n, paired by problem.

    Args:
        difference: in [-1, 1], with its 95 % interval.
        differs: task components that were not equal; only a forced comparison has any.
        counts: problems by which of the two did better; None where an older version wrote the comparison.
        n: answers a problem of the two; 0 where they differ or an older version wrote the comparison.
    """

    arm: str
    base: str
    difference: Estimate
    problems: int
    differs: tuple[str, ...] = ()
    counts: PairedCounts | None = None
    n: int = 0

    def __str__(self) -> str:
        return self.sentence

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes zero."""
        return self.difference.low > 0 or self.difference.high < 0

    @property
    def sentence(self) -> str:
        """What may be said, in points of 100, whichever arm is ahead."""
        caveat = ""
        if self.differs:
            caveat = f"; compared by force, unequal: {', '.join(self.differs)}"
        value, low, high = (100 * end for end in self.difference)
        if not self.distinguishable:
            detail = f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, {self.problems} problems"
            return f"{self.arm} is not distinguishable from {self.base} ({detail}{caveat})"
        # The sentence names the better arm first, so that its figures are positive.
        winner, loser = self.arm, self.base
        if value < 0:
            winner, loser = loser, winner
            value, low, high = -value, -high, -low
        detail = f"95 % interval {low:.1f} to {high:.1f}, {self.problems} problems"
        return f"{winner} beats {loser} by {value:.1f} points ({detail}{caveat})"

    @property
    def test(self) -> str:
        """The name of the exact test: with one answer a problem, the sign test is McNemar's."""
        return "exact McNemar test" if self.n == 1 else "exact sign test"

    @property
    def counts_sentence(self) -> str:
        """On how many problems each is better, with the exact test; "" where the counts are not known."""
        if self.counts is None:
            return ""
        return (
            f"{self.arm} is better on {self.counts.better:,} problems, {self.base} on "
            f"{self.counts.worse:,}, equal on {self.counts.equal:,} "
            f"({self.test}: {format_p_value(self.counts.p_value)})"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object, the sentence included for a reader."""
        value, low, high = self.difference
        paired: dict[str, Any] = {}
        if self.counts is not None:
            paired = {
                "paired": {**self.counts._asdict(), "n": self.n},
                "test": self.test,
                "p": self.counts.p_value,
            }
        return {
            "arm": self.arm,
            "base": self.base,
            "difference": value,
            "low": low,
            "high": high,
            "problems": self.problems,
            "distinguishable": self.distinguishable,
            "sentence": self.sentence,
            "differs": list(self.differs),
            **paired,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_json` wrote."""
        estimate = Estimate(data["difference"], data["low"], data["high"])
        counts, n = None, 0
        if "paired" in data:
            paired = dict(data["paired"])
            n = paired.pop("n")
            counts = PairedCounts(**paired)
        return cls(
            data["arm"],
            data["base"],
            estimate,
            data["problems"],
            tuple(data.get("differs", ())),
            counts,
            n,
        )


def compare(arm: Evaluation, base: Evaluation, *, force: bool = False) -> Comparison:
    """`mean_i (arm_i - base_i)` over shared problems, with an interval clustered by problem.

    Refuses evaluations whose tasks differ (problems, prompts, sampling, n, verifiers); models and seeds may.

    Args:
        force: compare all the same, on the problems that both have; the sentence then says what differs.
    """
    differs = arm.fingerprint.differs(base.fingerprint)
    if differs and not force:
        base_task = [f"{name} = {base.fingerprint.task.get(name, 'absent')}" for name in differs]
        raise ConfigError(
            f"{arm.name} and {base.name} were not asked the same (unequal: {', '.join(differs)})",
            expected="; ".join(base_task),
            fix=f"evaluate {arm.name} as {base.name} was, or ask for it all the same: --force",
        )
    # By problem, not by place: the two may hold their rows in another order.
    base_shares = {row.problem: row.right / row.n for row in base.rows}
    differences: list[float] = []
    for row in arm.rows:
        if row.problem in base_shares:
            differences.append(row.right / row.n - base_shares[row.problem])
    if not differences:
        raise ConfigError(
            f"{arm.name} and {base.name} share no problem",
            expected="at least one problem id in both",
        )
    return Comparison(
        arm.name,
        base.name,
        difference_interval(differences),
        len(differences),
        differs,
        counts=count_signs(differences),
        n=arm.n if arm.n == base.n else 0,
    )


def count_signs(differences: Sequence[float]) -> PairedCounts:
    """How many differences are above, below and equal to 0."""
    better = sum(difference > 0 for difference in differences)
    worse = sum(difference < 0 for difference in differences)
    return PairedCounts(better, worse, len(differences) - better - worse)


def format_p_value(p: float) -> str:
    """A p-value as people read it: `p = 0.23`, `p = 0.0041`, `p < 0.0001`."""
    if p < 0.0001:
        return "p < 0.0001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.2g}"


def standings(evaluations: Iterable[Evaluation]) -> list[str]:
    """The arm with the highest avg@n, whichever it is, then what distinguishes it from every other arm.

    Evaluations that were not asked the same as the best are named and left out.
    """
    # Ties by name, so that the order of the arms decides nothing.
    ranked = sorted(evaluations, key=lambda e: (-average(e).value, e.name))
    if not ranked:
        return []
    best, *others = ranked
    sentences = [f"Highest avg@{best.n}: {best.name}, {100 * average(best).value:.1f} %."]
    for other in others:
        differs = best.fingerprint.differs(other.fingerprint)
        if differs:
            unequal = ", ".join(differs)
            sentence = (
                f"{other.name} was asked something else (unequal: {unequal}) and is not compared"
            )
        else:
            sentence = compare(best, other).sentence
        sentences.append(f"{sentence}.")
    return sentences
