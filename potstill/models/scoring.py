"""Scoring as requests: log-probabilities of a given text are asked, stored, counted and paid for as completions are.

A request to score holds the assistant's whole text as its prefix, and `Scoring` as its sampling, which says where in it
the scored text begins. The completion to it has no text, and one log-probability a token of the scored text. So a
scorer on a server has the store, the journal, retries, reservations and costs of every other call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias, final, runtime_checkable

from potstill.errors import ConfigError
from potstill.models.model import Completion, Request, Sampling, Scored, SpendingPermit
from potstill.records import Prompt, Tokens

# A server that does not say where the text begins is asked a second time, for the prompt alone.
MAX_CALLS = 2


class Passage(NamedTuple):
    """A text whose tokens are scored, and what stands before it.

    The tokens are those of prefix and text together, as the model would read them. A token with characters of both,
    which a tokenizer may make where they meet, counts as the text's: so every character of the text is scored.

    Args:
        prompt: a bare string (one user turn for chat models) or messages.
        text: what is scored.
        prefix: the beginning of the assistant's turn, before the text: it is read and not scored.
    """

    prompt: Prompt
    text: str
    prefix: str = ""


PassageLike: TypeAlias = Passage | tuple[Prompt, str]


def to_passages(values: Iterable[PassageLike]) -> list[Passage]:
    """Passages of passages or (prompt, text) pairs.

    Raises:
        ConfigError: one is something else, such as a bare text: its characters would be taken for prompt and text.
    """
    passages: list[Passage] = []
    for value in values:
        if isinstance(value, str) or len(value) not in (2, 3):
            raise ConfigError(
                f"{value!r:.60} is no text to score",
                expected="a Passage, or (prompt, text)",
                fix="(trace.prompt, text)",
            )
        passages.append(Passage(*value))
    return passages


@dataclass(frozen=True, slots=True)
class Scoring(Sampling):
    """The settings of a request to score: no text is sampled, so none of `Sampling`'s is a part of its key.

    Args:
        start: how many characters of the request's prefix stand before the text that is scored.
    """

    start: int = 0

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """What tells the key of a scored text from that of a text to be continued."""
        if self.start:
            return (("score", True), ("start", self.start))
        return (("score", True),)


@final
@dataclass(frozen=True, slots=True)
class TokenScoring(Scoring):
    """The settings of a request to score tokens; its prompt holds their ids.

    Args:
        start: how many of the tokens are read and not scored: the prompt's, at least one.
        top_logprobs: k, the likeliest tokens that are asked for at each place.
    """

    top_logprobs: int = 1

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """What tells the key of scored tokens from that of a scored text."""
        return (
            ("score", "tokens"),
            ("start", self.start),
            ("top_logprobs", self.top_logprobs),
        )


def token_scoring_request(token_ids: Sequence[int], *, start: int, top_logprobs: int) -> Request:
    """The request for the scores of a row's tokens from `start` on."""
    sampling = TokenScoring(
        temperature=0.0, max_new_tokens=1, start=start, top_logprobs=top_logprobs
    )
    return Request(" ".join(map(str, token_ids)), sampling=sampling)


def scored_token_ids(request: Request) -> list[int]:
    """The ids of all tokens of a request to score tokens."""
    return [int(word) for word in str(request.prompt).split()]


# Servers write one token at least.
SCORING = Scoring(temperature=0.0, max_new_tokens=1)


def scoring_request(passage: Passage) -> Request:
    """The request for the log-probabilities of a passage's tokens."""
    sampling = replace(SCORING, start=len(passage.prefix)) if passage.prefix else SCORING
    return Request(passage.prompt, passage.prefix + passage.text, sampling)


def scored_passage(request: Request) -> Passage:
    """The passage that a request to score asks for."""
    start = request.sampling.start if isinstance(request.sampling, Scoring) else 0
    return Passage(request.prompt, request.prefix[start:], request.prefix[:start])


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


def score_passages(model: Scored, passages: Sequence[Passage]) -> list[Completion]:
    """One answer a passage, with what it used as far as the model says."""
    if isinstance(model, CountedScores):
        return model.score([scoring_request(passage) for passage in passages])
    return [scored_completion(logprobs) for logprobs in model.likelihood(passages)]


@runtime_checkable
class StreamedScores(Scored, Protocol):
    """A remote model that scores: answers come as they land, and are committed as they come."""

    def stream_scores(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        """Answers to requests to score, as `Streamed.stream` gives completions."""
        ...
