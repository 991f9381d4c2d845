"""Scoring given tokens: how likely each is, and which k tokens a model finds likeliest in its place.

A request names the tokens by their ids (`models.scoring.TokenScoring`), so nobody cuts a text anew: what a student
sampled is scored as the tokens that it sampled. It is stored, counted, reserved and paid for as every call is. Its
answer has one log-probability a scored token, and as its text the table of the k likeliest.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from potstill.errors import ModelError
from potstill.models.model import Completion, Model, Request, SpendingPermit
from potstill.models.scoring import scored_completion
from potstill.records import Prompt, Tokens

TABLE_HEAD = (
    "top-logprobs/1"  # the first word of a table as text: the name and version of the format
)
MAX_MASS_ERROR = 1e-3  # how far a sum of float32 probabilities may be from 1
MAX_LOGPROB = 1e-4  # a log-probability of certainty may be rounded up to this
MIN_LOGPROB = (
    -1e5
)  # servers say -9999, the lowest float or minus infinity of a token that is banned


class TopLogprobs(NamedTuple):
    """The k likeliest tokens at each of n places, likeliest first; flat, a place's k values one after another.

    Args:
        k: entries a place.
        ids: n * k token ids, 32 bits each.
        logprobs: n * k natural-log probabilities over the model's whole vocabulary, float32.
    """

    k: int
    ids: array[int]
    logprobs: array[float]

    def to_text(self) -> str:
        """The table as text: head, k, and both arrays in base64, the small end first."""
        return f"{TABLE_HEAD} {self.k} {encode_array(self.ids)} {encode_array(self.logprobs)}"

    @classmethod
    def from_text(cls, text: str) -> TopLogprobs:
        """The table that a text holds.

        Raises:
            ModelError: it holds none.
        """
        words = text.split(" ")
        try:
            head, k, ids, logprobs = words
            table = cls(int(k), decode_array("i", ids), decode_array("f", logprobs))
        except (ValueError, binascii.Error):
            head, table = "", cls(0, array("i"), array("f"))
        is_whole = table.k > 0 and len(table.ids) == len(table.logprobs)
        if head != TABLE_HEAD or not is_whole or len(table.ids) % table.k:
            raise ModelError(
                f"a stored answer to a request to score tokens can't be read: {text[:40]!r}",
                expected=f"a table that begins with {TABLE_HEAD}",
                fix="potstill cache verify FOLDER says which answers are damaged",
            )
        return table


class ScoredPosition(NamedTuple):
    """What a server says of one place, before it is believed.

    Args:
        token_id: the token that the server read there.
        logprob: its log-probability; None where the server does not say it.
        top: (id, log-probability) of the likeliest tokens, in the server's own order of rank.
    """

    token_id: int
    logprob: float | None
    top: Sequence[tuple[int, float]]


class BadScoresError(ValueError):
    """An answer that can't be what was asked for; the message says what is wrong with it."""


def check_positions(
    positions: Sequence[ScoredPosition], token_ids: Sequence[int], *, start: int, top_logprobs: int
) -> TopLogprobs:
    """The table of an answer, after everything that can be checked of it.

    Args:
        positions: of the tokens from `start` on.
        token_ids: of the whole row, as they were sent.
        start: how many of the tokens were not to be scored.
        top_logprobs: k. Fewer entries are believed only where they hold the whole probability: a small vocabulary.

    Raises:
        BadScoresError: another number of places, other tokens, fewer than k entries, a token twice, entries that are
            not in the order of their ranks, a log-probability that is none, or probabilities whose sum is above 1.
    """
    scored_ids = token_ids[start:]
    if len(positions) != len(scored_ids) or not positions:
        raise BadScoresError(f"it scored {len(positions)} tokens where {len(scored_ids)} were sent")
    # The row's own token may stand behind the k likeliest, as the next one.
    positions = [position._replace(top=position.top[:top_logprobs]) for position in positions]
    widths = {len(position.top) for position in positions}
    if len(widths) != 1:
        raise BadScoresError(f"it gave {min(widths)} to {max(widths)} likeliest tokens a place")
    [k] = widths
    ids, logprobs = array("i"), array("f")
    for place, (position, token_id) in enumerate(zip(positions, scored_ids, strict=True), start):
        if position.token_id != token_id:
            raise BadScoresError(
                f"token {place} is {token_id} and the server read {position.token_id}"
            )
        _check_entries(position, place, top_logprobs)
        for entry_id, logprob in position.top:
            ids.append(entry_id)
            logprobs.append(min(0.0, max(logprob, MIN_LOGPROB)))
    return TopLogprobs(k, ids, logprobs)


def _check_entries(position: ScoredPosition, place: int, top_logprobs: int) -> None:
    """Check one place: its numbers, their order, and their sum."""
    values = [logprob for _, logprob in position.top]
    own_value = [] if position.logprob is None else [position.logprob]
    for logprob in [*own_value, *values]:
        if math.isnan(logprob) or logprob > MAX_LOGPROB:
            raise BadScoresError(f"a log-probability at token {place} is {logprob}")
    distinct_ids = {entry_id for entry_id, _ in position.top}
    if len(distinct_ids) < len(position.top):
        raise BadScoresError(f"the likeliest tokens at token {place} name one twice")
    for better, worse in itertools.pairwise(values):
        if worse > better + MAX_LOGPROB:
            raise BadScoresError(f"the likeliest tokens at token {place} are out of order")
    mass = sum(map(math.exp, values))
    if mass > 1 + MAX_MASS_ERROR:
        raise BadScoresError(f"the probabilities at token {place} add up to {mass:.4f}")
    if len(values) < top_logprobs and mass < 1 - MAX_MASS_ERROR:
        raise BadScoresError(
            f"it gave {len(values)} likeliest tokens of the {top_logprobs} that were asked for, "
            f"with {mass:.4f} of the probability"
        )


def token_scores(
    positions: Sequence[ScoredPosition], table: TopLogprobs, tokens: Tokens
) -> Completion:
    """The answer to a request to score tokens: the tokens' own log-probabilities, and the table as its text.

    Where the server does not say each token's own, the answer has none of them.
    """
    logprobs: list[float] = []
    for position in positions:
        if position.logprob is None:
            logprobs = []
            break
        logprobs.append(min(0.0, max(position.logprob, MIN_LOGPROB)))
    return scored_completion(logprobs, tokens)._replace(text=table.to_text())


@runtime_checkable
class TokenScored(Model, Protocol):
    """A model that scores given tokens and says which are likeliest in their place."""

    def score_tokens(self, requests: Sequence[Request]) -> list[Completion]:
        """One answer a request to score tokens, in order."""
        ...


@runtime_checkable
class StreamedTokenScores(TokenScored, Protocol):
    """A remote model that scores tokens: answers come as they land, and are committed as they come."""

    def stream_scores(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        """Answers to requests to score, as `Streamed.stream` gives completions."""
        ...


@runtime_checkable
class ReadsTokens(Protocol):
    """A model behind a server that says which tokens it reads; each is None where the server does not say it."""

    def read_text(self, text: str) -> Sequence[int] | None:
        """The ids of a text, control tokens in it read as such and none added."""
        ...

    def read_prompt(self, prompt: Prompt) -> Sequence[int] | None:
        """The ids of a prompt in the server's own chat template, up to where the answer begins."""
        ...


def encode_array(values: array[Any]) -> str:
    """Numbers in base64, the small end first."""
    if sys.byteorder == "big":
        values = array(values.typecode, values)
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode()


def decode_array(typecode: str, text: str) -> array[Any]:
    """The numbers of a text by `encode_array`; ValueError where it holds none."""
    values = array(typecode, base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        values.byteswap()
    return values
