"""Values between a program and its tests: JSON lists of plain data, so that nothing but data can cross.

Exact builtin types arrive, whatever subclass was sent: an overridden `__eq__` stays behind. Lists, dicts and sets are
numbered where they first occur, on both sides alike, so cycles and aliases survive, and what a call did to its
arguments can be told. What is no data goes as its number on the side that holds it. The reader takes hostile input.
"""

from __future__ import annotations

import collections
import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

LARGEST = 64 << 20  # bytes of one message
EXACT = 1 << 53  # integers up to here are JSON numbers; larger ones are hexadecimal
_DIGITS = 1 << 23  # characters of such a number

_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
_MUTABLE: dict[str, type] = {
    **{
        "l": list,
        "d": dict,
        "s": set,
        "B": bytearray,
        "q": collections.deque,
        "C": collections.Counter,
    },
    **{"O": collections.OrderedDict},
}
_TAGS: dict[type, str] = {kind: tag for tag, kind in _MUTABLE.items()} | {
    collections.defaultdict: "d"
}
_MADE = (  # the tags that have a method of the reader's: never a name that came over the wire
    *("i", "r", "u", "f", "b", "t", "n", "z", "c", "range", "slice", "v", "e"),
    *("Fraction", "Decimal", "timedelta", "datetime", "date", "time"),
)


class Broken(BaseException):
    """A message that is none; no `except Exception` of a test may catch it."""


Export: TypeAlias = Callable[
    [Any], list[Any]
]  # a thing that is no data -> its tagged list; raises where it can't go
Resolve: TypeAlias = Callable[[list[Any]], Any]


class Writer:
    """Values to JSON; `objects` are the numbered containers so far."""

    def __init__(self, export: Export, objects: Iterable[Any] = ()) -> None:
        """Start with the containers that the other side has numbered already."""
        self.export = export
        self.objects: list[Any] = list(objects)
        self.seen = {id(item): number for number, item in enumerate(self.objects)}

    def put(self, value: Any) -> Any:
        """One value."""
        kind = type(value)
        if value is None or kind in (bool, str, float):
            return value
        if isinstance(value, int):
            number = int(value)
            return number if -EXACT < number < EXACT else ["i", hex(number)]
        if id(value) in self.seen:
            return ["r", self.seen[id(value)]]
        tag = _TAGS.get(kind) or next(
            (t for t, base in _MUTABLE.items() if isinstance(value, base)), None
        )
        if tag:
            self.seen[id(value)] = len(self.objects)
            self.objects.append(value)
            return [tag, *self.content(value)]
        return self._fixed(value)

    def content(self, value: Any) -> list[Any]:
        """What a numbered container holds."""
        if isinstance(value, bytearray):
            return [value.hex()]
        if isinstance(value, dict):
            return [self.put(part) for item in value.items() for part in item]
        return [self.put(item) for item in value]

    def _fixed(self, value: Any) -> list[Any]:
        """A value that can't change."""
        if isinstance(value, str):
            return ["u", str.__str__(value)]
        if isinstance(value, float):
            return ["f", float(value)]
        if isinstance(value, bytes):
            return ["b", value.hex()]
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", None)
            items = [self.put(item) for item in value]
            return ["n", list(fields), *items] if isinstance(fields, tuple) else ["t", *items]
        if isinstance(value, frozenset):
            return ["z", *(self.put(item) for item in value)]
        if isinstance(value, complex):
            return ["c", value.real, value.imag]
        if isinstance(value, range | slice):
            return [
                type(value).__name__,
                *(self.put(part) for part in (value.start, value.stop, value.step)),
            ]
        if type(value) in _VIEWS:
            return ["v", _VIEWS[type(value)], *(self.put(item) for item in value)]
        return self._library(value)

    def _library(self, value: Any) -> list[Any]:
        """A value of a well-known class of the standard library, or what only its own side can hold."""
        if _is(value, "fractions", "Fraction"):
            return ["Fraction", self.put(value.numerator), self.put(value.denominator)]
        if _is(value, "decimal", "Decimal"):
            return ["Decimal", str(value)]
        if _is(value, "datetime", "timedelta"):
            return ["timedelta", value.days, value.seconds, value.microseconds]
        clock = next(
            (name for name in ("datetime", "date", "time") if _is(value, "datetime", name)), None
        )
        if clock and getattr(value, "tzinfo", None) is None:
            return [clock, value.isoformat()]
        if value is ... or value is NotImplemented:
            return ["e", "Ellipsis" if value is ... else "NotImplemented"]
        return self.export(value)


class Reader:
    """JSON to values, strictly: whatever is not what a writer makes is `Broken`."""

    def __init__(self, resolve: Resolve, objects: Iterable[Any] = ()) -> None:
        """Start with the containers that have been numbered already."""
        self.resolve = resolve
        self.objects: list[Any] = list(objects)

    def get(self, value: Any) -> Any:
        """One value."""
        if value is None or type(value) in (bool, str, float, int):
            return value
        if type(value) is not list or not value or type(value[0]) is not str:
            raise Broken("not a value")
        tag, rest = value[0], value[1:]
        try:
            if tag in _MUTABLE:
                made = _MUTABLE[tag]()
                self.objects.append(made)
                self.fill(made, rest)
                return made
            return getattr(self, f"_{tag}")(*rest) if tag in _MADE else self.resolve(value)
        except Broken:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise Broken(f"not a value: {type(error).__name__}") from error

    def fill(self, made: Any, rest: list[Any]) -> None:
        """Put a container's content into it, in place of what it held."""
        if isinstance(made, bytearray):
            made[:] = bytes.fromhex(rest[0])
            return
        parts = [self.get(part) for part in rest]
        if isinstance(made, dict):
            pairs = dict(zip(parts[::2], parts[1::2], strict=True))
            made.clear()
            dict.update(made, pairs)
            return
        made.clear()
        (made.update if isinstance(made, set) else made.extend)(parts)

    def _i(self, text: str) -> int:
        if len(text) > _DIGITS:
            raise Broken("an integer too long")
        return int(text, 16)

    def _r(self, number: int) -> Any:
        if type(number) is not int or number < 0:
            raise Broken("not a reference")
        return self.objects[number]

    def _u(self, text: str) -> str:
        return str.__str__(text)

    def _f(self, number: float) -> float:
        return float.__float__(number)

    def _b(self, text: str) -> bytes:
        return bytes.fromhex(text)

    def _t(self, *items: Any) -> tuple[Any, ...]:
        return tuple(self.get(item) for item in items)

    def _n(self, fields: list[str], *items: Any) -> Any:
        if len(fields) > 100 or not all(type(field) is str and field.isascii() for field in fields):
            raise Broken("not a named tuple")
        return collections.namedtuple("Result", fields)(*(self.get(item) for item in items))

    def _z(self, *items: Any) -> frozenset[Any]:
        return frozenset(self.get(item) for item in items)

    def _c(self, real: float, imaginary: float) -> complex:
        return complex(float(real), float(imaginary))

    def _range(self, *parts: Any) -> range:
        return range(*(self.get(part) for part in parts))

    def _slice(self, *parts: Any) -> slice:
        return slice(*(self.get(part) for part in parts))

    def _v(self, kind: str, *items: Any) -> Any:
        values = [self.get(item) for item in items]
        if kind == "values":
            return dict(enumerate(values)).values()
        return dict(values).items() if kind == "items" else dict.fromkeys(values).keys()

    def _Fraction(self, *parts: Any) -> Any:
        return _library("fractions").Fraction(*(int(self.get(part)) for part in parts))

    def _Decimal(self, text: str) -> Any:
        return _library("decimal").Decimal(str.__str__(text))

    def _timedelta(self, *parts: int) -> Any:
        return _library("datetime").timedelta(*parts)

    def _datetime(self, text: str) -> Any:
        return _library("datetime").datetime.fromisoformat(text)

    def _date(self, text: str) -> Any:
        return _library("datetime").date.fromisoformat(text)

    def _time(self, text: str) -> Any:
        return _library("datetime").time.fromisoformat(text)

    def _e(self, name: str) -> Any:
        return {"Ellipsis": ..., "NotImplemented": NotImplemented}[name]


class Link:
    """Framed JSON messages over a socket."""

    def __init__(self, fd: int) -> None:
        """Take over an inherited socket."""
        self.fd = fd

    def send(self, message: Any) -> None:
        """One message; raises OSError where the other side is gone."""
        data = json.dumps(message, separators=(",", ":")).encode("ascii")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        while view:
            view = view[os.write(self.fd, view) :]

    def receive(self) -> Any:
        """The next message, or None at the end."""
        head = self._exactly(4)
        size = int.from_bytes(head, "big")
        if size > LARGEST:
            raise Broken("a message too large")
        data = self._exactly(size) if head else b""
        if not data:
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Broken("not a message") from error

    def _exactly(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            try:
                part = os.read(self.fd, min(missing, 1 << 20))
            except OSError:
                return b""
            if not part:
                return b""
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def builtin_name(value: Any) -> list[Any] | None:
    """How to name a builtin function or class, such as `len`, which both sides have."""
    if not isinstance(value, type | types.BuiltinFunctionType):
        return None
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", "")
    return ["g", name] if module == "builtins" and isinstance(name, str) else None


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class of the library; nothing is of a class whose module was never imported."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _library(module: str) -> Any:
    return importlib.import_module(module)
