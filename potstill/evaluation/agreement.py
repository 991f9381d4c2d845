"""Do families of tasks lead to the same conclusions? The same comparisons in each, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.rows import Evaluation

Outcome = Literal["agree", "contradict each other", "open"]
Pair = tuple[str, str]
"""An arm, and the arm that it is compared with."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One comparison of two arms, by family.

    Args:
        comparisons: by the family's name.
    """

    comparisons: Mapping[str, Comparison]

    @property
    def outcome(self) -> Outcome:
        """Whether all families favour one arm, two favour different ones, or in one the interval includes 0."""
        signs: set[int] = set()
        for comparison in self.comparisons.values():
            low, high = comparison.difference.low, comparison.difference.high
            signs.add(int(low > 0) - int(high < 0))
        if {1, -1} <= signs:
            return "contradict each other"
        return "agree" if len(signs) == 1 and 0 not in signs else "open"

    @property
    def sentence(self) -> str:
        """The difference in each family, in points of 100 with its 95 % interval, and the outcome."""
        parts: list[str] = []
        for family, comparison in self.comparisons.items():
            value, low, high = (100 * end for end in comparison.difference)
            parts.append(f"{family} {value:+.1f} [{low:+.1f}, {high:+.1f}]")
        comparison = next(iter(self.comparisons.values()))
        return f"{comparison.arm} against {comparison.base}: {', '.join(parts)}: {self.outcome}"


def agreements(
    evaluations: Mapping[str, Mapping[str, Evaluation]], pairs: Sequence[Pair]
) -> list[Agreement]:
    """Each pair of arms that every family has, compared in every family.

    Args:
        evaluations: by family, then by arm.
        pairs: the arms to compare.
    """
    pair_agreements: list[Agreement] = []
    for arm, base in pairs:
        if all({arm, base} <= set(by_arm) for by_arm in evaluations.values()):
            comparisons = {
                family: compare(by_arm[arm], by_arm[base]) for family, by_arm in evaluations.items()
            }
            pair_agreements.append(Agreement(comparisons))
    return pair_agreements


def conclude(pair_agreements: Sequence[Agreement]) -> str:
    """On how many of the comparisons the families agree, contradict each other, or leave the question open."""
    counts: dict[Outcome, int] = {"agree": 0, "contradict each other": 0, "open": 0}
    for agreement in pair_agreements:
        counts[agreement.outcome] += 1
    return (
        f"Of {len(pair_agreements)} comparisons the families agree on {counts['agree']} and contradict each other on "
        f"{counts['contradict each other']}; {counts['open']} are open: in at least one family the interval includes 0."
    )
