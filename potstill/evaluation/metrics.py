"""Scores over rows: avg@n, pass@k, maj@k, nested solve@(M,T), steps, lengths. Standard library only.

A failed, unparsed or unjudged answer is never right and stays in the denominator; its share stands beside the score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from potstill.errors import ConfigError
from potstill.evaluation.intervals import Estimate, mean_interval, share_interval
from potstill.evaluation.rows import Answer, Evaluation, Row
from potstill.traces.usage import Usage

_Measure = TypeVar("_Measure")


def average(evaluation: Evaluation) -> Estimate:
    """avg@n: the mean over problems of right answers / n."""
    return _share_over_rows(evaluation, "avg", lambda row: row.right / row.n)


def pass_at(evaluation: Evaluation, k: int) -> Estimate:
    """pass@k: the chance that one of k answers is right, estimated without bias from n >= k answers."""
    return _share_over_rows(evaluation, f"pass@{k}", lambda row: pass_at_k(row.n, row.right, k))


def majority_at(evaluation: Evaluation, k: int | None = None) -> Estimate:
    """maj@k: how often the most frequent of the first k answers (default: all) is right."""
    name = f"maj@{evaluation.n if k is None else k}"
    return _share_over_rows(evaluation, name, lambda row: float(majority_share(row, k)))


def solve_at(evaluation: Evaluation, plans: int, programs: int) -> Estimate:
    """solve@(M,T): the chance that one of M plans with T programs each solves the problem."""
    return _share_over_rows(
        evaluation,
        f"solve@({plans},{programs})",
        lambda row: solve_at_plans(count_by_plan(row), plans, programs),
    )


def step_accuracy(evaluation: Evaluation) -> Estimate | None:
    """The share of answers that are right, and right in every step; None where no step can be judged.

    Only problems whose steps can be judged count.
    """
    return _measure_once(evaluation, "steps", _step_accuracy)


def _step_accuracy(evaluation: Evaluation) -> Estimate | None:
    shares: list[float] = []
    samples = 0
    for row in evaluation.rows:
        if row.steps_right is not None:
            shares.append(row.steps_right / row.n)
            samples += row.n
    return share_interval(shares, samples) if shares else None


def mean_tokens(evaluation: Evaluation) -> Estimate:
    """Mean completion tokens that an answer took, over answers that did not fail; all calls of the solver count."""
    return _measure_once(evaluation, "tokens", _mean_tokens)


def _mean_tokens(evaluation: Evaluation) -> Estimate:
    means: list[float] = []
    for row in evaluation.rows:
        finished = row.n - row.count("error")
        if finished:
            means.append(row.tokens / finished)
    return mean_interval(means) if means else Estimate(0.0, 0.0, 0.0)


def usage_per_answer(evaluation: Evaluation) -> dict[str, Usage]:
    """By role, what an answer that did not fail took in the mean: calls, tokens, and money in USD."""
    totals: dict[str, list[float]] = {}
    finished = 0
    for row in evaluation.rows:
        finished += row.n - row.count("error")
        for role, used in row.usage.items():
            role_totals = totals.get(role, [0.0] * len(used))
            totals[role] = [total + value for total, value in zip(role_totals, used, strict=True)]
    usage: dict[str, Usage] = {}
    for role, role_totals in totals.items():
        usage[role] = Usage(*(total / max(1, finished) for total in role_totals))
    return usage


def status_share(evaluation: Evaluation, status: str) -> float:
    """The share of all answers with a status, e.g. "unparsed" or "error"."""

    def share(evaluation: Evaluation) -> float:
        return evaluation.count(status) / sum(row.n for row in evaluation.rows)

    return _measure_once(evaluation, f"status {status}", share)


def cut_share(evaluation: Evaluation) -> float:
    """The share of all answers that the length limit ended."""
    return _measure_once(evaluation, "cut", _cut_share)


def _cut_share(evaluation: Evaluation) -> float:
    cut = total = 0
    for row in evaluation.rows:
        cut += sum(answer.cut for answer in row.answers)
        total += row.n
    return cut / total


def check_ks(ks: Sequence[int], n: int) -> None:
    """Refuse a k of pass@k and maj@k that n answers a problem can't estimate."""
    too_large = [k for k in ks if not 1 <= k <= n]
    if too_large:
        raise ConfigError(
            f"pass@{too_large[0]} and maj@{too_large[0]} can't be estimated from {n} answers a problem",
            expected=f"k from 1 to {n}",
            fix=f"--n {max(ks)}, or leave {too_large[0]} out of --k",
        )


def measures(
    evaluation: Evaluation, ks: Sequence[int] = ()
) -> dict[str, Estimate | float | int | None]:
    """Every score of an evaluation under its plain name, for JSON; pass and maj are at n.

    Args:
        evaluation: of one arm.
        ks: further k, under the names pass@k and maj@k.
    """
    at_k: dict[str, Estimate] = {}
    for k in ks:
        at_k[f"pass@{k}"] = pass_at(evaluation, k)
        at_k[f"maj@{k}"] = majority_at(evaluation, k)
    return {
        "problems": len(evaluation.rows),
        "n": evaluation.n,
        "avg": average(evaluation),
        "pass": pass_at(evaluation, evaluation.n),
        "maj": majority_at(evaluation),
        **at_k,
        "steps": step_accuracy(evaluation),
        "tokens": mean_tokens(evaluation),
        "unparsed": status_share(evaluation, "unparsed"),
        "unjudged": status_share(evaluation, "unjudged"),
        "errors": status_share(evaluation, "error"),
        "cut": cut_share(evaluation),
    }


@lru_cache(maxsize=4096)
def pass_at_k(n: int, right: int, k: int) -> float:
    """`1 - C(n - c, k) / C(n, k)`: Chen et al., arXiv:2107.03374, equation 1.

    Args:
        n: answers to a problem.
        right: right ones among them, c in the equation.
        k: answers one is allowed.
    """
    return float(1 - _chance_all_fail(n, right, k))


def _chance_all_fail(n: int, right: int, k: int) -> Fraction:
    if not 1 <= k <= n:
        raise ConfigError(
            f"pass@{k} can't be estimated from {n} answers",
            expected=f"1 <= k <= {n}",
            fix=f"--n {k}",
        )
    return Fraction(math.comb(n - right, k), math.comb(n, k))


def majority_share(row: Row, k: int | None = None) -> Fraction:
    """1 if the most frequent of the first k answers is right, else 0; a tie counts as its share of right answers.

    So ties need no coin: the value is what a fair one would give on average. Answers that the verifier calls equal are
    one ballot, and right answers always are; what has no answer (unparsed, failed) doesn't vote; no votes at all is 0.
    """
    if k is not None and not 1 <= k <= row.n:
        raise ConfigError(
            f"maj@{k} can't be computed from {row.n} answers",
            expected=f"1 <= k <= {row.n}",
            fix=f"--n {k}",
        )
    return _share_of_winners(tuple(ballot_of(answer) for answer in row.answers[:k]))


@lru_cache(maxsize=65536)
def _share_of_winners(ballots: tuple[Hashable | None, ...]) -> Fraction:
    votes = Counter(ballot for ballot in ballots if ballot is not None)
    if not votes:
        return Fraction(0)
    most_votes = max(votes.values())
    winners = [ballot for ballot, count in votes.items() if count == most_votes]
    return Fraction(int("right" in winners), len(winners))


def count_votes(answers: Sequence[Answer]) -> Counter[Hashable]:
    """How many of some answers to one problem vote for what; see `ballot_of`."""
    votes: Counter[Hashable] = Counter()
    for answer in answers:
        ballot = ballot_of(answer)
        if ballot is not None:
            votes[ballot] += 1
    return votes


def ballot_of(answer: Answer) -> Hashable | None:
    """What an answer votes for: right answers are one ballot; None for one that is unparsed, unjudged or failed."""
    if answer.answer is None or answer.status not in ("right", "wrong"):
        return None
    if answer.status == "right":
        return "right"
    # Wrong ones go by their class, in older results by their text.
    return "wrong", answer.answer if answer.ballot is None else answer.ballot


def count_by_plan(row: Row) -> list[tuple[int, int]]:
    """(answers, right answers) of each plan: the answers to a problem that share a parent."""
    sizes: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for answer in row.answers:
        sizes[answer.group] += 1
        right[answer.group] += answer.status == "right"
    return [(size, right[group]) for group, size in sizes.items()]


def solve_at_plans(plans: Sequence[tuple[int, int]], m: int, t: int) -> float:
    """The chance that m plans drawn without repetition, with t programs of each, hold a right one.

    `1 - e_m(f) / C(G, m)` with `f_g = C(n_g - c_g, t) / C(n_g, t)` the chance that plan g fails and e_m the elementary
    symmetric polynomial; unbiased as pass@k is, and equal to it for one plan. Setting: arXiv:2404.08148 (solve@k).

    Args:
        plans: (programs, right programs) of each of the G plans.
        m: plans one is allowed.
        t: programs of each.
    """
    if not 1 <= m <= len(plans):
        raise ConfigError(
            f"solve@({m},{t}) can't be estimated from {len(plans)} plans",
            expected=f"M <= {len(plans)}",
        )
    return solve_for_plans(plans, t)[m - 1]


def solve_for_plans(plans: Sequence[tuple[int, int]], t: int) -> list[float]:
    """`solve_at_plans` for every number of plans from 1 to all of them: one pass gives them all.

    Args:
        plans: (programs, right programs) of each plan.
        t: programs of each plan that one is allowed.
    """
    # symmetric[i] is e_i of the plans so far; sizes go down so that each plan is used once.
    symmetric = [Fraction(1)] + [Fraction(0)] * len(plans)
    for n, right in plans:
        fails = _chance_all_fail(n, right, t)
        for size in range(len(plans), 0, -1):
            symmetric[size] += symmetric[size - 1] * fails
    # e_m sums the chance of failing over all choices of m plans.
    solved: list[float] = []
    for m in range(1, len(plans) + 1):
        solved.append(float(1 - symmetric[m] / math.comb(len(plans), m)))
    return solved


def _share_over_rows(evaluation: Evaluation, name: str, value: Callable[[Row], float]) -> Estimate:
    def share(evaluation: Evaluation) -> Estimate:
        values = [value(row) for row in evaluation.rows]
        return share_interval(values, sum(row.n for row in evaluation.rows))

    return _measure_once(evaluation, name, share)


def _measure_once(
    evaluation: Evaluation, name: str, measure: Callable[[Evaluation], _Measure]
) -> _Measure:
    """A measure by its name, computed at the first call: table, report and viewer ask for the same ones."""
    if name not in evaluation.measured:
        evaluation.measured[name] = measure(evaluation)
    measured: _Measure = evaluation.measured[name]
    return measured
