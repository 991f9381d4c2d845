"""Whether a model finds wrong chains less likely than right ones: ΔPPL, and its change by a training.

LEMA (An et al., arXiv:2310.20689) shows ΔPPL before and after training as its "sense of error". The pairs must be of
errors that the model was not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from potstill.errors import InputError, StageError
from potstill.evaluation.detection import auroc_interval
from potstill.evaluation.intervals import Estimate, pooled_mean_interval
from potstill.models.model import Scored
from potstill.records import Trace
from potstill.traces import nll


class PairLikelihood(NamedTuple):
    """Mean negative log-likelihoods per token (nats) of a right and a wrong chain on one problem."""

    problem: str
    right: float
    wrong: float

    @property
    def delta_perplexity(self) -> float:
        """`PPL(wrong) - PPL(right)`."""
        return math.exp(self.wrong) - math.exp(self.right)


class SenseOfError(NamedTuple):
    """How a model tells right from wrong chains by their likelihood.

    Args:
        delta_perplexity: `ΔPPL = 1/|C| sum [PPL(wrong) - PPL(right)]`, perplexities per token, so that length counts
            for nothing; larger is better. Interval clustered by problem.
        delta_nll: the same of the logarithms, which single pairs of huge perplexity do not rule.
        auroc: the chance that a wrong chain is less likely per token than a right one, of all pairs mixed.
        in_pair: share of pairs of which the wrong chain is the less likely; a tie counts a half.
        pairs: the likelihoods themselves, for `sense_change`.
    """

    delta_perplexity: Estimate
    delta_nll: Estimate
    auroc: Estimate
    in_pair: float
    pairs: tuple[PairLikelihood, ...]


def sense_of_error(model: Scored, pairs: Sequence[Trace]) -> SenseOfError:
    """Measure a model's likelihoods of right and wrong chains.

    Args:
        model: whose likelihoods are taken.
        pairs: right chains with a wrong one as `rejected`, as `pair` gives them.

    Raises:
        StageError: a trace has no wrong chain beside it.
        ModelError: the model gives no likelihoods.
    """
    wrong_chains: list[Trace] = []
    for trace in pairs:
        if trace.rejected is None:
            raise StageError(
                f"trace {trace.id} has no wrong chain beside it",
                expected="right chains with a rejected one",
                fix="pair(keep(right, traces), keep(wrong, traces))",
            )
        wrong_chains.append(trace.rejected)
    values = nll(model)([*pairs, *wrong_chains])
    likelihoods: list[PairLikelihood] = []
    for place, trace in enumerate(pairs):
        right, wrong = values[place], values[place + len(pairs)]
        if not isinstance(right, float) or not isinstance(wrong, float):
            raise InputError(
                f"a chain of {trace.problem.id} is empty", expected="texts of a token or more"
            )
        likelihoods.append(PairLikelihood(trace.problem.id, right, wrong))
    return summarize_sense(likelihoods)


def summarize_sense(pairs: Sequence[PairLikelihood]) -> SenseOfError:
    """The figures of likelihoods that were measured."""
    if not pairs:
        raise InputError("no pair of a right and a wrong chain", expected="at least one")
    problems = [pair.problem for pair in pairs]
    scores = [pair.right for pair in pairs] + [pair.wrong for pair in pairs]
    is_wrong = [False] * len(pairs) + [True] * len(pairs)
    told_apart = 0.0
    for pair in pairs:
        told_apart += (pair.wrong > pair.right) + (pair.wrong == pair.right) / 2
    return SenseOfError(
        pooled_mean_interval([pair.delta_perplexity for pair in pairs], problems),
        pooled_mean_interval([pair.wrong - pair.right for pair in pairs], problems),
        auroc_interval(scores, is_wrong, [*problems, *problems]),
        told_apart / len(pairs),
        tuple(pairs),
    )


def sense_change(before: SenseOfError, after: SenseOfError) -> Estimate:
    """ΔPPL after a training minus ΔPPL before it, pair by pair, clustered by problem.

    Args:
        before: of the untrained model.
        after: of the trained one, on the same pairs in the same order.
    """
    problems = [pair.problem for pair in before.pairs]
    if problems != [pair.problem for pair in after.pairs]:
        raise InputError(
            "other pairs after than before", expected="the same pairs in the same order"
        )
    changes: list[float] = []
    for old, new in zip(before.pairs, after.pairs, strict=True):
        changes.append(new.delta_perplexity - old.delta_perplexity)
    return pooled_mean_interval(changes, problems)
