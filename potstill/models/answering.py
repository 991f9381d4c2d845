"""One batch of requests to a model that is asked in whole batches: texts to be written, or to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.errors import ModelError
from potstill.models.model import Completion, Request
from potstill.models.scoring import (
    CountedScores,
    TokenScoring,
    is_scoring,
    scored_completion,
    scored_passage,
)

# Requests sent at once to a model without a plan: few enough that a crash costs little.
UNPLANNED_BATCH = 64
SCORING_BATCH = 256  # passages


def answer_batch(model: Any, requests: Sequence[Request]) -> list[Completion]:
    """One answer a request, in order; the requests are all of one kind.

    Args:
        model: a local one that can do what is asked.
        requests: to continue texts, or to score texts or tokens.
    """
    if is_scoring(requests[0]):
        return score_batch(model, requests)
    completions = list(model.write(requests))
    check_count(model, len(completions), len(requests), "write")
    return completions


def score_batch(model: Any, requests: Sequence[Request]) -> list[Completion]:
    """The log-probabilities of given texts, or the scores of given tokens."""
    if isinstance(requests[0].sampling, TokenScoring):
        answers: list[Completion] = model.score_tokens(requests)
        check_count(model, len(answers), len(requests), "score_tokens")
        return answers
    if isinstance(model, CountedScores):
        answers = model.score(requests)
        check_count(model, len(answers), len(requests), "score")
        return answers
    values = model.likelihood([scored_passage(request) for request in requests])
    check_count(model, len(values), len(requests), "likelihood")
    return [scored_completion(logprobs) for logprobs in values]


def check_count(model: Any, count: int, expected: int, method: str) -> None:
    """Refuse another number of answers than of requests."""
    if count != expected:
        raise ModelError(
            f"{model.id}.{method} returned {count} results for {expected} requests",
            expected="one result a request",
        )
