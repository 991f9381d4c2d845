"""Scoring as requests: log-probabilities of a given text are asked, stored, counted and paid for as completions are.

A request to score holds the text as its prefix and `SCORING` as its sampling; the completion to it has no text, and one
log-probability a token of the given one. So a scorer on a server has the store, the journal, retries, reservations and
costs of every other call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from potstill.models.model import Completion, Request, Sampling, Scored, SpendingPermit
from potstill.records import Prompt, Tokens

# A server that does not say where the text begins is asked a second time, for the prompt alone.
MAX_CALLS = 2


@final
@dataclass(frozen=True, slots=True)
class Scoring(Sampling):
    """The settings of a request to score: no text is sampled, so none of `Sampling`'s is a part of its key."""

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """What tells the key of a scored text from that of a text to be continued."""
        return (("score", True),)


# Servers write one token at least.
SCORING = Scoring(temperature=0.0, max_new_tokens=1)


def scoring_request(prompt: Prompt, text: str) -> Request:
    """The request for the log-probabilities of a text's tokens behind a prompt."""
    return Request(prompt, text, SCORING)


def is_scoring(request: Request) -> bool:
    """Whether log-probabilities are asked for, and no text."""
    return isinstance(request.sampling, Scoring)


def scored_completion(
    logprobs: Sequence[float], tokens: Tokens | None = None, cost: float | None = None
) -> Completion:
    """The answer to a request to score; a model that does not say what it read is taken to have read these tokens."""
    return Completion(
        text="",
        tokens=tokens if tokens is not None else Tokens(prompt=len(logprobs)),
        logprobs=tuple(logprobs),
        cost=cost,
    )


@runtime_checkable
class CountedScores(Scored, Protocol):
    """A model that says how many tokens it read for its scores, and what they cost."""

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """One answer a request to score, in order."""
        ...


def score_pairs(model: Scored, pairs: Sequence[tuple[Prompt, str]]) -> list[Completion]:
    """One answer a (prompt, text) pair, with what it used as far as the model says."""
    if isinstance(model, CountedScores):
        return model.score([scoring_request(prompt, text) for prompt, text in pairs])
    return [scored_completion(logprobs) for logprobs in model.likelihood(pairs)]


@runtime_checkable
class StreamedScores(Scored, Protocol):
    """A remote model that scores: answers come as they land, and are committed as they come."""

    def stream_scores(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        """Answers to requests to score, as `Streamed.stream` gives completions."""
        ...
