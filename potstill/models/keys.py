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
_KEPT = 256  # settings whose JSON is remembered; a run has a handful
_SETTINGS: dict[str, str] = {}


class Changed(Protocol):
    """Settings that say which of them are not at their defaults, and whose repr says all of them: `Sampling`."""

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """Names and values."""
        ...


class Asked(Protocol):
    """What was asked for: `Request`."""

    @property
    def prompt(self) -> Prompt:
        """What the writer is shown."""
        ...

    @property
    def prefix(self) -> str:
        """The text to continue."""
        ...

    @property
    def sampling(self) -> Changed:
        """How."""
        ...

    @property
    def draw(self) -> int:
        """Which draw."""
        ...


def keys(model: str, requests: Iterable[Asked], seed: int) -> list[str]:
    """The keys of requests under a run's seed, which stands for their own."""
    head, end = f"{_HEAD}[{quote(model)},", _number(seed)
    sha256, of, last, how = hashlib.sha256, prompt_json, None, ""
    made = []
    for request in requests:
        if request.sampling is not last:
            last, how = request.sampling, settings_json(request.sampling)
        prompt, draw = request.prompt, request.draw
        shown = quote(prompt) if type(prompt) is str else of(prompt)
        number = draw if type(draw) is int else _number(draw)
        data = f"{head}{shown},{quote(request.prefix)},{how},{end},{number}]"
        made.append("completion-" + sha256(data.encode("ascii")).hexdigest()[:20])
    return made


def payload(request: Asked, seed: int) -> str:
    """What was asked as canonical JSON: draw, prefix, prompt, seed and the settings that differ from the defaults."""
    prompt, settings = prompt_json(request.prompt), settings_json(request.sampling)
    return (
        f'{{"draw":{_number(request.draw)},"prefix":{quote(request.prefix)},"prompt":{prompt},'
        f'"seed":{_number(seed)},"settings":{settings}}}'
    )


def prompt_json(prompt: Prompt) -> str:
    """A prompt as canonical JSON."""
    if isinstance(prompt, str):
        return quote(prompt)
    if type(prompt) is tuple and set(map(type, prompt)) == {Message}:
        return f"[{','.join([f'[{quote(role)},{quote(content)}]' for role, content in prompt])}]"
    return canonical(prompt)


def settings_json(sampling: Changed) -> str:
    """Settings as canonical JSON, remembered by what they are: a call that makes them anew each time costs no more.

    By their repr, not by equality: 0 and 0.0 are equal settings with different JSON.
    """
    told = repr(sampling)
    known = _SETTINGS.get(told)
    if known is None:
        if len(_SETTINGS) >= _KEPT:
            _SETTINGS.clear()
        known = _SETTINGS[told] = canonical(sampling.changed())
    return known


def _number(value: int) -> str:
    return repr(value) if type(value) is int else canonical(value)
