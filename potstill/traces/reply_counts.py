"""How many replies of models could be read: each text once a reader, so that a repeated reading changes no count."""

from __future__ import annotations

import hashlib
import threading
from typing import Literal, TypeAlias, final

Reading: TypeAlias = Literal["strict", "tolerant", "unparsed"]
"""A reply in the form that was asked for, in one close to it, or in none that can be read."""


@final
class ReplyCounter:
    """Counts replies by reader and by how they could be read; the threads of `each` may call it at once."""

    def __init__(self) -> None:
        """Count from nothing."""
        self._lock = threading.Lock()
        self._readings: dict[str, dict[bytes, Reading]] = {}

    def add(self, reader: str, text: str, reading: Reading) -> None:
        """Count a reply.

        Args:
            reader: what was looked for, as the report names it.
            text: the whole reply.
            reading: how it could be read.
        """
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            self._readings.setdefault(reader, {})[key] = reading

    def counts(self) -> dict[str, dict[Reading, int]]:
        """By reader, in the order of their names, how many different replies there are of each reading."""
        counts: dict[str, dict[Reading, int]] = {}
        with self._lock:
            for reader in sorted(self._readings):
                of_reader: dict[Reading, int] = {"strict": 0, "tolerant": 0, "unparsed": 0}
                for reading in self._readings[reader].values():
                    of_reader[reading] += 1
                counts[reader] = of_reader
        return counts
