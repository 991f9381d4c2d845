"""What looks like a key or a password, in texts, names of fields and JSON values: the one place that decides.

A vendor's prefix alone is no key: `sk-t1-32b` and `hf-24db0a…` are names. A key is a prefix and something random behind
it, a token of a known shape, or whatever stands under a name such as `api_key` or `authorization`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

MARK = "[secret]"
MIN_VARIABLE_LENGTH = (
    8  # of a variable's value that is taken out of texts: shorter ones are words of any text
)
RANDOM_SEGMENT = 20  # letters and digits in one piece behind a prefix: no name has so many
MIXED_SEGMENT = 12  # ... or so many, if letters and digits alternate in it
MIN_CHANGES = 3  # between letters and digits, or small and capital letters, in a mixed segment

# Prefixes of vendors' keys; what follows must look random. Hugging Face's tokens have an underscore, ids a hyphen.
_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|csk|gsk|xai|nvapi|pplx|fw|tgp|r8|ghp|gho|ghu|ghs|ghr|github_pat|glpat|npm|pypi"
    r"|tvly|jina|lsv2|sess|xox[abeprs]|xapp)[-_]|(?:hf|api_org)_)(?P<random>[A-Za-z0-9_-]{16,})"
)
_UUID = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOKENS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}"  # Google
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # JSON web tokens
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
)
_URL_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_AUTHORIZATION = re.compile(
    r"(?i)(?P<head>\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:bearer|basic|token)\s+)?)(?P<value>[^\s\"',;]{6,})"
)
_BEARER = re.compile(r"(?P<head>\b[Bb]earer\s+)(?P<value>[A-Za-z0-9._~+/=-]{16,})")
_SCHEME_AND_TOKEN = re.compile(r"(?i)(?:bearer|basic|token|apikey)\s+\S{6,}")  # all of a header
_PARAMETER = re.compile(
    r"(?P<head>[?&;](?:extra\.)?(?P<name>[\w.-]{1,60})=)(?P<value>[^&;?\s#\"']+)"
)
_QUOTED_FIELD = re.compile(
    r"(?P<head>[\"'](?P<name>[\w.-]{1,60})[\"']\s{0,4}:\s{0,4}[\"'])(?P<value>[^\"'\s]{6,})"
)
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

_NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# A name with one of these words holds a secret, whatever else it says.
_SECRET_WORDS = frozenset(
    {
        *("secret", "secrets", "password", "passwd", "pwd", "passphrase", "authorization"),
        *("apikey", "credential", "credentials", "cookie"),
    }
)
# A name that ends in one of these does where all words before it are among the others: `x-api-key`, not `eos_token`.
_KEY_WORDS = frozenset({"key", "token", "auth"})
_KEY_QUALIFIERS = frozenset(
    {
        *("access", "account", "admin", "api", "app", "auth", "authentication", "bearer", "client"),
        *("deploy", "id", "master", "my", "personal", "private", "provider", "proxy", "refresh"),
        *("secret", "server", "service", "session", "signing", "ssh", "subscription", "user"),
        *("vendor", "x"),
        # Vendors and hosts.
        *("anthropic", "apim", "azure", "cohere", "deepseek", "fireworks", "gemini", "github"),
        *("gitlab", "google", "goog", "groq", "hf", "hub", "huggingface", "mistral", "nvidia"),
        *("ocp", "openai", "openrouter", "replicate", "together"),
    }
)
_JOINED_NAMES = ("apikey", "accesskey", "secretkey", "privatekey", "accesstoken", "authtoken")


def holds_secret(text: str) -> bool:
    """Whether a text holds what looks like a key, also where it is escaped as in a URL."""
    return any(redact_secrets(form) != form for form in {text, unquote(text)})


def redact_secrets(text: str, mark: str = MARK) -> str:
    """The text with a mark in the place of what looks like a key."""
    return replace_secrets(text, lambda secret: mark)


def replace_secrets(text: str, replace: Callable[[str], str]) -> str:
    """The text with something else in the place of what looks like a key.

    Args:
        text: that may hold keys.
        replace: what stands in the place of a key; it may be asked again about what it said itself.
    """

    def replace_all(match: re.Match[str]) -> str:
        return replace(match[0])

    def replace_prefixed(match: re.Match[str]) -> str:
        return replace(match[0]) if _looks_random(match["random"]) else match[0]

    def replace_value(match: re.Match[str]) -> str:
        return match["head"] + replace(match["value"])

    def replace_bearer(match: re.Match[str]) -> str:
        return replace_value(match) if _count_changes(match["value"]) >= 1 else match[0]

    def replace_named(match: re.Match[str]) -> str:
        # `?key=MY_API_KEY` names a variable, as it should.
        is_variable = _VARIABLE_NAME.fullmatch(match["value"]) is not None
        if is_variable or not is_secret_field(match["name"]):
            return match[0]
        return replace_value(match)

    # Whole stores are read: a pattern is tried only where a character stands that every match of it has.
    if "@" in text:
        text = _URL_PASSWORD.sub(replace_all, text)
    text = _TOKENS.sub(replace_all, text)
    if "-" in text or "_" in text:
        text = _PREFIXED.sub(replace_prefixed, text)
    if ":" in text or "=" in text:
        text = _AUTHORIZATION.sub(replace_value, text)
    if "earer" in text:
        text = _BEARER.sub(replace_bearer, text)
    if "=" in text:
        text = _PARAMETER.sub(replace_named, text)
    if ":" in text:
        text = _QUOTED_FIELD.sub(replace_named, text)
    return text


def is_placeholder_key(key: str) -> bool:
    """Whether a key is a word or a number, as for servers that want none: `EMPTY`, `ollama`, `sk-no-key-required`."""
    if len(key) >= RANDOM_SEGMENT:
        return False
    has_letter, has_digit = re.search(r"[A-Za-z]", key), re.search(r"\d", key)
    return len(key) < MIN_VARIABLE_LENGTH or not (has_letter and has_digit)


def redact_value(value: Any) -> Any:
    """A JSON value with a mark in the place of what looks like a key in its texts."""
    if isinstance(value, str):
        return redact_secrets(value)
    if isinstance(value, Mapping):
        return {name: redact_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item) for item in value]
    return value


def redact_environment(text: str, mark: str = MARK) -> str:
    """The text without the values of environment variables that are named like keys."""
    for name, value in os.environ.items():
        if len(value) >= MIN_VARIABLE_LENGTH and value in text and is_secret_variable(name):
            text = text.replace(value, mark)
    return text


def is_secret_field(name: str) -> bool:
    """Whether what stands under a name (of a field, a header, an option) is a key or a password."""
    words = [word.lower() for word in _NAME_WORD.findall(name)]
    if not words:
        return False
    if _SECRET_WORDS & set(words) or "".join(words).endswith(_JOINED_NAMES):
        return True
    return words[-1] in _KEY_WORDS and _KEY_QUALIFIERS.issuperset(words[:-1])


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable is named like one that holds a key."""
    words = name.lower().split("_")
    if words in (["pwd"], ["oldpwd"]):
        return False  # folders
    return (
        words[-1] in _KEY_WORDS or words[-2:] == ["key", "id"] or bool(_SECRET_WORDS & set(words))
    )


def find_secret_in_value(value: Any, name: str = "") -> str | None:
    """Where in a JSON value a secret stands, as a dotted name; None where it holds none.

    Args:
        value: of the field.
        name: of the field.
    """
    for path, text, is_named in _texts_of(value, name, is_named=is_secret_field(name)):
        if text and (is_named or _SCHEME_AND_TOKEN.fullmatch(text.strip()) or holds_secret(text)):
            return path
    return None


def _texts_of(value: Any, path: str, *, is_named: bool) -> Iterator[tuple[str, str, bool]]:
    """The texts in a JSON value, each with its place and whether a name above it is a secret's."""
    if isinstance(value, str):
        yield path, value, is_named
    elif isinstance(value, Mapping):
        # A header may also be {"name": "authorization", "value": "…"}.
        label = value.get("name", value.get("key"))
        is_header = isinstance(label, str) and "value" in value and is_secret_field(label)
        for name, item in value.items():
            names_it = is_secret_field(str(name)) and "value" not in value
            is_secret = is_named or names_it or (is_header and name == "value")
            yield from _texts_of(item, f"{path}.{name}" if path else str(name), is_named=is_secret)
    elif isinstance(value, list | tuple):
        is_pair = len(value) == 2 and isinstance(value[0], str) and is_secret_field(value[0])
        for index, item in enumerate(value):
            is_secret = is_named or (is_pair and index == 1)
            yield from _texts_of(item, f"{path}.{index}", is_named=is_secret)


def _looks_random(text: str) -> bool:
    """Whether what stands behind a prefix is no name: one long piece, a mixed one, or a UUID."""
    if _UUID.search(text):
        return True
    segments = re.split(r"[-_]", text)
    for segment in segments:
        is_mixed = len(segment) >= MIXED_SEGMENT and _count_changes(segment) >= MIN_CHANGES
        if len(segment) >= RANDOM_SEGMENT or is_mixed:
            return True
    return False


def _count_changes(text: str) -> int:
    """How often a text changes between small letters, capitals and digits."""
    kinds = []
    for character in text:
        if character.isdigit():
            kinds.append("digit")
        elif character.isalpha():
            kinds.append("capital" if character.isupper() else "small")
    changes = 0
    for before, after in itertools.pairwise(kinds):
        changes += before != after
    return changes
