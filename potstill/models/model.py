"""The model contract: text in, text out. What a role needs is said by the Protocol it is annotated with."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from potstill.errors import ConfigError
from potstill.records import NO_TOKENS, SCHEME, Message, Prompt, Tokens, canonical

if TYPE_CHECKING:
    from potstill.models.scoring import PassageLike

_HEAD = f"{SCHEME}\ncompletion\n"
CACHED_SETTINGS = 256  # settings whose JSON is remembered; a run has a handful
_settings_json: dict[str, str] = {}

# Beyond what one call can use or cost; larger numbers are mistakes of a server, and no sum of them may overflow.
MAX_CALL_TOKENS = 10**8
MAX_CALL_COST = 10**4  # USD


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample a completion; only what differs from these defaults enters a key.

    Args:
        temperature: 0 is greedy decoding.
        top_p: nucleus share.
        top_k: 0 keeps all tokens.
        repetition_penalty: 1 is none.
        max_new_tokens: new tokens at most; the completion then finishes with "length".
        stop: strings that end the completion; not part of the text.
        ban_first: strings the completion may not begin with.
        logprobs: also return the log-probability of each sampled token, where the model can.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    ban_first: tuple[str, ...] = ()
    logprobs: bool = False

    def __post_init__(self) -> None:
        """Refuse what no model can sample with, before anything is asked."""
        self._check_types()
        mistakes = []
        if not 0 <= self.temperature < math.inf:
            mistakes.append(f"temperature={self.temperature} (0 or more)")
        if not 0 < self.top_p <= 1:
            mistakes.append(f"top_p={self.top_p} (above 0, at most 1)")
        if not self.top_k >= 0:
            mistakes.append(f"top_k={self.top_k} (0 or more)")
        if not 0 < self.repetition_penalty < math.inf:
            mistakes.append(f"repetition_penalty={self.repetition_penalty} (above 0)")
        if not self.max_new_tokens >= 1:
            mistakes.append(f"max_new_tokens={self.max_new_tokens} (1 or more)")
        if mistakes:
            raise ConfigError(
                f"sampling settings: {', '.join(mistakes)}",
                fix="give values in the ranges in brackets",
            )

    def _check_types(self) -> None:
        """Refuse what is no number, no whole number or no strings, where such is meant."""
        for name in ("temperature", "top_p", "repetition_penalty"):
            _check_number(name, getattr(self, name), (int, float), "a number")
        for name in ("top_k", "max_new_tokens"):
            _check_number(name, getattr(self, name), (int,), "a whole number")
        for name in ("stop", "ban_first"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
                raise ConfigError(f"the sampling setting {name} is {value!r}", expected="strings")

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """The settings that differ from the defaults, in field order."""
        changed = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                changed.append((field.name, value))
        return tuple(changed)


def _check_number(name: str, value: Any, types: tuple[type, ...], expected: str) -> None:
    if not isinstance(value, types) or isinstance(value, bool):
        raise ConfigError(f"the sampling setting {name} is {value!r}", expected=expected)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be sampled.

    Args:
        prompt: a bare string (one user turn for chat models) or messages.
        prefix: text that the assistant has already written, to be continued.
        sampling: how.
        sample_index: the sample's index among equal requests, which differ in nothing else.
        seed: the run's; the caching wrapper sets it.
    """

    prompt: Prompt
    prefix: str = ""
    sampling: Sampling = Sampling()
    sample_index: int = 0
    seed: int = 0

    def key(self, model: str) -> str:
        """Under which this completion is stored: model id, prompt, prefix, settings, run seed, sample index."""
        return completion_keys(model, (self,), self.seed)[0]

    def random_seed(self, model: str) -> int:
        """A 63-bit seed for this sample's own random generator, hashed from everything that names it."""
        return int.from_bytes(hashlib.sha256(self.key(model).encode()).digest()[:8], "big") >> 1


def completion_keys(model: str, requests: Iterable[Request], seed: int) -> list[str]:
    """The keys of requests under a run's seed, which stands for their own.

    The same digests as those of `records.digest`, of which the parts that repeat are made once: a resumed run hashes
    everything that it ever asked for, so this is what a million stored rows wait for. What a text, messages or an int
    can't hold goes the general way. `tests/models/test_keys.py` compares both.
    """
    # Lookups are hoisted out of the loop, and JSON that repeats is made once.
    head, seed_json = f"{_HEAD}[{quote(model)},", _int_json(seed)
    sha256 = hashlib.sha256
    last_sampling, sampling_json = None, ""
    keys = []
    for request in requests:
        if request.sampling is not last_sampling:
            last_sampling, sampling_json = request.sampling, settings_json(request.sampling)
        prompt, draw = request.prompt, request.sample_index
        prompt_text = quote(prompt) if type(prompt) is str else prompt_json(prompt)
        draw_json = draw if type(draw) is int else _int_json(draw)
        prefix = quote(request.prefix)
        data = f"{head}{prompt_text},{prefix},{sampling_json},{seed_json},{draw_json}]"
        keys.append("completion-" + sha256(data.encode("ascii")).hexdigest()[:20])
    return keys


def request_json(request: Request, seed: int) -> str:
    """A request as canonical JSON: prefix, prompt, index, seed and the settings that differ from the defaults."""
    prompt, settings = prompt_json(request.prompt), settings_json(request.sampling)
    return (
        f'{{"prefix":{quote(request.prefix)},"prompt":{prompt},"sample_index":{_int_json(request.sample_index)},'
        f'"seed":{_int_json(seed)},"settings":{settings}}}'
    )


def prompt_json(prompt: Prompt) -> str:
    """A prompt as canonical JSON."""
    if isinstance(prompt, str):
        return quote(prompt)
    if type(prompt) is tuple and set(map(type, prompt)) == {Message}:
        turns = [f"[{quote(role)},{quote(content)}]" for role, content in prompt]
        return f"[{','.join(turns)}]"
    return canonical(prompt)


def settings_json(sampling: Sampling) -> str:
    """Settings as canonical JSON, remembered by what they are: a call that makes them anew each time costs no more.

    By their repr, not by equality: 0 and 0.0 are equal settings with different JSON.
    """
    key = repr(sampling)
    text = _settings_json.get(key)
    if text is None:
        if len(_settings_json) >= CACHED_SETTINGS:
            _settings_json.clear()
        text = _settings_json[key] = canonical(sampling.changed())
    return text


def _int_json(value: int) -> str:
    return repr(value) if type(value) is int else canonical(value)


# How a completion's `error` begins: the boundary that the call did not cross, then a colon and what happened there.
FAILURES = (
    "unreachable",  # no connection, or it broke
    "timeout",  # no whole answer in time
    "rate",  # 429 until the deadline
    "server",  # 5xx until the deadline
    "refused",  # the server refused this request, or the model refused to answer
    "filter",  # a content filter took the answer
    "malformed",  # an answer that is not what the protocol says
    "empty",  # an answer without text
    "unfinished",  # nobody says that the answer is whole: its finish reason is missing or not known
    "length",  # an answer that its limit cut, where such are dropped (--truncated drop); its text is stored
    "context",  # the prompt leaves no room in the context
    "budget",  # the budget did not allow the call, and the run goes on without it (--when-spent train); never stored
    "memory",  # one row alone does not fit on the device
    "missing",  # a recording has no answer to this request (recorded:FILE?missing=drop)
)


class Attempt(NamedTuple):
    """A try that did not become the completion.

    Args:
        error: why, as in `Completion`: "rate: 429 …".
        tokens: as far as the server says.
        cost: money, where the server says it.
        seconds: that it took.
        text: as much of an answer as had come.
        billed: False where nothing can have been paid for; a call that was sent and never answered may have been.
    """

    error: str
    tokens: Tokens = NO_TOKENS
    cost: float | None = None
    seconds: float = 0.0
    text: str = ""
    billed: bool = False


CompletionEnd: TypeAlias = Literal["stop", "stop_string", "length", ""]


class Completion(NamedTuple):
    """What a model answered to a request.

    Args:
        text: only what is new. Reasoning that a server returns apart stands before the answer as `<think>…</think>`.
        finish_reason: how it ended; "" with an error. "stop" is the model's own end of its answer, "stop_string" one of
            the strings that it was asked to end at.
        tokens: as the model reports them.
        error: why it failed, beginning with one of `FAILURES`; "" where it did not.
        seconds: that it took.
        logprobs: natural logs, one a sampled token, where they were asked for.
        cost: money where the server says it; None leaves it to the price table.
        rate: the share of the table's price that is paid (0.5 for a batch).
        served: what the server calls the model that answered.
        tries: the attempts before this one.
        ignored: numbers beside it that can't be right and were left out, such as "cost=1e+300".
        stop_string: which string ended it; "" where none did, or where the server does not say which, or not even
            whether one did: then `finish_reason` is "stop_string" too, since nobody knows that the answer is whole.
    """

    text: str
    finish_reason: CompletionEnd = "stop"
    tokens: Tokens = NO_TOKENS
    error: str = ""
    seconds: float = 0.0
    logprobs: tuple[float, ...] = ()
    cost: float | None = None
    rate: float = 1.0
    served: str = ""
    tries: tuple[Attempt, ...] = ()
    ignored: tuple[str, ...] = ()
    stop_string: str = ""


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """The text up to its first stop string, and that string; the whole text and "" where it has none."""
    first, stop_string = len(text), ""
    for stop in stops:
        position = text.find(stop)
        # Of two that begin at one place the one that is named first counts.
        if stop and 0 <= position < first:
            first, stop_string = position, stop
    return text[:first], stop_string


class SpendingPermit(Protocol):
    """What each call asks before it is sent; thread-safe, never blocks."""

    def reserve(self, request: Request) -> Literal["go", "wait", "stop"]:
        """Reserve the most this call can cost: "wait" while calls in flight may free enough, "stop" if nothing can.

        A request that already holds a reservation (it is tried again) goes without another.
        """
        ...

    def record_failed_try(self, request: Request, attempt: Attempt) -> None:
        """A try of this request ended without its completion; what it may have cost is spent, the rest free again."""
        ...


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


class Traffic(NamedTuple):
    """What has gone to a server: tries, those that were tried again, and those that it refused for coming too fast."""

    tries: int = 0
    retries: int = 0
    rate_limited: int = 0


@runtime_checkable
class ChecksRequests(Protocol):
    """A model that can say, without asking anybody, that it can't answer a request at all."""

    def check_request(self, request: Request) -> None:
        """Raise the ModelError that asking would raise; nothing is sent."""
        ...


@runtime_checkable
class HasTraffic(Protocol):
    """A model behind a server that counts its tries."""

    @property
    def traffic(self) -> Traffic:
        """All that this process has sent so far."""
        ...


class RowProgress(NamedTuple):
    """How far one row of a batch is: the tokens that it has written, and whether it is finished."""

    tokens: int = 0
    is_finished: bool = False


RowReport: TypeAlias = Callable[[Sequence[RowProgress]], None]
"""Told now and then, while a batch is written, how far each of its requests is."""


@runtime_checkable
class ReportsRows(Protocol):
    """A local model that says how far a batch is while it writes it."""

    def write_reporting(self, requests: Sequence[Request], report: RowReport) -> list[Completion]:
        """What `write` returns; `report` may be called from another thread that writes the same batch."""
        ...


@runtime_checkable
class Planned(Model, Protocol):
    """A local model that plans batches from the whole list of requests: batch shapes never depend on a crash."""

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """Indices of `requests`, one list a batch; a pure function of the requests."""
        ...


@runtime_checkable
class LoadsWeights(Protocol):
    """A local model whose weights are loaded with the first request, or when somebody says so."""

    def load(self) -> None:
        """Load the weights now."""
        ...


@runtime_checkable
class ComputesWithTorch(Protocol):
    """A local model that torch computes, and whose batches another machine may write."""

    @property
    def device(self) -> str:
        """What it computes on, or plans for: "cpu" or "cuda"."""
        ...

    @property
    def threads(self) -> int:
        """The CPU threads that it computes with in this process."""
        ...

    @property
    def gathers(self) -> bool:
        """Whether requests of several threads may form a batch together."""
        ...

    def plan_for(self, device: str) -> None:
        """Plan batches for a device that this machine need not have; the model writes nothing here from now on."""
        ...


@runtime_checkable
class WritesBatches(Model, Protocol):
    """A local model with replicas, which answer several batches at once."""

    def answer_batches(
        self, batches: Iterable[Sequence[Request] | None]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Answers of a batch, in order, with the batch's place among the batches, as they land.

        Batches are drawn as replicas have room for them. None in their place, which is not counted, says that the next
        one can't be had before something has landed. Closing the iterator gives up what is under way.
        """
        ...


@runtime_checkable
class Streamed(Model, Protocol):
    """A remote model: completions come as they land, in any order, and are committed as they come."""

    def stream(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        """Completions in portions, each with the place of its request in `requests`.

        Requests are drawn from the iterable as there is room for them, so it may be longer than memory. A request that
        the permit stopped is not among the completions. A portion may be empty, as a sign of life; its `done`, if it
        has one, says how many more completions the server has made that have not come yet. Closing the iterator cancels
        what is in flight. What would fail for every request (a wrong key, an unknown model, a server that is down) is a
        ModelError, and is not recorded.
        """
        ...


@runtime_checkable
class Scored(Model, Protocol):
    """A model that gives likelihoods."""

    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Natural-log probabilities of the tokens of each passage's text behind its prompt and prefix.

        Args:
            passages: `models.scoring.Passage`s, or (prompt, text) pairs.

        Returns:
            One list a passage; empty where its text is empty or can't be scored.
        """
        ...


@runtime_checkable
class Trainable(Model, Protocol):
    """A model with weights on disk that a stage can train."""

    @property
    def weights(self) -> Path:
        """The checkpoint folder."""
        ...
