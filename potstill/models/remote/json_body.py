"""Bodies of a server's answers as JSON, of which nothing is taken for granted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_NESTING = 64  # objects and lists inside each other: no answer has so many, and Python can't walk a thousand
_MESSAGE_KEYS = ("error", "errors", "message", "detail", "msg", "error_msg", "status_msg")


def parse_json(data: bytes) -> Any:
    """JSON, or None; broken UTF-8 becomes U+FFFD: for messages and numbers, never for the text of a model."""
    return parse_json_text(data.decode("utf-8", "replace"))


def parse_json_text(text: str) -> Any:
    """JSON, or None where it is none, or is nested so deep that it is an attack."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if is_nested_too_deep(value) else value


def parse_json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one where there is none."""
    return as_object(parse_json(data))


def as_object(value: Any) -> dict[str, Any]:
    """A JSON value that should be an object; an empty one where it is something else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A JSON value that should be a list; an empty one where it is something else."""
    return value if isinstance(value, list) else []


def replace_lone_surrogates(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which JSON can hold and UTF-8 can't."""
    if has_lone_surrogates(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def has_lone_surrogates(text: str) -> bool:
    """Whether a text holds half a character, as JSON's escapes can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def is_nested_too_deep(value: Any) -> bool:
    """Whether more objects and lists stand inside each other than MAX_NESTING; walked level by level."""
    level = [value]
    for _ in range(MAX_NESTING):
        next_level: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                next_level.extend(item.values())
            elif isinstance(item, list):
                next_level.extend(item)
        if not next_level:
            return False
        level = next_level
    return True


def says_something(error: Any) -> bool:
    """Whether a value is an error: not null, empty, or an object whose fields all are."""
    if isinstance(error, Mapping):
        return any(says_something(item) for item in error.values())
    return bool(error)


def error_message(value: Any) -> str:
    """The message of an error body, whatever its shape."""
    if isinstance(value, Mapping):
        for name in _MESSAGE_KEYS:
            if value.get(name):
                return error_message(value[name])
        return replace_lone_surrogates(json.dumps(value, default=str))[:300]
    if isinstance(value, list) and value:
        return error_message(value[0])
    return replace_lone_surrogates(str(value))[:500]
