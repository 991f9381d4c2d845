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

MAX_MESSAGE = 64 << 20  # bytes
EXACT = 1 << 53  # integers up to here are JSON numbers; larger ones are hexadecimal
_MAX_DIGITS = 1 << 23  # characters of such a number

_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
# Containers that can change, by their tags; these are numbered.
_CONTAINERS: dict[str, type] = {
    "l": list,
    "d": dict,
    "s": set,
    "B": bytearray,
    "q": collections.deque,
    "C": collections.Counter,
    "O": collections.OrderedDict,
}
_CONTAINER_TAGS: dict[type, str] = {kind: tag for tag, kind in _CONTAINERS.items()}
_CONTAINER_TAGS[collections.defaultdict] = "d"
# The tags that have a method of the reader's: never a name that the other side sent.
# fmt: off
_VALUE_TAGS = (
    "i", "r", "u", "f", "b", "t", "n", "z", "c", "range", "slice", "v", "e",
    "Fraction", "Decimal", "timedelta", "datetime", "date", "time",
)
# fmt: on


class Broken(BaseException):
    """A message that is none; no `except Exception` of a test may catch it."""


Export: TypeAlias = Callable[[Any], list[Any]]
"""From a thing that is no data to its tagged list; raises where it can't go."""
Resolve: TypeAlias = Callable[[list[Any]], Any]
"""From a tagged list to the thing that it stands for."""


def _container_tag(value: Any) -> str | None:
    """The tag of a container's class, or of the first class that it is derived from; None for what is no container."""
    tag = _CONTAINER_TAGS.get(type(value))
    if tag:
        return tag
    for base_tag, base in _CONTAINERS.items():
        if isinstance(value, base):
            return base_tag
    return None


class Writer:
    """Values to JSON; `objects` are the numbered containers so far."""

    def __init__(self, export: Export, objects: Iterable[Any] = ()) -> None:
        """Start with the containers that the other side has numbered already."""
        self.export = export
        self.objects: list[Any] = list(objects)
        self.numbers = {id(item): number for number, item in enumerate(self.objects)}

    def put(self, value: Any) -> Any:
        """Return one value as JSON."""
        kind = type(value)
        if value is None or kind in (bool, str, float):
            return value
        # Derived classes arrive as their builtin base.
        if isinstance(value, int):
            number = int(value)
            return number if -EXACT < number < EXACT else ["i", hex(number)]
        # A container that occurred before is a reference, so that cycles and aliases survive.
        if id(value) in self.numbers:
            return ["r", self.numbers[id(value)]]
        tag = _container_tag(value)
        if tag:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
            return [tag, *self.content(value)]
        return self._put_fixed(value)

    def content(self, value: Any) -> list[Any]:
        """Return what a numbered container holds."""
        if isinstance(value, bytearray):
            return [value.hex()]
        if not isinstance(value, dict):
            return [self.put(item) for item in value]
        keys_and_values: list[Any] = []
        for key, item in value.items():
            keys_and_values += [self.put(key), self.put(item)]
        return keys_and_values

    def _put_fixed(self, value: Any) -> list[Any]:
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
            if isinstance(fields, tuple):
                return ["n", list(fields), *items]
            return ["t", *items]
        if isinstance(value, frozenset):
            return ["z", *(self.put(item) for item in value)]
        if isinstance(value, complex):
            return ["c", value.real, value.imag]
        if isinstance(value, range | slice):
            bounds = (value.start, value.stop, value.step)
            return [type(value).__name__, *(self.put(bound) for bound in bounds)]
        if type(value) in _VIEWS:
            return ["v", _VIEWS[type(value)], *(self.put(item) for item in value)]
        return self._put_library_value(value)

    def _put_library_value(self, value: Any) -> list[Any]:
        """A value of a well-known class of the standard library, or what only its own side can hold."""
        if _is_instance(value, "fractions", "Fraction"):
            return ["Fraction", self.put(value.numerator), self.put(value.denominator)]
        if _is_instance(value, "decimal", "Decimal"):
            return ["Decimal", str(value)]
        if _is_instance(value, "datetime", "timedelta"):
            return ["timedelta", value.days, value.seconds, value.microseconds]
        for name in ("datetime", "date", "time"):
            if _is_instance(value, "datetime", name):
                # Only now: reading an attribute of something else would ask its owner.
                if getattr(value, "tzinfo", None) is None:
                    return [name, value.isoformat()]
                break
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
        """Return one value."""
        if value is None or type(value) in (bool, str, float, int):
            return value
        # Everything else is a list of a tag and its content.
        if type(value) is not list or not value or type(value[0]) is not str:
            raise Broken("not a value")
        tag, content = value[0], value[1:]
        try:
            if tag in _CONTAINERS:
                # Numbered before it is filled, as on the other side.
                container = _CONTAINERS[tag]()
                self.objects.append(container)
                self.fill(container, content)
                return container
            if tag in _VALUE_TAGS:
                return getattr(self, f"_{tag}")(*content)
            return self.resolve(value)
        except Broken:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise Broken(f"not a value: {type(error).__name__}") from error

    def fill(self, container: Any, content: list[Any]) -> None:
        """Put a container's content into it, in place of what it held."""
        if isinstance(container, bytearray):
            container[:] = bytes.fromhex(content[0])
            return
        items = [self.get(item) for item in content]
        if isinstance(container, dict):
            pairs = dict(zip(items[::2], items[1::2], strict=True))
            container.clear()
            dict.update(container, pairs)
            return
        container.clear()
        if isinstance(container, set):
            container.update(items)
        else:
            container.extend(items)

    def _i(self, text: str) -> int:
        if len(text) > _MAX_DIGITS:
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
        if kind == "items":
            return dict(values).items()
        return dict.fromkeys(values).keys()

    def _Fraction(self, *parts: Any) -> Any:
        return _import_library("fractions").Fraction(*(int(self.get(part)) for part in parts))

    def _Decimal(self, text: str) -> Any:
        return _import_library("decimal").Decimal(str.__str__(text))

    def _timedelta(self, *parts: int) -> Any:
        return _import_library("datetime").timedelta(*parts)

    def _datetime(self, text: str) -> Any:
        return _import_library("datetime").datetime.fromisoformat(text)

    def _date(self, text: str) -> Any:
        return _import_library("datetime").date.fromisoformat(text)

    def _time(self, text: str) -> Any:
        return _import_library("datetime").time.fromisoformat(text)

    def _e(self, name: str) -> Any:
        return {"Ellipsis": ..., "NotImplemented": NotImplemented}[name]


class Link:
    """Framed JSON messages over a socket."""

    def __init__(self, fd: int) -> None:
        """Take over an inherited socket."""
        self.fd = fd

    def send(self, message: Any) -> None:
        """Send one message; raises OSError where the other side is gone."""
        data = json.dumps(message, separators=(",", ":")).encode("ascii")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        while view:
            view = view[os.write(self.fd, view) :]

    def receive(self) -> Any:
        """Return the next message, or None at the end."""
        head = self._read_exactly(4)
        size = int.from_bytes(head, "big")
        if size > MAX_MESSAGE:
            raise Broken("a message too large")
        data = self._read_exactly(size) if head else b""
        if not data:
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Broken("not a message") from error

    def _read_exactly(self, size: int) -> bytes:
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
    """Return a builtin function or class by its name, such as `len`, which both sides have; None for anything else."""
    if not isinstance(value, type | types.BuiltinFunctionType):
        return None
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", "")
    return ["g", name] if module == "builtins" and isinstance(name, str) else None


def _is_instance(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class of the library; nothing is of a class whose module was never imported."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _import_library(module: str) -> Any:
    return importlib.import_module(module)
