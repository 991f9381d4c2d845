"""What a user says about a server: options of `openai:MODEL?…`, checked, with no secret among them."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from potstill.config import (
    Mistakes,
    convert_settings,
    merge_layers,
    parse_query,
    settings_of,
)
from potstill.errors import ConfigError, ModelError, PotstillWarning
from potstill.models.remote.presets import (
    DEFAULT_PRESET,
    PREFILL_MODES,
    PRESETS,
    REPEATS_MODES,
    THINK_MODES,
    Preset,
)
from potstill.secrets import (
    find_secret_in_value,
    holds_secret,
    is_secret_field,
    redact_secrets,
)

REQUEST_MODES = ("chat", "text", "template")
TEXT_SCORES = ("prompt_logprobs", "echo")  # ways in which a server scores texts
TOKEN_SCORES = ("prompt_logprobs", "input_top_logprobs", "n_probs")  # and tokens
SCORE_MODES = ("", *dict.fromkeys((*TOKEN_SCORES, *TEXT_SCORES)), "weights")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
RESERVED_FIELDS = frozenset(
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
"""What a request is made of: an `extra.` must not overwrite it."""

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# Some vendors' keys are hexadecimal digits alone. A version behind a colon or @, as Replicate's, is none.
_HEX_KEY = re.compile(r"(?<![\w:@])(?=[0-9]*[A-Fa-f])[A-Fa-f0-9]{32,}\b")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to reach a model and how to ask it.

    Args:
        url: of the server, as far as `/chat/completions` hangs below it: http://127.0.0.1:8000/v1.
        at: a server by name; gives the url, the key's variable and its habits.
        key: NAME of the environment variable that holds the key; never the key.
        mode: "chat"; "text" for plain completions; "template" for plain completions of a prompt rendered here with the
            chat template of `weights`.
        n: samples of one prompt asked for in one call.
        concurrency: calls in flight at most; 0 is the server's: 64, but 1 for `transformers serve`.
        rpm: calls a minute, 0 without limit.
        tpm: tokens a minute, 0 without limit.
        timeout: seconds one try may take.
        deadline: seconds after which a call is not tried again.
        max_paid_tries: tries of one call that may have to be paid and bring no answer; 0 leaves it to the deadline and
            the budget.
        context: positions of the model; longer prompts are not sent, and limits are cut to what is left (`weights`).
        prefill: how a given prefix is continued; "auto" is the server's way.
        repeats: whether answers say a given prefix again: "yes", "no" or "auto" (see `presets.REPEATS_MODES`).
        think: how reasoning that is returned apart is put before the answer; "" is the server's way.
        score: "prompt_logprobs" (vLLM), "echo" (plain completions) or "weights" (here, on the local
            checkpoint): makes the model one that scores texts. "prompt_logprobs", "input_top_logprobs" (SGLang) and
            "n_probs" (llama.cpp) make it one that scores tokens, a teacher of distributions.
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
    max_paid_tries: int = 0
    context: int = 0
    prefill: str = "auto"
    repeats: str = "auto"
    think: str = ""
    score: str = ""
    name: str = ""
    weights: Path | None = None
    batch: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what can't work, and what looks like a key."""
        _check_choice("at", self.at, ("", *PRESETS))
        _check_choice("mode", self.mode, REQUEST_MODES)
        _check_choice("prefill", self.prefill, PREFILL_MODES)
        _check_choice("repeats", self.repeats, REPEATS_MODES)
        _check_choice("score", self.score, SCORE_MODES)
        _check_choice("think", self.think, ("", *THINK_MODES))
        self.check_address()
        if self.key:
            _check_variable_name(self.key)
        self._check_numbers()
        self._check_weights()
        self._check_extra_fields()

    def check_address(self) -> None:
        """Refuse a server that nobody can find."""
        if not self.url and not self.at:
            raise ConfigError(
                "openai: needs to know where the model is",
                available=PRESETS,
                fix="?at=openai, or ?url=http://HOST/v1",
            )
        check_url(self.url or self.preset.url)

    def _check_numbers(self) -> None:
        too_low = []
        for name in ("rpm", "tpm", "context", "concurrency", "max_paid_tries"):
            if getattr(self, name) < 0:
                too_low.append(name)
        if self.n < 1:
            too_low.append("n")
        for name in ("timeout", "deadline"):
            if not getattr(self, name) > 0:
                too_low.append(name)
        if too_low:
            name = too_low[0]
            raise ConfigError(
                f"{name}={getattr(self, name)}", expected="a number above 0", fix=f"{name}=64"
            )

    def _check_weights(self) -> None:
        uses_template = "template" in (self.mode, self.prefill)
        if self.weights is None and (uses_template or self.context or self.score == "weights"):
            raise ConfigError(
                "mode=template, prefill=template, context= and score=weights need the model's own files",
                fix="weights=PATH of a local checkpoint of the same model",
            )

    def _check_extra_fields(self) -> None:
        for name in sorted(RESERVED_FIELDS & self.extra.keys()):
            raise ConfigError(f"extra.{name} is set by potstill", fix="leave it out")
        for name, value in self.extra.items():
            place = find_secret_in_value(value, name)
            if place is not None:
                raise ConfigError(
                    f"extra.{place} would write a key into the run",
                    fix="export it as an environment variable and name the variable: ?key=MY_API_KEY",
                )

    @property
    def preset(self) -> Preset:
        """The habits of the server."""
        return PRESETS[self.at] if self.at else DEFAULT_PRESET

    @property
    def repeats_prefix(self) -> bool | None:
        """Whether answers say a given prefix again; None where neither the user nor the preset knows."""
        if self.repeats == "auto":
            return self.preset.repeats_prefix
        return self.repeats == "yes"

    @property
    def base(self) -> str:
        """The URL without a slash at its end."""
        return (self.url or self.preset.url).rstrip("/")

    @property
    def host(self) -> str:
        """The host, "local" for any loopback one, so that an id does not depend on a port or a spelling."""
        return host_of(self.base)

    @property
    def max_in_flight(self) -> int:
        """Calls in flight at most."""
        return self.concurrency or self.preset.concurrency

    @property
    def key_variable(self) -> str:
        """Name of the environment variable of the key; a vendor's key goes to nobody but the vendor."""
        if self.key:
            return self.key
        # With ?url= of another host, the vendor's key would go to somebody else.
        is_own_host = urlsplit(self.preset.url).hostname == urlsplit(self.base).hostname
        return self.preset.key if is_own_host or not self.preset.paid else ""

    @property
    def lacks_key(self) -> bool:
        """Whether a key is needed and its environment variable is not set."""
        # A server of one's own may want no key; a vendor, and a variable that is named, must have one.
        variable = self.key_variable
        is_needed = bool(self.key or (self.preset.paid and variable))
        return is_needed and not os.environ.get(variable, "").strip()

    def read_key(self) -> str:
        """The key, from the environment; "" where none is needed."""
        variable = self.key_variable
        key = os.environ.get(variable, "").strip() if variable else ""
        if self.lacks_key:
            raise ModelError(
                f"the environment variable {variable} is not set",
                expected=f"the key for {self.base}",
                fix=f"export {variable}=… before the run, or name another one with ?key=NAME",
            )
        if not key.isascii() or any(ord(character) < 33 for character in key):
            raise ModelError(
                f"the key in {variable} holds blanks or letters beyond ASCII",
                fix=f"export {variable} again",
            )
        return key

    def warn_of_clear_text(self) -> None:
        """Warn, where there is a key, of an address at which anyone on the way can read it."""
        has_key = bool(os.environ.get(self.key_variable, "").strip())
        if has_key and self.base.startswith("http://") and self.host != "local":
            warnings.warn(
                f"the key in {self.key_variable} goes to {self.host} in clear text: anyone on the way can read it "
                "(use https://, or a tunnel to an address of this machine)",
                PotstillWarning,
                stacklevel=2,
            )


def parse_server_options(query: str) -> dict[str, Any]:
    """Options from what stands behind the question mark of a spec; `extra.FIELD=` values are JSON where they can be.

    Raises:
        ConfigError: lists every mistake in them.
    """
    settings = settings_of(ServerOptions)
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    mistakes = Mistakes()
    for name, value in parse_query(query).items():
        if name.startswith("extra."):
            extra[name.removeprefix("extra.")] = _parse_field(value)
        elif name == "extra":
            mistakes.add(name, "write extra.FIELD=…")
        else:
            options[name] = value
    # `?batch` alone switches it on.
    for setting in settings:
        if setting.kind is bool and options.get(setting.name) == "":
            options[setting.name] = "true"
    keyed = merge_layers(settings, [("", options)], mistakes, what="option")
    converted = convert_settings(settings, keyed, mistakes)
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
    if host in LOOPBACK_HOSTS or host.startswith("127.") or host.endswith(".localhost"):
        return "local"
    return host if parts.port is None else f"{host}:{parts.port}"


def check_url(url: str) -> None:
    """Refuse what is no http(s) URL, and one with a secret in it, without repeating the secret."""
    # The port is only read on demand, and raises where it is none.
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        shown_url = _HEX_KEY.sub("[key]", redact_secrets(url.rpartition("@")[2], "[key]"))
        raise ConfigError(
            f"no URL of a server: {shown_url!r}",
            expected="http://HOST:PORT/v1",
            fix="?url=http://…/v1",
        )
    query_names = [name for name, _ in parse_qsl(parts.query)]
    has_secret = parts.username or parts.password or _holds_key(url)
    if has_secret or any(map(is_secret_field, query_names)):
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


def refuse_secrets(spec: str, *, is_remote: bool = True) -> None:
    """Refuse a model's name with something like a key in it, before anything is written or shown.

    Args:
        spec: the name, with options.
        is_remote: whether a server knows it; in a path hexadecimal digits are no key.
    """
    # The folder of a snapshot has a name like a key's, and `key=` is held to a variable's name.
    spec = re.sub(r"(?<=[?&])(?:weights|key)=[^&]*", "", spec)
    if holds_secret(spec) or (is_remote and _HEX_KEY.search(unquote(spec))):
        raise ConfigError(
            "the model's name on the command line or in the recipe holds what looks like a key",
            expected="the NAME of an environment variable: ?key=MY_API_KEY",
            fix="export MY_API_KEY=… and write ?key=MY_API_KEY",
        )


def _holds_key(text: str) -> bool:
    return holds_secret(text) or _HEX_KEY.search(text) is not None


def _check_variable_name(name: str) -> None:
    """A key instead of a variable's name must not get any further, not even into the message."""
    has_name_shape = bool(_VARIABLE_NAME.fullmatch(name)) and not _holds_key(name)
    is_in_capitals = name.upper() == name and ("_" in name or len(name) < 20)
    if has_name_shape and (name in os.environ or is_in_capitals):
        return
    raise ConfigError(
        "key= holds no name of an environment variable, perhaps the key itself (not shown)",
        expected="the NAME of a variable, in capitals: key=MY_API_KEY",
        fix="export MY_API_KEY=… and write ?key=MY_API_KEY",
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"unknown {name}={value!r} of openai:",
            available=[choice for choice in choices if choice],
            wanted=value,
            fix="choose one",
        )


def _parse_field(text: str) -> Any:
    """The value of an `extra.` field: JSON where it can be, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
