"""The fields of a call's body, read one by one: of the right kind, within bounds, and none of them ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

from potstill.models.remote.json_body import MAX_NESTING, has_lone_surrogates, is_nested_too_deep
from potstill.serving.api_error import ApiError


@final
class Fields:
    """A body whose fields are taken once each; null is the same as a field that is not there."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._values = {name: value for name, value in body.items() if value is not None}

    def value(self, name: str, default: Any = None) -> Any:
        """A field of any kind."""
        return self._values.pop(name, default)

    def integer(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`."""
        value = self.value(name, default)
        if value is None:
            return None
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or not low <= value <= high:
            raise ApiError(
                f"{name} is {_shown(value)}; it must be a whole number from {low} to {high}",
                param=name,
            )
        return int(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        value = self.value(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ApiError(
                f"{name} is {_shown(value)}; it must be a number from {low:g} to {high:g}",
                param=name,
            )
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise ApiError(f"{name} is {_shown(value)}; it must be true or false", param=name)
        return value

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        return check_text(name, self.value(name, default))

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A text or a list of texts, none of them empty."""
        value = self.value(name, ())
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Sequence) or len(texts) > most:
            raise ApiError(f"{name} must be a text or a list of at most {most} texts", param=name)
        for text in texts:
            if not check_text(name, text):
                raise ApiError(f"{name} holds an empty text", param=name)
        return tuple(texts)

    def integers(self, name: str, high: int) -> tuple[int, ...]:
        """A list of whole numbers from 0 to `high`."""
        values = self.value(name, ())
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise ApiError(f"{name} must be a list of whole numbers", param=name)
        for value in values:
            if type(value) is not int or not 0 <= value <= high:
                raise ApiError(
                    f"{name} holds {_shown(value)}; each must be a whole number from 0 to {high}",
                    param=name,
                )
        return tuple(values)

    def refuse_unsupported(self, neutral_values: Mapping[str, tuple[Any, ...]]) -> None:
        """Take fields that change nothing at these values, and refuse every other value of them.

        Args:
            neutral_values: by field; with an empty tuple any value is taken.
        """
        for name, values in neutral_values.items():
            value = self.value(name)
            if value is not None and values and value not in values:
                accepted = ", ".join(json.dumps(neutral) for neutral in values)
                raise ApiError(
                    f"{name} is not supported: {_shown(value)} would have no effect. Leave it out"
                    f" (accepted, because nothing changes: {accepted}).",
                    param=name,
                    code="unsupported_parameter",
                )

    def refuse_unknown(self, available: Sequence[str]) -> None:
        """Refuse what nobody has taken."""
        if self._values:
            names = ", ".join(sorted(self._values))
            raise ApiError(
                f"unknown fields: {names[:200]}. This server knows {', '.join(available)}.",
                param=sorted(self._values)[0][:200],
                code="unknown_parameter",
            )


def parse_body(data: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ApiError: it is none, holds numbers that JSON doesn't have, or is nested too deep.
    """
    try:
        body = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        detail = str(error)[:200] or type(error).__name__
        raise ApiError(f"the body is no JSON ({detail})", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError("the body must be a JSON object", code="invalid_json")
    if is_nested_too_deep(body):
        raise ApiError(f"the body is nested more than {MAX_NESTING} deep", code="invalid_json")
    return body


def check_text(name: str, value: Any) -> str:
    """A text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise ApiError(f"{name} is {_shown(value)}; it must be a text", param=name)
    if has_lone_surrogates(value):
        raise ApiError(f"{name} holds half a character (a lone surrogate)", param=name)
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)[:80]
