"""JSON documents that have much in common, each distinct part stored once; `app/share.js` reads them back.

A trace's page repeats its question, its prompt and the texts of its relatives, which stand on their own pages again.
The table has an entry for each distinct value. A text, a number, true, false or null stands for itself. A list is
`[0, …]`, an object `[1 + number of its shape, …]`, where a shape is a list of names; behind it stand the numbers of the
parts' entries. An entry shortly before is named by its distance, a number below 0: so objects of one kind look alike,
which gzip likes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, final

NEAR = 100  # entries before a value that are named by their distance


@final
class Packer:
    """Collects documents in one table.

    Args:
        clean: what is stored in the place of a text.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._values: list[Any] = []
        self._places: dict[Hashable, int] = {}
        self._shapes: dict[tuple[str, ...], int] = {}
        self.size = 0
        """Of the table as JSON, roughly."""

    def add(self, value: Any) -> int:
        """Add a JSON value; returns the number of its entry."""
        # Texts and numbers first: they are most of all values, and asking for a Mapping takes longest.
        if not isinstance(value, str | int | float | None):
            if isinstance(value, Mapping):
                return self._add_parts(1 + self._shape_of(value), list(value.values()))
            return self._add_parts(0, value)
        # 1 and 1.0 and True are equal in Python, and one entry would be another value in the browser.
        key = (type(value), value)
        place = self._places.get(key)
        if place is None:
            place = self._append(self._clean(value) if isinstance(value, str) else value)
            self._places[key] = place
        return place

    def to_json(self) -> dict[str, Any]:
        """The table, as the browser reads it."""
        # Names too: some are those that users gave their arms and metadata.
        shapes = [[self._clean(name) for name in shape] for shape in self._shapes]
        return {"values": self._values, "shapes": shapes}

    def _shape_of(self, value: Mapping[Any, Any]) -> int:
        names = tuple(str(name) for name in value)
        return self._shapes.setdefault(names, len(self._shapes))

    def _add_parts(self, kind: int, parts: list[Any] | tuple[Any, ...]) -> int:
        places = [self.add(part) for part in parts]
        key = (kind, *places)
        place = self._places.get(key)
        if place is None:
            own_place = len(self._values)
            entry = [kind]
            for part in places:
                distance = own_place - part
                entry.append(-distance if distance < NEAR else part)
            place = self._append(entry)
            self._places[key] = place
        return place

    def _append(self, entry: Any) -> int:
        self._values.append(entry)
        if isinstance(entry, str):
            self.size += len(entry)
        elif isinstance(entry, list):
            self.size += 4 * len(entry)
        return len(self._values) - 1
