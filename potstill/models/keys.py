"""The key of a completion, fast: the same digest as `records.digest`, of which the parts that repeat are made once.

A resumed run hashes everything that it ever asked for, so this is what a million stored rows wait for. What a text,
messages or an int can't hold goes the general way. `tests/models/test_keys.py` compares both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Protocol

from potstill.records import SCHEME, Message, Prompt, canonical

_HEAD = f"{SCHEME}\ncompletion\n"
CACHED_SETTINGS = 256  # settings whose JSON is remembered; a run has a handful
_settings_json: dict[str, str] = {}


class SamplingLike(Protocol):
    """Settings that say which of them are not at their defaults, and whose repr says all of them: `Sampling`."""

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """Names and values."""
        ...


class RequestLike(Protocol):
    """What a completion is known by: `Request`."""

    @property
    def prompt(self) -> Prompt:
        """What the writer is shown."""
        ...

    @property
    def prefix(self) -> str:
        """The text to continue."""
        ...

    @property
    def sampling(self) -> SamplingLike:
        """How to sample."""
        ...

    @property
    def sample_index(self) -> int:
        """The sample's index among equal requests."""
        ...


def completion_keys(model: str, requests: Iterable[RequestLike], seed: int) -> list[str]:
    """The keys of requests under a run's seed, which stands for their own."""
    # Lookups are hoisted out of the loop, and JSON that repeats is made once: see the top of the file.
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


def request_json(request: RequestLike, seed: int) -> str:
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


def settings_json(sampling: SamplingLike) -> str:
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
