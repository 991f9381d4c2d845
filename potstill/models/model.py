"""The model contract: text in, text out. What a role needs is said by the Protocol it is annotated with."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from potstill.errors import ConfigError
from potstill.records import NO_TOKENS, Prompt, Tokens, digest


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a completion; only what differs from these defaults enters a key.

    Args:
        temperature: 0 is greedy decoding.
        top_p: nucleus share.
        top_k: 0 keeps all tokens.
        repetition_penalty: 1 is none.
        max_tokens: new tokens at most; the completion then finishes with "length".
        stop: strings that end the completion; not part of the text.
        ban_first: strings the completion may not begin with.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    ban_first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no model can draw from, before anything is asked."""
        bad = [
            f"{name}={getattr(self, name)} ({wanted})"
            for name, wanted, fine in (
                ("temperature", "0 or more", 0 <= self.temperature < math.inf),
                ("top_p", "above 0, at most 1", 0 < self.top_p <= 1),
                ("top_k", "0 or more", self.top_k >= 0),
                ("repetition_penalty", "above 0", 0 < self.repetition_penalty < math.inf),
                ("max_tokens", "1 or more", self.max_tokens >= 1),
            )
            if not fine
        ]
        if bad:
            raise ConfigError(f"sampling settings: {', '.join(bad)}", fix="give values in the ranges in brackets")

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """The settings that differ from the defaults, in field order."""
        pairs = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        return tuple((name, value) for name, value, default in pairs if value != default)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be drawn: what the writer is shown, the text to continue, how, and which draw.

    `prompt` is a bare string (one user turn for chat models) or messages; `prefix` is text that the assistant has
    already written. `seed` is the run's; the caching wrapper sets it. Equal prompts take different draws.
    """

    prompt: Prompt
    prefix: str = ""
    sampling: Sampling = Sampling()
    draw: int = 0
    seed: int = 0

    def key(self, model: str) -> str:
        """Under which this completion is stored: model id, prompt, prefix, settings, run seed, draw."""
        return digest("completion", [model, self.prompt, self.prefix, self.sampling.changed(), self.seed, self.draw])

    def random_seed(self, model: str) -> int:
        """A 63-bit seed for this sample's own random generator, hashed from everything that names it."""
        return int.from_bytes(hashlib.sha256(self.key(model).encode()).digest()[:8], "big") >> 1


class Completion(NamedTuple):
    """What came back: only the new text, how it ended ("stop", "length"; "" with an error), token counts, seconds."""

    text: str
    finish: Literal["stop", "length", ""] = "stop"
    tokens: Tokens = NO_TOKENS
    error: str = ""
    seconds: float = 0.0


@runtime_checkable
class Model(Protocol):
    """Anything that writes. A failed generation is a completion with an `error`, never an exception."""

    @property
    def id(self) -> str:
        """Content id: a checkpoint is known by its content, not its path."""
        ...

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order."""
        ...


@runtime_checkable
class Planned(Model, Protocol):
    """A local model that plans batches from the whole list of requests: batch shapes never depend on a crash."""

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """Indices of `requests`, one list a batch; a pure function of the requests."""
        ...


@runtime_checkable
class Scored(Model, Protocol):
    """A model that gives likelihoods."""

    def likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Natural-log probabilities of each completion token given the prompt, one list a (prompt, completion) pair."""
        ...


@runtime_checkable
class Trainable(Model, Protocol):
    """A model with weights on disk that a stage can train."""

    @property
    def weights(self) -> Path:
        """The checkpoint folder."""
        ...
