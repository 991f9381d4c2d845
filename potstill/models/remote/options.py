"""What a user says about a server: options of `openai:MODEL?…`, checked, with no secret among them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from potstill.config import (
    Mistakes,
    convert_settings,
    merge_layers,
    parse_query,
    settings_of,
)
from potstill.errors import ConfigError, ModelError
from potstill.models.remote.presets import PLAIN, PREFILLS, PRESETS, THINKS, Preset

MODES = ("chat", "text", "template")
SCORES = ("", "prompt_logprobs", "echo", "weights")
LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
# Fields that a request is made of: an `extra.` must not overwrite them.
OWN = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "n",
        "seed",
        "stop",
        "stream",
        "temperature",
        "top_p",
        "logprobs",
    }
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SECRET = re.compile(
    r"\bsk-[A-Za-z0-9_-]{8,}|\b(?:gsk|hf|nvapi|xai|pplx|pk|rk)[-_][A-Za-z0-9]{20,}|\bAIza[\w-]{20,}|\b[A-Fa-f0-9]{32,}\b"
)
_SECRET_NAMES = re.compile(
    r"(?i)^(?:api[-_]?key|key|token|access[-_]?token|secret|password|authorization)$"
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to reach a model and how to ask it.

    Args:
        url: of the server, as far as `/chat/completions` hangs below it: http://127.0.0.1:8000/v1.
        at: a server by name; gives the url, the key's variable and its habits.
        key: NAME of the environment variable that holds the key; never the key.
        mode: "chat"; "text" for plain completions; "template" for plain completions of a prompt rendered here with the
            chat template of `weights`.
        n: draws of one prompt asked for in one call.
        concurrency: calls under way at most; 0 is the server's: 64, but 1 for `transformers serve`.
        rpm: calls a minute, 0 without limit.
        tpm: tokens a minute, 0 without limit.
        timeout: seconds one try may take.
        deadline: seconds after which a call is not tried again.
        context: positions of the model; longer prompts are not sent, and limits are cut to what is left (`weights`).
        prefill: how a given prefix is continued; "auto" is the server's way.
        think: how reasoning that is returned apart is put before the answer; "" is the server's way.
        score: "prompt_logprobs" (vLLM), "echo" (plain completions) or "weights" (here, on the local checkpoint): makes
            the model one that scores.
        name: stands for host and model in the id.
        weights: a local checkpoint of the same model, which a stage can train.
        batch: send calls as batches, answered within a day at half the price.
        extra: more fields of the request.
    """

    url: str = ""
    at: str = ""
    key: str = ""
    mode: str = "chat"
    n: int = 1
    concurrency: int = 0
    rpm: int = 0
    tpm: int = 0
    timeout: float = 600.0
    deadline: float = 600.0
    context: int = 0
    prefill: str = "auto"
    think: str = ""
    score: str = ""
    name: str = ""
    weights: Path | None = None
    batch: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what can't work, and what looks like a key."""
        for name, known in (
            ("at", ("", *PRESETS)),
            ("mode", MODES),
            ("prefill", PREFILLS),
            ("score", SCORES),
        ):
            _choice(name, getattr(self, name), known)
        _choice("think", self.think, ("", *THINKS))
        self.check_place()
        if self.key:
            _check_variable(self.key)
        low = [n for n in ("rpm", "tpm", "context", "concurrency") if getattr(self, n) < 0]
        low += ["n"] if self.n < 1 else []
        low += [n for n in ("timeout", "deadline") if not getattr(self, n) > 0]
        if low:
            raise ConfigError(
                f"{low[0]}={getattr(self, low[0])}", expected="a number above 0", fix=f"{low[0]}=64"
            )
        asks = (
            ("template" in (self.mode, self.prefill))
            or bool(self.context)
            or self.score == "weights"
        )
        if self.weights is None and asks:
            raise ConfigError(
                "mode=template, prefill=template, context= and score=weights need the model's own files",
                fix="weights=PATH of a local checkpoint of the same model",
            )
        if reserved := sorted(OWN & self.extra.keys()):
            raise ConfigError(f"extra.{reserved[0]} is set by potstill", fix="leave it out")
        if secret := [name for name in self.extra if _SECRET_NAMES.match(name)]:
            fix = "export it as an environment variable and name the variable: ?key=MY_API_KEY"
            raise ConfigError(f"extra.{secret[0]} would write a key into the run", fix=fix)

    def check_place(self) -> None:
        """Refuse a server that nobody can find."""
        if not self.url and not self.at:
            raise ConfigError(
                "openai: needs to know where the model is",
                available=PRESETS,
                fix="?at=openai, or ?url=http://HOST/v1",
            )
        check_url(self.url or self.preset.url)

    @property
    def preset(self) -> Preset:
        """The habits of the server."""
        return PRESETS[self.at] if self.at else PLAIN

    @property
    def base(self) -> str:
        """The URL without a slash at its end."""
        return (self.url or self.preset.url).rstrip("/")

    @property
    def host(self) -> str:
        """The host, "local" for any loopback one, so that an id does not depend on a port or a spelling."""
        return host_of(self.base)

    @property
    def most(self) -> int:
        """Calls under way at most."""
        return self.concurrency or self.preset.concurrency

    @property
    def variable(self) -> str:
        """Name of the environment variable of the key; a vendor's key goes to nobody but the vendor."""
        own = urlsplit(self.preset.url).hostname == urlsplit(self.base).hostname
        return self.key or (self.preset.key if own or not self.preset.paid else "")

    def secret(self) -> str:
        """The key, from the environment; "" where none is needed."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        needed = self.key or (self.preset.paid and self.variable)
        if needed and not key:
            raise ModelError(
                f"the environment variable {self.variable} is not set",
                expected=f"the key for {self.base}",
                fix=f"export {self.variable}=… before the run, or name another one with ?key=NAME",
            )
        if not key.isascii() or any(ord(c) < 33 for c in key):
            raise ModelError(
                f"the key in {self.variable} holds blanks or letters beyond ASCII",
                fix=f"export {self.variable} again",
            )
        return key


def parse(query: str) -> dict[str, Any]:
    """Options from what stands behind the question mark of a spec; `extra.FIELD=` values are JSON where they can be.

    Raises:
        ConfigError: lists every mistake in them.
    """
    settings = settings_of(Options)
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    mistakes = Mistakes()
    for name, value in parse_query(query).items():
        if name.startswith("extra."):
            extra[name.removeprefix("extra.")] = _value(value)
        elif name == "extra":
            mistakes.add(name, "write extra.FIELD=…")
        else:
            options[name] = value
    # `?batch` alone switches it on.
    for setting in settings:
        if setting.kind is bool and options.get(setting.name) == "":
            options[setting.name] = "true"
    given = merge_layers(settings, [("", options)], mistakes, what="option")
    converted = convert_settings(settings, given, mistakes)
    mistakes.raise_if_any(
        "the options of openai:",
        fix="correct them; extra.FIELD=… sets another field of the request",
    )
    if "weights" in converted:
        converted["weights"] = converted["weights"].expanduser()
    if extra:
        converted["extra"] = extra
    return converted


def host_of(url: str) -> str:
    """The host of a URL, with its port; "local" for any loopback host, whatever the port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    local = host in LOOPBACK or host.startswith("127.") or host.endswith(".localhost")
    return "local" if local else host if parts.port is None else f"{host}:{parts.port}"


def check_url(url: str) -> None:
    """Refuse what is no http(s) URL, and one with a secret in it, without repeating the secret."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        shown = _SECRET.sub("[key]", url.rpartition("@")[2])
        raise ConfigError(
            f"no URL of a server: {shown!r}", expected="http://HOST:PORT/v1", fix="?url=http://…/v1"
        )
    named = [name for name, _ in parse_qsl(parts.query) if _SECRET_NAMES.match(name)]
    if parts.username or parts.password or named or _SECRET.search(url):
        raise ConfigError(
            f"the URL of {host} holds what looks like a key or a password",
            expected="no secret in a URL: it would be written into the run",
            fix="export it as an environment variable and name the variable: ?url=…&key=MY_API_KEY",
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"the URL of {host} has a query",
            expected="http://HOST:PORT/v1",
            fix="leave out what is behind ?",
        )


def refuse_secrets(spec: str) -> None:
    """Refuse a model's name with something like a key in it, before anything is written or shown."""
    spec = re.sub(r"[?&]weights=[^&]*", "", spec)  # a snapshot's folder has a name like a key's
    if _SECRET.search(spec) or re.search(
        r"(?i)[?&](?:extra\.)?(?:api[-_]?key|token|secret|password)=", spec
    ):
        raise ConfigError(
            "the model's name on the command line or in the recipe holds what looks like a key",
            expected="the NAME of an environment variable: ?key=MY_API_KEY",
            fix="export MY_API_KEY=… and write ?key=MY_API_KEY",
        )


def _check_variable(name: str) -> None:
    """A key instead of a variable's name must not get any further, not even into the message."""
    plain = bool(_VARIABLE.fullmatch(name)) and not _SECRET.search(name)
    if plain and (name in os.environ or (name.upper() == name and ("_" in name or len(name) < 20))):
        return
    raise ConfigError(
        "key= holds no name of an environment variable, perhaps the key itself (not shown)",
        expected="the NAME of a variable, in capitals: key=MY_API_KEY",
        fix="export MY_API_KEY=… and write ?key=MY_API_KEY",
    )


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        available = [k for k in known if k]
        raise ConfigError(
            f"unknown {name}={value!r} of openai:",
            available=available,
            wanted=value,
            fix="choose one",
        )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
