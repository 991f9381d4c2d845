"""Whether a model finds wrong chains less likely than right ones: ΔPPL, and its change by a training.

An et al. (arXiv:2310.20689) show ΔPPL before and after training as the "sense of error". The pairs must be of
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
from potstill.models.scoring import Passage
from potstill.records import Trace
from potstill.traces import token_logprobs


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


def sense_of_error(
    model: Scored, pairs: Sequence[Trace], *, after_shared: bool = False
) -> SenseOfError:
    """Measure a model's likelihoods of right and wrong chains.

    Args:
        model: whose likelihoods are taken.
        pairs: right chains with a wrong one as `rejected`, as `pair` gives them.
        after_shared: take only the tokens behind the beginning that both chains share: those from the first wrong step
            on, where the right chain is the wrong one corrected there. The shared beginning is read, and not scored.

    Raises:
        StageError: a trace has no wrong chain beside it.
        InputError: a chain has no token to score, or the model could not score it.
        ModelError: the model gives no likelihoods.
    """
    # Of each pair the right chain and then the wrong one.
    passages: list[Passage] = []
    problem_ids: list[str] = []
    for trace in pairs:
        if trace.rejected is None:
            raise StageError(
                f"trace {trace.id} has no wrong chain beside it",
                expected="right chains with a rejected one",
                fix="pair(keep(right, traces), keep(wrong, traces))",
            )
        start = count_shared(trace.text, trace.rejected.text) if after_shared else 0
        for chain in (trace, trace.rejected):
            passages.append(Passage(trace.prompt, chain.text[start:], chain.text[:start]))
            problem_ids.append(trace.problem.id)
    logprobs = token_logprobs(model, passages, problem_ids=problem_ids)

    # Per token: a longer chain is not less likely for its length.
    means: list[float] = []
    for problem_id, token_values in zip(problem_ids, logprobs, strict=True):
        if not token_values:
            raise InputError(
                f"a chain of problem {problem_id!r} has no likelihood",
                expected="a text of a token or more behind what the two share, within the model's context",
            )
        means.append(-math.fsum(token_values) / len(token_values))
    likelihoods: list[PairLikelihood] = []
    for place in range(0, len(means), 2):
        likelihoods.append(PairLikelihood(problem_ids[place], means[place], means[place + 1]))
    return summarize_sense(likelihoods)


def count_shared(first: str, second: str) -> int:
    """How many characters two texts share at their beginning, up to the end of a word: no word is cut in two."""
    # Where the right chain is the wrong one corrected, this is the beginning up to the first wrong step.
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    # Back to the blank before the word in which they differ; tokens begin with it.
    while shared and not first[shared - 1].isspace():
        shared -= 1
    while shared and first[shared - 1].isspace():
        shared -= 1
    return shared


def summarize_sense(pairs: Sequence[PairLikelihood]) -> SenseOfError:
    """The figures of likelihoods that were measured."""
    if not pairs:
        raise InputError("no pair of a right and a wrong chain", expected="at least one")
    # All right chains against all wrong ones, whichever problem they are on.
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
