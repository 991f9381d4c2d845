"""On which problems two evaluations differ, one by one: what a paired difference is made of."""

from __future__ import annotations

from typing import NamedTuple

from potstill.evaluation.rows import Evaluation, Row

SOLVED_SHARE = 0.5
SOLVED_RULE = "solved: at least half of the answers are right"


class Flip(NamedTuple):
    """One problem in both evaluations; `change` is the arm's share of right answers less the base's."""

    problem: str
    arm: Row
    base: Row

    @property
    def change(self) -> float:
        """In [-1, 1]."""
        return self.arm.right / self.arm.n - self.base.right / self.base.n

    @property
    def is_flip(self) -> bool:
        """Whether one of the two solves the problem and the other does not."""
        return is_solved(self.arm) != is_solved(self.base)


class SolvedCounts(NamedTuple):
    """How many problems both solve, one of the two, and neither."""

    both: int
    only_arm: int
    only_base: int
    neither: int


def is_solved(row: Row) -> bool:
    """Whether at least half of the answers are right."""
    return row.right / row.n >= SOLVED_SHARE


def pair_problems(arm: Evaluation, base: Evaluation) -> list[Flip]:
    """The problems that both have, in the base's order."""
    arm_rows = {row.problem: row for row in arm.rows}
    pairs: list[Flip] = []
    for row in base.rows:
        if row.problem in arm_rows:
            pairs.append(Flip(row.problem, arm_rows[row.problem], row))
    return pairs


def count_solved(pairs: list[Flip]) -> SolvedCounts:
    """The two-by-two table of problems."""
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for pair in pairs:
        counts[is_solved(pair.arm), is_solved(pair.base)] += 1
    return SolvedCounts(
        counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    )
