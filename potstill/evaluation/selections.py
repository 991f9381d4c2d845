"""How much what two scores select is the same, and how much of a probe's score is the noise of asking twice."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

from potstill.errors import InputError
from potstill.evaluation.intervals import Estimate, difference_interval, pooled_share_interval
from potstill.records import Problem
from potstill.traces.answers import compare_answers


class Overlap(NamedTuple):
    """Two selected sets beside each other.

    Args:
        first: name of a set.
        second: name of another.
        jaccard: members of both over members of either.
        shared: members of both.
        by_chance: members of both that two random sets of these sizes would have; None where the pool isn't known.
    """

    first: str
    second: str
    jaccard: float
    shared: int
    by_chance: float | None


class Change(NamedTuple):
    """How often a second answer to the same is another one.

    Args:
        share: of the compared pairs, with its interval.
        changed: pairs of different answers.
        compared: pairs of which both could be read.
        unread: pairs of which one or both couldn't; they are in none of the other figures.
    """

    share: Estimate
    changed: int
    compared: int
    unread: int


def jaccard(first: Collection[Hashable], second: Collection[Hashable]) -> float:
    """`|A and B| / |A or B|`; two empty sets are equal: 1 (Jaccard, 1901)."""
    union = set(first) | set(second)
    if not union:
        return 1.0
    return len(set(first) & set(second)) / len(union)


def overlaps(selections: Mapping[str, Collection[Hashable]], pool: int = 0) -> list[Overlap]:
    """Every two of some selected sets, in the order of the mapping.

    Random sets of a and b out of N share `a b / N` (the mean of the hypergeometric distribution): two scores that have
    nothing to do with each other do too.

    Args:
        selections: name of a score -> the ids that it selects.
        pool: how many there were to select from; 0 where nobody knows.
    """
    sets = {name: set(ids) for name, ids in selections.items()}
    # Together too: ids that are in no common pool share less than chance, and nothing would say why.
    selected = len(set().union(*sets.values()))
    if pool and pool < selected:
        raise InputError(
            f"{selected} selected out of {pool}", expected="at most as many as there are"
        )
    # Each pair once, in the order in which the scores were given.
    names = list(sets)
    pairs: list[Overlap] = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            by_chance = len(sets[first]) * len(sets[second]) / pool if pool else None
            shared = len(sets[first] & sets[second])
            value = jaccard(sets[first], sets[second])
            pairs.append(Overlap(first, second, value, shared, by_chance))
    return pairs


def noise_floor(
    problems: Sequence[Problem], first: Sequence[str | None], second: Sequence[str | None]
) -> Change:
    """How often two samples from the *same* prefix give different answers: what any probe that samples measures too.

    `U_change` of a probe is only above this if a step matters. Answers are compared as the verifier of the problem's
    kind compares; what could not be read is counted apart. The interval is clustered by problem.

    Args:
        problems: of each pair.
        first: the answer of one sample, as `read_answers` gives it; None where there is none.
        second: the answer of another sample from the same prefix.
    """
    if not len(problems) == len(first) == len(second):
        raise InputError(
            f"{len(problems)} problems, {len(first)} and {len(second)} answers",
            expected="equally many",
        )
    # An answer that nobody can read is no other answer: it is counted, and compared with nothing.
    pairs: list[tuple[Problem, str, str]] = []
    for problem, answer, other in zip(problems, first, second, strict=True):
        if answer is not None and other is not None:
            pairs.append((problem, answer, other))
    if not pairs:
        raise InputError("no pair of which both answers can be read", expected="at least one")
    # By problem, because the pairs of one hang together.
    changes_by_problem: dict[str, list[bool]] = {}
    for (problem, _, _), is_equal in zip(pairs, compare_answers(pairs), strict=True):
        changes_by_problem.setdefault(problem.id, []).append(not is_equal)
    changed = sum(sum(changes) for changes in changes_by_problem.values())
    share = pooled_share_interval(list(changes_by_problem.values()))
    return Change(share, changed, len(pairs), len(problems) - len(pairs))


def above_noise(changes: Sequence[float], floors: Sequence[float]) -> Estimate:
    """The mean of `U_change` minus the noise floor of the same problem, with a paired 95 % interval.

    Args:
        changes: share of steps without which the answer changed, one a problem.
        floors: share of answers that changed though nothing else did, the same problems in the same order.
    """
    differences = [change - floor for change, floor in zip(changes, floors, strict=True)]
    return difference_interval(differences)
