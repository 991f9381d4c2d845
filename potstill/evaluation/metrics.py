"""Scores over rows: avg@n, pass@k, maj@k, nested solve@(M,T), steps, lengths. Standard library only.

A failed, unparsed or unjudged draw is never right and stays in the denominator; its share is reported beside the score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

from potstill.errors import ConfigError
from potstill.evaluation.intervals import Estimate, mean, share
from potstill.evaluation.rows import Evaluation, Row


def average(evaluation: Evaluation) -> Estimate:
    """avg@n: the mean over problems of right draws / n."""
    return _share(evaluation, lambda row: row.right / row.n)


def pass_at(evaluation: Evaluation, k: int) -> Estimate:
    """pass@k: the chance that one of k draws is right, estimated without bias from n >= k draws."""
    return _share(evaluation, lambda row: pass_at_k(row.n, row.right, k))


def majority_at(evaluation: Evaluation, k: int | None = None) -> Estimate:
    """maj@k: how often the most frequent answer of the first k draws (default: all) is right."""
    return _share(evaluation, lambda row: float(majority(row, k)))


def solve_at(evaluation: Evaluation, plans: int, programs: int) -> Estimate:
    """solve@(M,T): the chance that one of M plans with T programs each solves the problem."""
    return _share(evaluation, lambda row: nested(groups(row), plans, programs))


def steps(evaluation: Evaluation) -> Estimate | None:
    """Step accuracy: the share of draws with a right answer and every step right; None where no step can be judged.

    Only problems whose steps can be judged count.
    """
    rows = [row for row in evaluation.rows if row.steps_right is not None]
    if not rows:
        return None
    return share([(row.steps_right or 0) / row.n for row in rows], sum(row.n for row in rows))


def tokens(evaluation: Evaluation) -> Estimate:
    """Mean completion tokens an answer, over draws that did not fail."""
    rows = [row for row in evaluation.rows if row.count("error") < row.n]
    return (
        mean([row.tokens / (row.n - row.count("error")) for row in rows])
        if rows
        else Estimate(0.0, 0.0, 0.0)
    )


def status_share(evaluation: Evaluation, status: str) -> float:
    """The share of all draws with a status, e.g. "unparsed" or "error"."""
    return evaluation.count(status) / sum(row.n for row in evaluation.rows)


def cut_share(evaluation: Evaluation) -> float:
    """The share of all draws that the length limit ended."""
    draws = [answer for row in evaluation.rows for answer in row.answers]
    return sum(answer.cut for answer in draws) / len(draws)


def measures(evaluation: Evaluation) -> dict[str, Estimate | float | int | None]:
    """Every score of an evaluation under its plain name, for JSON; pass and maj are at n."""
    return {
        "problems": len(evaluation.rows),
        "n": evaluation.n,
        "avg": average(evaluation),
        "pass": pass_at(evaluation, evaluation.n),
        "maj": majority_at(evaluation),
        "steps": steps(evaluation),
        "tokens": tokens(evaluation),
        "unparsed": status_share(evaluation, "unparsed"),
        "unjudged": status_share(evaluation, "unjudged"),
        "errors": status_share(evaluation, "error"),
        "cut": cut_share(evaluation),
    }


def pass_at_k(n: int, right: int, k: int) -> float:
    """`1 - C(n - c, k) / C(n, k)`: Chen et al., arXiv:2107.03374, equation 1.

    Args:
        n: draws of a problem.
        right: right draws among them, c in the equation.
        k: draws one is allowed.
    """
    return float(1 - _all_fail(n, right, k))


def _all_fail(n: int, right: int, k: int) -> Fraction:
    if not 1 <= k <= n:
        raise ConfigError(
            f"pass@{k} can't be estimated from {n} draws", expected=f"1 <= k <= {n}", fix=f"--n {k}"
        )
    return Fraction(math.comb(n - right, k), math.comb(n, k))


def majority(row: Row, k: int | None = None) -> Fraction:
    """1 if the most frequent answer of the first k draws is right, else 0; a tie counts as its share of right answers.

    So ties need no coin: the value is what a fair one would give on average. Answers are compared as the verifier wrote
    them down; draws without an answer (unparsed, failed) don't vote; no votes at all is 0. An answer is right if the
    first draw that gave it was judged right.
    """
    if k is not None and not 1 <= k <= row.n:
        raise ConfigError(
            f"maj@{k} can't be computed from {row.n} draws",
            expected=f"1 <= k <= {row.n}",
            fix=f"--n {k}",
        )
    voters = [a for a in row.answers[:k] if a.answer is not None and a.status in ("right", "wrong")]
    if not voters:
        return Fraction(0)
    votes = Counter(a.answer for a in voters)
    judged = {a.answer: a.status == "right" for a in reversed(voters)}
    top = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == top]
    return Fraction(sum(judged[answer] for answer in winners), len(winners))


def groups(row: Row) -> list[tuple[int, int]]:
    """(draws, right draws) of each plan: the draws of a problem that share a parent."""
    sizes = Counter(a.group for a in row.answers)
    right = Counter(a.group for a in row.answers if a.status == "right")
    return [(size, right[group]) for group, size in sizes.items()]


def nested(plans: Sequence[tuple[int, int]], m: int, t: int) -> float:
    """The chance that m plans drawn without repetition, with t programs of each, hold a right one.

    `1 - e_m(f) / C(G, m)` with `f_g = C(n_g - c_g, t) / C(n_g, t)` the chance that plan g fails and e_m the elementary
    symmetric polynomial; unbiased as pass@k is, and equal to it for one plan. Setting: arXiv:2404.08148 (solve@k).
    """
    if not 1 <= m <= len(plans):
        raise ConfigError(
            f"solve@({m},{t}) can't be estimated from {len(plans)} plans",
            expected=f"M <= {len(plans)}",
        )
    symmetric = [Fraction(1)] + [Fraction(0)] * m
    for n, right in plans:
        fails = _all_fail(n, right, t)
        for size in range(m, 0, -1):
            symmetric[size] += symmetric[size - 1] * fails
    return float(1 - symmetric[m] / math.comb(len(plans), m))


def _share(evaluation: Evaluation, value: Callable[[Row], float]) -> Estimate:
    return share([value(row) for row in evaluation.rows], sum(row.n for row in evaluation.rows))
