"""Offsets in texts as the browser counts them: in UTF-16 code units, where Python counts code points."""

from __future__ import annotations

import bisect
from typing import final

_LAST_IN_ONE_UNIT = "\uffff"


@final
class Utf16Offsets:
    """Turns offsets in a text into those of its UTF-16 form. A lone surrogate is one unit in both."""

    def __init__(self, text: str) -> None:
        self._wide_places: list[int] = []
        if text and max(text) > _LAST_IN_ONE_UNIT:
            self._wide_places = [
                place for place, character in enumerate(text) if character > _LAST_IN_ONE_UNIT
            ]

    def __call__(self, offset: int) -> int:
        """The offset in code units."""
        return offset + bisect.bisect_left(self._wide_places, offset)

    def pair(self, start: int, stop: int) -> list[int]:
        """A stretch in code units."""
        return [self(start), self(stop)]


def utf16_length(text: str) -> int:
    """How many code units a text has."""
    return Utf16Offsets(text)(len(text))
